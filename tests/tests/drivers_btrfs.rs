//! Stores on btrfs, in a file: subvolumes are made, shared and removed, however their makers end.

use std::path::Path;
use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, btrfs, need};

fn ready() -> bool {
    need(Privilege::Root) && need(Privilege::Btrfs) && need(Privilege::Peer("busybox"))
}

/// A store of root's, or of the ordinary user's, on a file system of its own, with the image `image`.
fn store(user: bool, options: &str, driver: &str) -> Store {
    let make = if user { Store::of_user } else { Store::new };
    let store = make("btrfs");
    btrfs::mount_over(&store.scratch, options);
    let image = Image::busybox().expect("busybox").file("big", vec![b'x'; 1 << 20]);
    image.compose_command(&store, "image").env("CORACLE_STORAGE_DRIVER", driver).ok();
    store
}

#[test]
fn subvolumes_that_a_container_made_go_with_it() {
    if !ready() || !need(Privilege::UserNamespaces) {
        return;
    }
    for (user, options) in [(false, "rw"), (true, "user_subvol_rm_allowed"), (true, "rw")] {
        let store = store(user, options, "btrfs");
        store.runner().words("run --name box image true").ok();
        let id = store.runner().words("inspect --format {{.Id}} box").ok().text().to_owned();
        let root = store.path().join("containers").join(id).join("root");
        let volume = |words: &str| {
            let line = Cmd::new("btrfs").words("subvolume").words(words).dir(&root);
            if user { line.as_user().dir(&root) } else { line }.ok()
        };
        volume("create nested");
        volume("create nested/deeper");
        std::fs::write(root.join("nested/deeper/file"), "x").expect("write");
        volume("snapshot -r nested/deeper closed");
        assert_eq!(btrfs::subvolumes(store.scratch.path()).len(), 5);
        assert!(store.runner().words("diff box").ok().stdout.contains("A /nested/deeper/file\n"));
        store.runner().words("rm box").ok();
        assert_eq!(btrfs::subvolumes(store.scratch.path()).len(), 1, "{options}");
        store.run("image sh -c").arg("rm -r /bin/ls; echo x >/big").ok();
        let left = btrfs::subvolumes(store.scratch.path());
        assert!(left.len() == 1 && left[0].contains("layers/btrfs"), "{left:?}");
    }
}

#[test]
fn a_store_whose_writers_are_killed_verifies_and_keeps_no_subvolume_of_theirs() {
    if !ready() {
        return;
    }
    let store = store(false, "rw", "btrfs");
    store.scratch.write(
        "c/Dockerfile",
        "FROM image\nRUN rm /big; echo 1 >/one\nRUN echo 2 >/two\nRUN mv /two /three\n",
    );
    for round in 0..8 {
        let build = store.rootfs_tool().words("build -q --no-cache --network none -t built c").spawn();
        let run = store.runner().words("run --rm image sh -c").arg("echo x >/big; sleep 9").spawn();
        std::thread::sleep(Duration::from_millis(20 + 50 * round));
        for one in [build, run] {
            one.signal(nix::sys::signal::Signal::SIGKILL);
            let _ = one.wait(Duration::from_secs(30));
        }
        let verified = store.rootfs_tool().arg("verify").ok();
        assert!(verified.stdout.lines().all(|line| line.ends_with("good")), "{round}: {verified}");
    }
    store.rootfs_tool().words("build -q --network none -t built c").ok();
    store.run("built cat /one /three").ok().prints("1\n2\n");
    store.runner().words("container prune -f").ok();
    store.rootfs_tool().words("rmi built image").ok();
    let left = std::fs::read_dir(store.path().join("containers")).expect("containers").count();
    assert_eq!(left, 0);
    store.rootfs_tool().words("prune -f").ok();
    assert_eq!(btrfs::subvolumes(store.scratch.path()), [""; 0]);
}

#[test]
fn a_container_of_other_ids_sees_its_snapshot_as_its_own() {
    if !ready() {
        return;
    }
    let store = store(false, "rw", "btrfs");
    let look = "stat -c %u /big; id -u; echo x >/new; rm /big; stat -c %u /new";
    store.runner().words("run --name box --userns auto image sh -c").arg(look).ok().prints("0\n0\n0\n");
    assert_eq!(store.runner().words("diff box").ok().stdout, "D /big\nA /new\n");
}

/// Bytes of a file that others have as well, as filefrag tells by its flags.
fn is_shared(file: &Path) -> bool {
    Cmd::new("sync").arg("-f").arg(file).ok();
    let out = Cmd::new("filefrag").arg("-v").arg(file).ok().stdout;
    let extents: Vec<&str> = out.lines().filter(|line| line.contains(": ") && line.contains("..")).collect();
    !extents.is_empty() && extents.iter().all(|line| line.contains("shared"))
}

#[test]
fn copies_of_vfs_share_their_blocks_where_the_file_system_can() {
    if !ready() || !need(Privilege::Peer("filefrag")) {
        return;
    }
    let store = store(false, "rw", "vfs");
    store.scratch.write("c/Dockerfile", "FROM image\nCOPY Dockerfile /\nCOPY Dockerfile /again\n");
    store.rootfs_tool().words("build -q -t built c").ok();
    let layers = std::fs::read_dir(store.path().join("layers/vfs")).expect("layers");
    let files: Vec<_> = layers.flatten().map(|layer| layer.path().join("fs/big")).collect();
    assert_eq!(files.len(), 3);
    for file in &files {
        assert!(is_shared(file), "{}", file.display());
    }
    let alone = store.scratch.write("alone", vec![b'x'; 1 << 20]);
    assert!(!is_shared(&alone), "what nobody shares is told as such");
}
