//! Volumes, named and not, and what the image has at their places.

use std::path::Path;

use coracle_tests::canary::Canary;
use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox"))
}

fn busybox() -> Image {
    Image::busybox().expect("busybox")
}

/// `run --rm FLAGS image sh -c SCRIPT`.
fn script(store: &Store, flags: &str, script: &str) -> Output {
    store.run(flags).args(["image", "sh", "-c", script]).run()
}

#[test]
fn an_images_volume_begins_with_what_the_image_has_there() {
    if !ready() {
        return;
    }
    let store = Store::new("volumes");
    let image = busybox().file("data/sub/file", "of the image\n").link("data/link", "/etc/passwd");
    let _image = image.config("volumes = [\"/data\"]").compose(&store, "image");
    let seen =
        "cat /data/sub/file; readlink /data/link; echo mine >/data/sub/file; grep -c ' /data ' /proc/mounts";
    for _ in 0..2 {
        let out = script(&store, "", seen).ok();
        assert_eq!(out.stdout, "of the image\n/etc/passwd\n1\n", "it is new in every container");
    }
    assert_eq!(
        script(&store, "--tmpfs /data", "ls /data").ok().stdout,
        "",
        "a flag for the place replaces it"
    );
    assert_eq!(script(&store, "-v /data:nocopy", "ls").code(), 125, "a volume has a path before its options");
}

#[test]
fn a_named_volume_is_filled_when_it_is_made_and_with_all_that_files_have() {
    if !ready() {
        return;
    }
    let store = Store::new("volumes");
    let scratch = coracle_tests::Scratch::new("volumes-tar");
    let tree = "mkdir -p d/sub && echo text >d/sub/file && chmod 4750 d/sub/file && ln d/sub/file d/second && \
         mkfifo d/fifo && chmod 1770 d && chown 7:8 d/sub";
    // An ordinary user owns what it makes; the owners are then those of a table.
    let tree =
        if nix::unistd::geteuid().is_root() { tree } else { tree.trim_end_matches(" && chown 7:8 d/sub") };
    coracle_tests::Cmd::new("sh").args(["-c", tree]).dir(scratch.path()).ok();
    coracle_tests::Cmd::new("tar").words("--numeric-owner -cf layer.tar d").dir(scratch.path()).ok();
    let _base = busybox().compose(&store, "base");
    scratch.write("rootfs.toml", "[[layer]]\nimage = \"base\"\n[[layer]]\ntar = \"layer.tar\"\n");
    store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "image"]).ok();
    let seen = "cd /d && stat -c '%n %a %h %u:%g' . sub sub/file fifo; test -p fifo && cat second";
    let image = script(&store, "", seen).ok().stdout;
    assert!(image.contains(". 1770") && image.contains("sub/file 4750 2 "), "{image}");
    assert_eq!(script(&store, "-v kept:/d", seen).ok().stdout, image);
    assert_eq!(script(&store, "-v kept:/other:ro", "cat /other/sub/file").ok().stdout, "text\n");
}

#[test]
fn a_volume_stays_empty_where_the_image_has_nothing_or_is_not_to_be_copied() {
    if !ready() {
        return;
    }
    let store = Store::new("volumes");
    let _image = busybox().file("data/file", "").compose(&store, "image");
    for flags in [
        "-v a:/data:nocopy",
        "-v b:/no/such/place",
        "--mount source=c,target=/data,volume-nocopy",
        "--mount target=/data,volume-nocopy=true",
    ] {
        let out = script(&store, flags, "ls /data /no/such/place 2>/dev/null | grep file");
        let expected = if flags.contains("/no/such") { "file\n" } else { "" };
        assert_eq!(out.stdout, expected, "{flags}");
    }
    assert_eq!(script(&store, "-v a:/data", "ls /data").ok().stdout, "", "it was used before");
    let out = script(&store, "-v file:/data/file", "true").fails(125);
    assert!(out.stderr.contains("it is no directory in the image"), "{out}");
}

// CVE-2020-1726
#[test]
fn a_volume_that_is_in_use_is_not_filled_again() {
    if !ready() {
        return;
    }
    let store = Store::new("refill");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    let volume = "-v kept:/data image";
    store.run(volume).args(["cat", "/data/file"]).ok().prints("of the image");
    store.run(volume).args(["sh", "-c", "echo mine > /data/file"]).ok();
    store.run(volume).args(["cat", "/data/file"]).ok().prints("mine");
    store.run(volume).args(["sh", "-c", "echo other > /data/other; rm /data/file"]).ok();
    assert_eq!(store.run(volume).args(["ls", "/data"]).ok().text(), "other");
    store.run(volume).args(["rm", "/data/other"]).ok();
    assert_eq!(store.run(volume).args(["ls", "/data"]).ok().text(), "", "nor when its user has emptied it");
}

#[test]
fn a_volume_at_a_link_is_filled_from_inside_the_image() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    let outside = canary.path().display().to_string();
    for (link, target, holds) in [
        ("data", "inside", "file"),
        ("data", "/inside", "file"),
        ("data", "../../../inside", "file"),
        ("data", &*outside, ""),
        ("data", &*format!("../../../../../..{outside}"), ""),
        ("data", "/proc/self/root/inside", ""),
    ] {
        let store = Store::new("volume-link");
        let image = busybox().file("inside/file", "").link(link, target);
        let _image = image.config("volumes = [\"/data\"]").compose(&store, "image");
        let out = script(&store, "", "ls /data/");
        // A place that cannot be is refused, where it is no place of the host that is filled from.
        assert!(out.code() == 125 || out.text() == holds, "{target}: {out}");
        assert!(out.code() == 0 || holds.is_empty(), "{target}: {out}");
    }
    canary.assert_untouched();
}

#[test]
fn links_inside_a_volumes_content_are_copied_and_not_followed() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("volume-links"), Canary::new());
    let image =
        busybox().folder("data").link("data/out", canary.path()).link("data/up", "../../../../../etc");
    let _image = image.compose(&store, "image");
    script(&store, "-v kept:/data", "readlink /data/up").ok().prints("../../../../../etc");
    let kept = store.path().join("volumes/kept");
    assert_eq!(std::fs::read_link(kept.join("out")).expect("a link"), canary.path());
    canary.assert_untouched();
}

#[test]
fn a_killed_first_use_leaves_no_half_volume() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-kill");
    let mut image = busybox();
    for n in 0..1500 {
        image = image.file(&format!("data/{}/file{n}", n % 30), "x".repeat(n));
    }
    let _image = image.compose(&store, "image");
    let volume = |n: usize| store.path().join(format!("volumes/v{n}"));
    let files = |dir: &Path| {
        let dirs = std::fs::read_dir(dir).expect("the volume").flatten();
        dirs.map(|d| std::fs::read_dir(d.path()).expect("a folder").count()).sum::<usize>()
    };
    let mut early = 0;
    for (n, wait) in [0, 5, 10, 20, 30, 40, 60, 80, 120].into_iter().enumerate() {
        let words = format!("run --rm -v v{n}:/data image true");
        let running = store.runner().words(&words).spawn();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait(std::time::Duration::from_secs(60)).expect("its end");
        // The container dies with its runner, a moment later.
        coracle_tests::eventually("nothing is made any more", || {
            let held = |entry: std::fs::DirEntry| {
                let opened = std::fs::File::open(entry.path());
                opened.is_ok_and(|f| {
                    nix::fcntl::Flock::lock(f, nix::fcntl::FlockArg::LockExclusiveNonblock).is_err()
                })
            };
            !std::fs::read_dir(store.path().join("tmp")).is_ok_and(|dir| dir.flatten().any(held))
        });
        if volume(n).exists() {
            assert_eq!(files(&volume(n)), 1500, "killed after {wait} ms");
        } else {
            early += 1;
        }
        script(&store, &format!("-v v{n}:/data"), "true").ok();
        assert_eq!(files(&volume(n)), 1500, "filled again from the start, killed after {wait} ms");
    }
    assert!(early > 0, "nothing was killed in time");
    store.runner().words("ps -a").ok();
    let left = std::fs::read_dir(store.path().join("tmp")).expect("tmp").count();
    assert_eq!(left, 0, "what was left is swept");
}

#[test]
fn two_first_uses_at_once_share_one_volume() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-race");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    let start = |name: &str| {
        let words = format!("run --rm -v both:/data image touch /data/{name}");
        store.runner().words(&words).spawn()
    };
    let running = ["a", "b", "c", "d"].map(start);
    for one in running {
        assert_eq!(one.wait(std::time::Duration::from_secs(60)).expect("its end").code(), 0);
    }
    assert_eq!(script(&store, "-v both:/data", "ls /data").ok().stdout, "a\nb\nc\nd\nfile\n");
}
