//! The escape corpus, part two: paths that lead out of the root filesystem, and procfs that is not
//! procfs. The canary tree on the host is what every trick aims at; it must be neither read nor changed.

use coracle_tests::canary::Canary;
use coracle_tests::racer::Racer;
use coracle_tests::rootfs::Image;
use coracle_tests::{Privilege, Store, need, rounds};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

// CVE-2019-16884, through the flags
#[test]
fn no_flag_covers_proc() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("proc"), Canary::new());
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    let volume = format!("{}:/proc", canary.path().display());
    let attr = format!("{}:/proc/self/attr", canary.path().display());
    for flags in [["--tmpfs", "/proc"], ["-v", &volume], ["-v", "name:/proc"], ["-v", &attr]] {
        let out = store.run("").args(flags).args(["image", "cat", "/proc/secret"]).run();
        assert!(out.code() != 0, "{out}");
        canary.assert_unread(&out.stdout);
    }
    canary.assert_untouched();
}

// CVE-2019-16884, as the image's own VOLUME
#[test]
fn a_volume_of_the_image_does_not_cover_proc() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-proc");
    let _image = Image::busybox()
        .expect("busybox")
        .file("proc/self/status", "faked\n")
        .config("volumes = [\"/proc\"]")
        .compose(&store, "image");
    let out = store.run("image cat /proc/self/status").run();
    assert!(!out.stdout.contains("faked"), "{out}");
}

// CVE-2025-52565
#[test]
fn a_console_that_is_a_link_leads_nowhere() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("console"), Canary::new());
    let image = Image::busybox().expect("busybox").link("dev/console", canary.path().join("secret"));
    let image = image.link("dev/pts", canary.path()).link("dev/ptmx", canary.path().join("secret"));
    let image = image.compose(&store, "image");
    let look = "cat /dev/secret /dev/pts/secret 2>/dev/null; echo hello > /dev/console; true";
    for flags in ["-t", ""] {
        canary.assert_unread(&store.run(flags).args(["image", "sh", "-c", look]).run().stdout);
        let plain = store.run(flags).arg("--rootfs").arg(image.rootfs());
        canary.assert_unread(&plain.args(["sh", "-c", look]).run().stdout);
    }
    canary.assert_untouched();
}

// CVE-2021-30465, CVE-2024-45310
#[test]
fn a_mount_target_that_is_swapped_in_a_shared_volume_stays_inside() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("swap"), Canary::new());
    let shared = store.scratch.mkdir("shared/swap");
    let shared = shared.parent().expect("a parent");
    std::os::unix::fs::symlink(canary.path(), shared.join("link")).expect("make the link");
    let source = store.scratch.mkdir("source");
    std::fs::write(source.join("file"), "mine\n").expect("write");
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    let racer = Racer::exchange(shared.join("swap"), shared.join("link"));
    let volumes =
        [format!("{}:/shared", shared.display()), format!("{}:/shared/swap/made/here", source.display())];
    for _ in 0..rounds(100, 1000) {
        let run = store.run("").args(["-v", &volumes[0], "-v", &volumes[1]]);
        let out = run.words("image cat /shared/swap/secret /shared/link/secret").run();
        canary.assert_unread(&out.stdout);
    }
    assert!(racer.swaps() > 100, "the race did not run: {} swaps", racer.swaps());
    drop(racer);
    canary.assert_untouched();
}

// CVE-2026-41579, CVE-2026-47766
#[test]
fn an_images_dev_that_is_a_link_populates_nothing_outside() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("dev"), Canary::new());
    let image = Image::busybox().expect("busybox").link("dev", canary.path()).compose(&store, "image");
    canary.assert_unread(&store.run("image cat /dev/secret").run().stdout);
    canary.assert_unread(&store.run("--rootfs").arg(image.rootfs()).words("cat /dev/secret").run().stdout);
    canary.assert_untouched();
}

// CVE-2025-24965
#[test]
fn the_files_in_etc_are_never_written_through_a_link() {
    if !ready() {
        return;
    }
    for name in ["etc", "etc/hosts", "etc/resolv.conf", "etc/hostname"] {
        let (store, canary) = (Store::new("etc"), Canary::new());
        let target = if name == "etc" { canary.path().join("etc") } else { canary.path().join("secret") };
        let image = Image::busybox().expect("busybox").link(name, target).compose(&store, "image");
        let cat = "cat /etc/hosts /etc/resolv.conf /etc/hostname; true";
        for network in ["none", "host"] {
            let run = store.run("--network").args([network, "-h", "written", "image", "sh", "-c", cat]);
            canary.assert_unread(&run.run().stdout);
        }
        let plain = store.run("-h written --rootfs").arg(image.rootfs()).args(["sh", "-c", cat]);
        canary.assert_unread(&plain.run().stdout);
        canary.assert_untouched();
    }
}

// CVE-2026-55686
#[test]
fn a_working_directory_is_made_inside_only() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("workdir"), Canary::new());
    let image = Image::busybox()
        .expect("busybox")
        .link("link", canary.path())
        .config("workdir = \"/link/made\"")
        .compose(&store, "image");
    store.run("image true").run();
    store.run("-u 1000 -w /link/other/deep image true").run();
    store.run("-w /link/third --rootfs").arg(image.rootfs()).arg("true").run();
    canary.assert_untouched();
}

// CVE-2025-9566, CVE-2022-23648
#[test]
fn a_volume_is_filled_from_inside_the_image_only() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("fill"), Canary::new());
    let _image = Image::busybox()
        .expect("busybox")
        .link("outside", canary.path())
        .file("data/file", "of the image\n")
        .link("data/out", canary.path())
        .config("volumes = [\"/outside\", \"/data\"]")
        .compose(&store, "image");
    let look = "cat /outside/secret /data/out/secret 2>/dev/null; cat /data/file; echo more > /data/out/made";
    let out = store.run("image sh -c").arg(look).run();
    canary.assert_unread(&out.stdout);
    let out = store.run("-v named:/outside -v other:/data image sh -c").arg(look).run();
    canary.assert_unread(&out.stdout);
    canary.assert_untouched();
}

// CVE-2024-9341, CVE-2024-9676, CVE-2026-47262
#[test]
fn the_images_user_files_are_read_with_suspicion() {
    if !ready() {
        return;
    }
    let canary = Canary::new();
    for name in ["passwd", "group"] {
        let store = Store::new("users");
        let image = Image::busybox().expect("busybox");
        std::fs::remove_file(image.at("etc").join(name)).expect("remove it");
        nix::unistd::mkfifo(&image.at("etc").join(name), nix::sys::stat::Mode::from_bits_truncate(0o644))
            .expect("make a fifo");
        // A fifo that nobody writes: an engine that opens it blindly never returns.
        let plain = |image: &Image, user: &str| {
            store.run("-u").arg(user).arg("--rootfs").arg(image.rootfs()).arg("true").run()
        };
        let out = plain(&image, "somebody:some");
        assert!(out.code() != 0 && !out.stderr.is_empty(), "{out}");
        std::fs::remove_file(image.at("etc").join(name)).expect("remove it");
        std::os::unix::fs::symlink(canary.path().join("etc/passwd"), image.at("etc").join(name))
            .expect("link");
        let out = plain(&image, "root:root");
        assert!(name == "group" || out.code() == 0 || !out.stderr.is_empty(), "{out}");
        std::fs::remove_file(image.at("etc").join(name)).expect("remove it");
        let huge = std::fs::File::create(image.at("etc").join(name)).expect("make a file");
        huge.set_len(1 << 40).expect("make it huge");
        let out = plain(&image, "somebody:some");
        assert!(out.code() != 0 && !out.stderr.is_empty(), "{out}");
    }
    canary.assert_untouched();
}
