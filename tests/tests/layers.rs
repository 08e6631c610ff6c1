//! What layers bring into a container beside their files.

use coracle_tests::liar::{Liar, Served};
use coracle_tests::registry::{apart, tool};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// A store with the image `image`: busybox, a layer of an archive, and one that says nothing of the root.
/// `make` fills the folder `l`, and `tar` archives it.
fn compose(store: &Store, make: &str, tar: &str) {
    Image::busybox().expect("busybox").compose(store, "base");
    let recipe = Scratch::new("layers");
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nimage = \"base\"\n[[layer]]\ntar = \"layer.tar\"\n[[layer]]\nfile = { \"etc/top\" = \"\" }\n",
    );
    recipe.mkdir("l");
    Cmd::new("sh").args(["-c", make]).dir(recipe.path()).ok();
    Cmd::new("tar").words("--owner 0 --group 0 -C l -cf layer.tar").words(tar).dir(recipe.path()).ok();
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "image"]).ok();
}

#[test]
fn the_root_directory_is_what_the_topmost_layer_that_has_one_says() {
    if !need(Privilege::Containers) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let look = |store: &Store, flags: &str| {
        store.run(flags).args(["image", "stat", "-c", "%a %u:%g", "/"]).ok().text().to_owned()
    };
    for (tar, driver, root) in [
        (".", "overlay", "1751 0:0"),
        (".", "vfs", "1751 0:0"),
        ("file", "overlay", "755 0:0"),
        (". --owner 7 --group 8", "overlay", "1751 7:8"),
    ] {
        if tar.contains("owner") && !nix::unistd::geteuid().is_root() {
            continue; // without subordinate ids there is no such owner
        }
        let store = Store::new("layers-root");
        if driver == "vfs" {
            let scratch = Scratch::new("layers-vfs");
            scratch.write("rootfs.toml", "[[layer]]\nstandard = true\n");
            let first = store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "first"]);
            first.env("CORACLE_STORAGE_DRIVER", driver).ok();
        }
        compose(&store, "chmod 1751 l; touch l/file", tar);
        assert_eq!(look(&store, ""), root, "{tar} {driver}");
        assert_eq!(look(&store, "--scratch tmpfs:1m"), root, "{tar} {driver}, in memory");
    }
}

#[test]
fn an_ordinary_users_layers_have_subordinate_ids_on_disk_and_go_again() {
    if !need(Privilege::OrdinaryUser) || !need(Privilege::UserNamespaces) || !need(Privilege::Peer("busybox"))
    {
        return;
    }
    let user = coracle_tests::privilege::ordinary_user().expect("a user");
    let grants = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let granted = |l: &str| l.strip_prefix(&format!("{}:", user.name))?.split(':').next()?.parse().ok();
    let Some(first) = grants.lines().find_map(granted) else {
        assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{} has no subordinate ids", user.name);
        return eprintln!("skipped: {} has no subordinate ids", user.name);
    };
    let first: u32 = first;
    let store = Store::of_user("layers-subuid");
    let make = "mkdir -p l/closed/deep; touch l/closed/deep/file; chmod 700 l/closed/deep";
    compose(&store, make, "closed --owner 7 --group 8");
    let layers = store.path().join("layers/overlay");
    let trees = || std::fs::read_dir(&layers).expect("layers").flatten();
    let layer = trees().find(|l| l.path().join("fs/closed").exists()).expect("the layer").path();
    let owner = std::os::unix::fs::MetadataExt::uid(&layer.join("fs/closed").metadata().expect("stat"));
    assert_eq!(owner, first + 6, "id 1 inside is the first of the range");
    assert!(!layer.join("owners").exists(), "the disk holds them: there is no table");
    let out = store.run("image stat -c").args(["%u:%g %a", "/closed/deep", "/closed/deep/file"]).ok();
    assert_eq!(out.text(), "7:8 700\n7:8 644");
    // A container's own files of other ids, and a volume's, are no obstacle either.
    store.run("-v kept:/closed image chown -R 9:9 /closed /etc").ok();
    store.rootfs_tool().words("rmi image base").ok();
    assert_eq!(trees().count(), 0, "every layer is gone");
    let left = std::fs::read_dir(store.path().join("tmp")).expect("tmp").count();
    assert_eq!(left, 0, "nothing is left half removed");
    store.rootfs_tool().words("rmi image").fails(1).complains("No such image");
}

/// An image of so many layers, each under a zstd frame with a window of 2^`log` bytes.
fn with_windows(layers: usize, log: u32) -> Served {
    let store = Store::new("windows");
    let recipe = Scratch::new("windows");
    let layer = |n| format!("[[layer]]\nfile = {{ \"etc/{n}\" = \"{n}\" }}\n");
    recipe.write("rootfs.toml", (0..layers).map(layer).collect::<String>());
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    let layout = store.scratch.join("layout");
    store.rootfs_tool().args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    let mut served = Served::from_layout(&layout);
    let mut manifest = served.parsed();
    for layer in manifest["layers"].as_array_mut().expect("layers") {
        let digest = layer["digest"].as_str().expect("a digest");
        recipe.write("layer", &served.blobs[digest]);
        // Through a pipe: of a file zstd knows that so large a window is of no use.
        let line = format!("cat layer | zstd -q -f --long={log} -o layer.zst");
        Cmd::new("sh").args(["-c", &line]).dir(recipe.path()).ok();
        let bytes = std::fs::read(recipe.join("layer.zst")).expect("the frame");
        layer["size"] = bytes.len().into();
        layer["digest"] = served.put(bytes).into();
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
    }
    served.manifest = served.put(manifest.to_string());
    served
}

#[test]
fn zstds_largest_window_is_read_in_bounded_memory_and_a_larger_one_is_refused() {
    if !need(Privilege::Peer("zstd")) || !need(Privilege::Peer("prlimit")) {
        return;
    }
    for (log, layers, good) in [(27, 7, true), (31, 2, false)] {
        let registry = Liar::start(with_windows(layers, log), |_, _| None);
        let store = Store::new("windows");
        let name = format!("{}/app:1", registry.host);
        // Room for three windows of 128 MiB, not for four: how many layers an image has does not count.
        let pull = Cmd::new("prlimit")
            .arg(format!("--as={}", 500 << 20))
            .arg(coracle_tests::binaries::rootfs_tool());
        let pull =
            pull.args(["pull", "-q", &name]).env("CORACLE_STORE", store.path()).dir(store.scratch.path());
        let out = apart(&store, pull).run();
        if good {
            out.ok();
            tool(&store).arg("verify").ok();
        } else {
            let out = out.fails(1).complains("Frame requires too much memory");
            assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
            assert_eq!(tool(&store).words("images -q").ok().text(), "", "nothing is left of it");
        }
    }
}

#[test]
fn a_file_of_a_recipe_lands_where_the_links_below_lead_and_leaves_the_directories_as_they_are() {
    let store = Store::new("layers-over");
    let recipe = Scratch::new("layers-over");
    let make = "mkdir -p l/usr/lib l/tmp; chmod 1777 l/tmp; chmod 751 l/usr/lib; ln -s usr/lib l/lib; ln -s /tmp l/far";
    Cmd::new("sh").args(["-c", make]).dir(recipe.path()).ok();
    Cmd::new("tar").words("--owner 0 --group 0 -C l -cf layer.tar .").dir(recipe.path()).ok();
    let text = "[[layer]]\ntar = \"layer.tar\"\n\
                [[layer]]\nfile = { \"lib/x\" = \"1\", \"far/y\" = \"2\", \"lib/new/z\" = \"3\" }\n";
    recipe.write("rootfs.toml", text);
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "image", "-q"]).ok();
    let look = "find . -mindepth 1 -printf '%P %y %m %l\\n' | sort";
    let seen = |dir: &std::path::Path| Cmd::new("sh").args(["-c", look]).dir(dir).ok().stdout;
    let ours = store.scratch.join("ours");
    store.rootfs_tool().args(["copy", "-q", "image", &format!("dir:{}", ours.display())]).ok();
    let wanted = [
        "far l 777 /tmp",
        "lib l 777 usr/lib",
        "tmp d 1777 ",
        "tmp/y f 644 ",
        "usr d 755 ",
        "usr/lib d 751 ",
        "usr/lib/new d 755 ",
        "usr/lib/new/z f 644 ",
        "usr/lib/x f 644 ",
    ];
    assert_eq!(seen(&ours).lines().collect::<Vec<_>>(), wanted);
    // Whoever makes new directories of those that a layer does not name, makes them the same here.
    if need(Privilege::Root) && need(Privilege::Peer("podman")) {
        let podman = |words: &str| coracle_tests::podman::podman(&store.scratch, words);
        store.rootfs_tool().args(["save", "image", "-o", "image.tar"]).ok();
        podman("load -q -i").arg(store.scratch.join("image.tar")).ok();
        let theirs = podman("image mount localhost/image:latest").ok();
        assert_eq!(seen(std::path::Path::new(theirs.text())).lines().collect::<Vec<_>>(), wanted);
        podman("image umount -a").ok();
    }
}
