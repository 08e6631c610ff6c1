//! Layers that the program fuse-overlayfs mounts: because it was asked for, or because the kernel refuses an overlay. It
//! ends with the container, and not before.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use coracle_tests::binaries::path_without_fuse;
use coracle_tests::filters::Filter;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Fuse) && need(Privilege::Peer("busybox"))
}

fn compose(store: &Store, driver: &str) {
    let image =
        Image::busybox().expect("busybox").file("d/gone", "").file("d/kept", "base\n").file("x/old", "");
    image.compose_command(store, "image").env("CORACLE_STORAGE_DRIVER", driver).ok();
}

/// The programs that serve this store.
fn programs(store: &Store) -> Vec<i32> {
    let serves = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let path = store.scratch.path().as_os_str().as_bytes();
        line.starts_with(b"fuse-overlayfs\0")
            | line.split(|b| *b == 0).next().is_some_and(|w| w.ends_with(b"/fuse-overlayfs"))
            && line.windows(path.len()).any(|w| w == path)
    };
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(serves).collect()
}

fn none_is_left(store: &Store) {
    eventually("the program ends", || programs(store).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let path = store.scratch.path().to_str().expect("UTF-8");
    assert!(!mounts.lines().any(|line| line.contains("fuse-overlayfs") && line.contains(path)), "{mounts}");
}

#[test]
fn the_program_lives_as_long_as_the_container_and_no_longer() {
    if !ready() {
        return;
    }
    let store = Store::new("fuse-life");
    compose(&store, "fuse-overlayfs");
    // What kills all it can see does not see the program.
    let script = "trap '' TERM; kill -9 -1; echo after >/after; cat /after /d/kept; sleep 1000";
    let box_ = store.runner().words("run --rm --name box image sh -c").arg(script).spawn();
    box_.wait_for("after\nbase\n");
    assert_eq!(programs(&store).len(), 1);
    assert_eq!(store.runner().words("exec box sh -c").arg("rm /after; ls /d").ok().stdout, "gone\nkept\n");
    store.runner().words("exec box sh -c").arg("echo own:x:77:78::/:/bin/sh >>/etc/passwd").ok();
    assert_eq!(store.runner().words("exec -u own box id -u").ok().stdout, "77\n");
    store.scratch.write("into", "into\n");
    store.runner().words("cp into box:/d/into").ok();
    store.runner().words("cp box:/d/into out").ok();
    assert_eq!(std::fs::read_to_string(store.scratch.join("out")).expect("read"), "into\n");
    assert!(store.runner().words("diff box").ok().stdout.contains("A /d/into\n"));
    // The foreground: the runner is killed.
    box_.signal(Signal::SIGKILL);
    let _ = box_.wait(Duration::from_secs(30));
    none_is_left(&store);
    // The background: the monitor is killed, or the container is stopped, or its command ends.
    for end in ["monitor", "stop", "command"] {
        store
            .runner()
            .words("run -d --name one image sh -c")
            .arg("until test -e /end; do sleep 0.05; done")
            .ok();
        assert_eq!(programs(&store).len(), 1, "{end}");
        match end {
            "monitor" => {
                let pid: i32 = store
                    .runner()
                    .words("inspect --format {{.State.Pid}} one")
                    .ok()
                    .text()
                    .parse()
                    .expect("a pid");
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
                let after = stat.rsplit(')').next().expect("fields");
                let parent: i32 = after.split_whitespace().nth(1).expect("ppid").parse().expect("ppid");
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), Signal::SIGKILL).expect("kill");
            }
            "stop" => drop(store.runner().words("stop -t 0 one").ok()),
            _ => drop(store.runner().words("exec one touch /end").ok()),
        }
        none_is_left(&store);
        store.runner().words("rm -f one").ok();
    }
    store.run("image true").ok();
    none_is_left(&store);
    let left = std::fs::read_dir(store.path().join("tmp")).expect("tmp").count();
    assert_eq!(left, 0);
}

#[test]
fn a_build_that_is_killed_leaves_neither_the_program_nor_its_mount() {
    if !ready() {
        return;
    }
    let store = Store::new("fuse-build");
    compose(&store, "fuse-overlayfs");
    store.scratch.write("c/Dockerfile", "FROM image\nRUN echo begun; sleep 1000\n");
    let build = store.rootfs_tool().words("build --network none c").spawn();
    eventually("the step runs", || programs(&store).len() == 1);
    build.signal(Signal::SIGKILL);
    let _ = build.wait(Duration::from_secs(30));
    none_is_left(&store);
    store.rootfs_tool().arg("verify").ok();
}

/// A kernel that gives no overlay: the call by which one gets its layers is refused.
fn refused(store: &Store, program: Cmd) -> Cmd {
    let program = program.under(Filter::refusing_overlay()).as_user();
    program.env("CORACLE_STORE", store.path()).dir(store.scratch.path())
}

#[test]
fn where_the_kernel_refuses_an_ordinary_users_overlay_the_program_is_used() {
    if !need(Privilege::Root) || !ready() || !need(Privilege::UserNamespaces) {
        return;
    }
    let store = Store::of_user("fuse-refused");
    compose(&store, "overlay");
    let runner = |line: &str| refused(&store, Cmd::runner()).arg("--root").arg(store.state()).words(line);
    let out = runner("run --name box image sh -c")
        .arg("rm -r /x /d/gone; mkdir /x; echo y >/x/y; cat /d/kept")
        .ok();
    assert_eq!((&*out.stdout, &*out.stderr), ("base\n", ""));
    runner("info").ok().prints("fuse-overlayfs, since the kernel refuses an overlay");
    let told = runner("doctor").run();
    assert!(told.stdout.contains("used, since the kernel refuses an overlay"), "{told}");
    assert_eq!(runner("diff box").ok().stdout, "C /d\nD /d/gone\nC /x\nD /x/old\nA /x/y\n");
    // What was begun so goes on so, also where the kernel gives an overlay.
    store.runner().words("commit box committed").ok();
    store.runner().words("start -a box").ok();
    assert_eq!(store.run("committed sh -c").arg("ls /d /x").ok().stdout, "/d:\nkept\n\n/x:\ny\n");
    store.scratch.write("c/Dockerfile", "FROM committed\nRUN rm -r /x; mkdir /x; echo z >/x/z\n");
    refused(&store, Cmd::rootfs_tool()).words("build -q --network none -t built c").ok();
    assert_eq!(store.run("built ls /x").ok().stdout, "z\n");
    none_is_left(&store);
    // Without the program the layers are copied, and that is said.
    let path = path_without_fuse(&store.scratch);
    let out = runner("run --rm image cat /d/kept").env("PATH", &path).ok();
    assert!(out.stdout == "base\n" && out.stderr.contains("a copy of the image's files"), "{out}");
    runner("info").env("PATH", &path).ok().prints("install the package fuse-overlayfs");
}

#[test]
fn what_is_removed_is_known_also_where_no_whiteout_can_be_made() {
    if !need(Privilege::Root) || !ready() {
        return;
    }
    let store = Store::new("fuse-words");
    // No whiteout can be made on an overlay, and the program writes files .wh.NAME.
    let part = |name: &str| store.scratch.mkdir(name);
    let (lower, upper, work, merged) = (part("low"), part("up"), part("wk"), part("store"));
    let show = Path::display;
    let data = format!("lowerdir={},upperdir={},workdir={}", show(&lower), show(&upper), show(&work));
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(&*data)).expect("mount");
    compose(&store, "vfs");
    let refused = || Cmd::runner().under(Filter::refusing_overlay()).env("CORACLE_STORE", store.path());
    let runner =
        |line: &str| refused().arg("--root").arg(store.state()).words(line).dir(store.scratch.path());
    let script = "rm -r /x /d/gone; mkdir /x; echo y >/x/y";
    let out = runner("run --name box image sh -c").arg(script).ok();
    assert_eq!(out.stderr, "");
    assert_eq!(runner("diff box").ok().stdout, "C /d\nD /d/gone\nC /x\nD /x/old\nA /x/y\n");
    runner("commit box committed").ok();
    assert_eq!(runner("run --rm committed sh -c").arg("ls /d /x").ok().stdout, "/d:\nkept\n\n/x:\ny\n");
    none_is_left(&store);
}
