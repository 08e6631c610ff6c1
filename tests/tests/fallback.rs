//! Where overlay cannot be had as it should be: the upper goes to memory, or the layers are copied. Either
//! is said in one line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};

use coracle_tests::binaries::{path_without_fuse, runner};
use coracle_tests::canary::hash;
use coracle_tests::filters::Filter;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// A folder on an overlay, on `depth` of them; everybody may write there.
fn overlay(scratch: &Scratch, depth: usize) -> PathBuf {
    let mut lower = scratch.mkdir("lower");
    for n in 0..depth {
        let part = |name: &str| scratch.mkdir(format!("{name}{n}"));
        let (upper, work, merged) = (part("upper"), part("work"), part("merged"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(&upper, mode).expect("chmod");
        let data =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(&*data)).expect("mount");
        lower = merged;
    }
    lower
}

fn ready() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

/// Layers that hide, replace and add: what a copy of them must not get wrong.
fn compose(store: &Store, at: &Path) {
    let image =
        Image::busybox().expect("busybox").file("d/gone", "").file("d/kept", "base").file("x/old", "");
    let image = image.compose_command(store, "base").env("CORACLE_STORE", at);
    image.ok();
    let next = Scratch::new("fallback-layer");
    next.write("rootfs.toml", "[[layer]]\nimage = \"base\"\n[[layer]]\ntar = \"layer.tar\"\n");
    next.write("l/d/.wh.gone", "");
    next.write("l/d/new", "next");
    next.write("l/x/.wh..wh..opq", "");
    next.write("l/x/young", "");
    Cmd::new("tar").words("-C l -cf layer.tar d x").dir(next.path()).ok();
    let compose = store.rootfs_tool().arg("compose").arg(next.path()).args(["-t", "image"]);
    compose.env("CORACLE_STORE", at).ok();
}

const LOOK: &str = "cat /d/kept /d/new; ls /d /x; echo mine >/d/kept; mkdir /made; rm -r /x; cat /d/kept";
const SEEN: &str = "basenext/d:\nkept\nnew\n\n/x:\nyoung\nmine\n";

#[test]
fn an_upper_that_would_lie_on_an_overlay_goes_to_memory() {
    if !ready() {
        return;
    }
    let store = Store::new("fallback");
    let at = overlay(&store.scratch, 1).join("store");
    compose(&store, &at);
    let layers = hash(&at.join("layers"));
    for _ in 0..2 {
        let out = store.run("image sh -c").arg(LOOK).env("CORACLE_STORE", &at).ok();
        assert_eq!(out.stdout, SEEN);
        let said: Vec<&str> = out.stderr.lines().collect();
        assert!(said.len() == 1 && said[0].contains("kept in memory") && said[0].contains("lost"), "{out}");
    }
    let asked = store.run("--scratch tmpfs:1m image true").env("CORACLE_STORE", &at).ok();
    assert_eq!(asked.stderr, "", "what was asked for is no news");
    assert_eq!(hash(&at.join("layers")), layers);
}

#[test]
fn where_no_overlay_can_be_mounted_the_layers_are_copied() {
    if !ready() {
        return;
    }
    let store = Store::new("fallback");
    // The kernel stacks two overlays, and no third on them.
    let at = overlay(&store.scratch, 2).join("store");
    compose(&store, &at);
    let layers = hash(&at.join("layers"));
    let path = path_without_fuse(&store.scratch);
    for flags in ["", "--scratch tmpfs:64m"] {
        let run = store.run(flags).args(["image", "sh", "-c", LOOK]).env("CORACLE_STORE", &at);
        let out = run.env("PATH", &path).ok();
        assert_eq!(out.stdout, SEEN, "{flags}");
        assert!(
            out.stderr.lines().count() == 1 && out.stderr.contains("a copy of the image's files"),
            "{out}"
        );
    }
    let read_only = store.run("--read-only image touch /x").env("CORACLE_STORE", &at);
    let out = read_only.env("PATH", &path).fails(1);
    assert!(out.stderr.contains("Read-only file system"), "{out}");
    // With the program that stacks them in its place nothing is copied.
    if need(Privilege::Fuse) {
        let out = store.run("image sh -c").arg(LOOK).env("CORACLE_STORE", &at).ok();
        assert_eq!((&*out.stdout, &*out.stderr), (SEEN, ""));
    }
    assert_eq!(hash(&at.join("layers")), layers);
    assert_eq!(std::fs::read_dir(at.join("containers")).expect("containers").count(), 0);
}

#[test]
fn what_a_container_changed_in_a_copy_is_told_copied_and_committed() {
    if !ready() {
        return;
    }
    let store = Store::new("fallback-files");
    let at = overlay(&store.scratch, 2).join("store");
    compose(&store, &at);
    let path = path_without_fuse(&store.scratch);
    let runner = |line: &str| store.runner().words(line).env("CORACLE_STORE", &at).env("PATH", &path);
    let script = "echo mine >/d/kept; rm -r /x; mkdir -p /made/in; ln /d/new /made/linked";
    runner("run --name box image sh -c").arg(script).ok();
    let told = runner("diff box").ok().stdout;
    assert_eq!(told, "C /d\nC /d/kept\nA /made\nA /made/in\nA /made/linked\nD /x\n");
    runner("cp box:/d/kept out").ok();
    assert_eq!(std::fs::read_to_string(store.scratch.join("out")).expect("read"), "mine\n");
    store.scratch.write("f", "f\n");
    runner("cp f box:/made/f").ok();
    runner("export box -o tar").ok();
    let names = Cmd::new("tar").words("-tf tar").dir(store.scratch.path()).ok().stdout;
    assert!(names.contains("made/f\n") && !names.contains("x/young"), "{names}");
    runner("commit box committed").ok();
    let look = "cat /d/kept /made/f /made/linked; ls /x";
    let seen = runner("run --rm committed sh -c").arg(look).run();
    assert!(seen.stdout == "mine\nf\nnext" && seen.stderr.contains("/x: No such file"), "{seen}");
    let scratch = runner("run --rm --name mem --scratch tmpfs:64m image sleep 1000").spawn();
    coracle_tests::eventually("it runs", || runner("exec mem true").run().code() == 0);
    runner("diff mem").fails(1).complains("keeps what it writes in memory");
    drop(scratch);
}

/// Since Linux 6.6: an ordinary user's overlay marks with them what it hides.
fn tmpfs_has_user_attributes() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

#[test]
fn an_ordinary_users_store_on_an_overlay_works_too() {
    if !ready() || !need(Privilege::UserNamespaces) {
        return;
    }
    for (depth, says) in [(1, "kept in memory"), (2, "a copy of the image's files")] {
        if depth == 1 && !tmpfs_has_user_attributes() {
            eprintln!("skipped: an upper in memory: this kernel's tmpfs has no user attributes");
            continue;
        }
        let store = Store::of_user("fallback");
        let at = overlay(&store.scratch, depth).join("store");
        compose(&store, &at);
        let path = path_without_fuse(&store.scratch);
        let out = store.run("image sh -c").arg(LOOK).env("CORACLE_STORE", &at).env("PATH", path).ok();
        assert_eq!(out.stdout, SEEN, "{depth}");
        assert!(out.stderr.lines().count() == 1 && out.stderr.contains(says), "{out}");
    }
}

#[test]
fn where_the_upper_can_be_an_overlays_nothing_is_said() {
    if !need(Privilege::Containers) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let store = Store::new("fallback");
    compose(&store, &store.path());
    let out = store.run("image sh -c").arg(LOOK).ok();
    assert_eq!((&*out.stdout, &*out.stderr), (SEEN, ""));
}

#[test]
fn containers_live_and_end_where_a_filter_denies_to_open_pidfds() {
    if !ready() {
        return;
    }
    let store = Store::new("fallback-pidfd");
    compose(&store, &store.path());
    // As the filters of older hosts around us do: there are no such calls.
    let command = |line: &str| {
        let mut command = Command::new(runner());
        command.args(["--root", &store.state().display().to_string()]).args(line.split_whitespace());
        command.env("CORACLE_STORE", store.path()).stdin(Stdio::null());
        Filter::denying(&[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal]).install(&mut command);
        command
    };
    let run = |line: &str| {
        let out = command(line).output().expect("start the runner");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    assert_eq!(run("run --rm image echo front"), (Some(0), "front\n".to_owned(), String::new()));
    assert_eq!(run("run -d --name c image sleep 1000").0, Some(0));
    let follows = command("logs -f c").stdout(Stdio::piped()).spawn().expect("start the runner");
    let waits = command("wait c").stdout(Stdio::piped()).spawn().expect("start the runner");
    assert_eq!(run("exec c readlink /proc/self/ns/mnt").0, Some(0));
    let inside = run("exec c cat /d/new /proc/sys/kernel/hostname");
    assert!(inside.0 == Some(0) && inside.1.starts_with("next"), "{inside:?}");
    assert_eq!(run("exec -d c sleep 900").0, Some(0));
    assert_eq!(run("kill -s USR1 c").0, Some(0));
    assert_eq!(run("stop -t 5 c"), (Some(0), "c\n".to_owned(), String::new()));
    for child in [follows, waits] {
        let out = child.wait_with_output().expect("it ends");
        assert!(out.status.success(), "{out:?}");
    }
    assert_eq!(run("start c").0, Some(0));
    assert_eq!(run("kill c").0, Some(0));
    assert_eq!(run("rm -f c").0, Some(0));
    let timed = run("run --rm --timeout 1s image sleep 1000");
    assert!(timed.0 == Some(137) && timed.2.contains("its time of 1s was over"), "{timed:?}");
}
