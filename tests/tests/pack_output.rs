//! `rootfs-tool pack -o FILE`: what FILE may be, and that a run that is killed leaves nothing of itself.

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, binaries, need};
use nix::sys::signal::Signal;

/// A store with the image `small`, and a folder to write to.
fn store() -> Option<(Store, PathBuf)> {
    if !need(Privilege::Peer("busybox")) {
        return None;
    }
    let store = Store::new("pack-output");
    Image::busybox()?.compose(&store, "small");
    let out = store.scratch.mkdir("out");
    Some((store, out))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("list").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

fn pack(store: &Store, to: &Path) -> Cmd {
    store.rootfs_tool().args(["pack", "small", "-o"]).arg(to)
}

#[test]
fn a_run_that_is_killed_leaves_nothing_and_the_next_one_clears_up_what_older_ones_left() {
    let Some((store, out)) = store() else { return };
    let tree = store.scratch.mkdir("tree");
    Cmd::new("sh").args(["-c", "head -c 60000000 /dev/urandom >\"$1/large\"", "sh"]).arg(&tree).ok();
    let tar = store.scratch.join("large.tar");
    Cmd::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".").ok();
    store.rootfs_tool().arg("import").arg(&tar).arg("large").ok();
    for (name, words) in [("a.tar.gz", "--format tar:gzip:9"), ("a.squashfs", "--format squashfs:xz:9")] {
        let to = out.join(name);
        let killed = store.rootfs_tool().args(["pack", "large", "-o"]).arg(&to).words(words).spawn();
        std::thread::sleep(Duration::from_millis(300));
        killed.signal(Signal::SIGKILL);
        let killed = killed.wait(Duration::from_secs(20)).expect("it ends");
        assert_eq!(killed.code(), 137, "it was not done yet: {}", killed.stderr);
        assert_eq!(names(&out), [] as [&str; 0], "{name}");
    }
    // As it is left where a file system has no files without a name.
    let sum = Cmd::new("sha256sum").stdin("a.tar").ok().stdout;
    std::fs::write(out.join(format!(".coracle-1-2-0-{}.part", &sum[..24])), "half").expect("write");
    std::fs::write(out.join(".coracle-notes-a.tar"), "another's").expect("write");
    pack(&store, &out.join("a.tar")).ok();
    assert_eq!(names(&out), [".coracle-notes-a.tar", "a.tar"]);
    // What is replaced was for its owner's eyes.
    std::fs::set_permissions(out.join("a.tar"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    pack(&store, &out.join("a.tar")).ok();
    assert_eq!(out.join("a.tar").metadata().expect("stat").permissions().mode() & 0o777, 0o600);
    pack(&store, &out.join("a.tar/")).fails(2).complains("it is no file's name");
}

#[test]
fn a_symbolic_link_is_written_through() {
    let Some((store, out)) = store() else { return };
    let target = store.scratch.mkdir("elsewhere").join("image");
    let link = out.join("a.tar");
    symlink("../elsewhere/image", &link).expect("symlink");
    for format in ["tar", "ext4"] {
        // What it leads to is made, and then replaced.
        pack(&store, &link).args(["--format", format]).ok();
        assert!(link.is_symlink() && target.is_file(), "{format}");
    }
    assert_eq!(std::fs::read(&target).expect("read")[0x438..0x43a], [0x53, 0xef], "the second is an ext4");
    assert_eq!(names(&out), ["a.tar"]);
    assert_eq!(names(target.parent().expect("a folder")), ["image"]);
    let round = out.join("round.tar");
    symlink("round.tar", &round).expect("symlink");
    pack(&store, &round).fails(1).complains("round.tar");
}

#[test]
fn a_dash_is_standard_output_and_a_pipe_takes_what_streams() {
    let Some((store, out)) = store() else { return };
    let dash = Path::new("-");
    let file = out.join("a.cpio");
    pack(&store, &file).ok();
    let whole = std::fs::read(&file).expect("read");
    let piped = pack(&store, dash).args(["--format", "cpio"]).dir(&out).ok();
    assert!(piped.stdout.as_bytes().starts_with(b"070701"));
    let fifo = out.join("pipe");
    Cmd::new("mkfifo").arg(&fifo).ok();
    let reads = Cmd::new("sh").args(["-c", "exec cat \"$1\" >\"$2\"", "sh"]).arg(&fifo).arg(out.join("read"));
    let reads = reads.spawn();
    pack(&store, &fifo).args(["--format", "cpio"]).ok();
    reads.wait(Duration::from_secs(20)).expect("it ends").ok();
    assert!(std::fs::read(out.join("read")).expect("read") == whole, "through a pipe it is the same");
    assert!(fifo.metadata().expect("stat").file_type().is_fifo());
    for (to, words, says) in [
        (dash, "", "--format is one of"),
        (dash, "--format ext4", "use -o FILE"),
        (dash, "--format squashfs", "use -o FILE"),
        // Nobody reads it, and nobody waits for that.
        (&fifo, "--format erofs", "pipe: it is neither a file nor a disk"),
        (Path::new("/dev/null"), "--format ext4", "-o /dev/null: it is neither a file nor a disk"),
        (&out, "--format tar", "it is a folder"),
        (&out, "--format ext4", "it is a folder"),
    ] {
        let refused = pack(&store, to).words(words).dir(&out).fails(2);
        assert!(refused.stderr.contains(says), "{words}: {}", refused.stderr);
    }
    assert_eq!(names(&out), ["a.cpio", "pipe", "read"], "there is no file of the name -");
}

#[test]
fn where_only_the_content_can_be_replaced_that_is_and_all_of_it() {
    if !need(Privilege::Root) {
        return;
    }
    let Some((store, out)) = store() else { return };
    let long = store.scratch.write("outside", vec![b'x'; 9_000_000]);
    let other = store.scratch.join("other.tar");
    pack(&store, &other).ok();
    let expected = std::fs::read(&other).expect("read");
    let to = out.join("a.tar");
    let pack = format!("exec {} pack small -o a.tar", binaries::rootfs_tool().display());
    let mounts = "mount --bind . . && cd \"$PWD\" && touch a.tar && mount --bind \"$1\" a.tar";
    // A mount in a folder of its user's, and one in a folder that nobody may write to.
    for then in ["true", "mount -o remount,bind,ro ."] {
        std::fs::write(&long, vec![b'x'; 9_000_000]).expect("write");
        let script = format!("cd \"$2\" && {mounts} && {then} && {pack}");
        let cmd = Cmd::new("unshare").args(["-m", "sh", "-c", &script, "sh"]);
        cmd.arg(&long).arg(&out).env("CORACLE_STORE", store.path()).ok();
        assert!(std::fs::read(&long).expect("read") == expected, "{then}");
        assert_eq!(names(&out), ["a.tar"], "{then}");
        assert_eq!(to.metadata().expect("stat").len(), 0, "what is below the mount is as it was");
    }
}

/// A loop device, as long as this value.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Self {
        let made = Cmd::new("losetup").args(["-f", "--show"]).arg(file).ok();
        Self(made.stdout.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn a_disk_is_written_to_where_it_has_room_and_is_not_in_use() {
    if !need(Privilege::Root) || !["losetup", "e2fsck"].iter().all(|peer| need(Privilege::Peer(peer))) {
        return;
    }
    let Some((store, out)) = store() else { return };
    let file = out.join("a.ext4");
    pack(&store, &file).ok();
    let image = std::fs::read(&file).expect("read");
    let disk = store.scratch.write("disk", vec![0xa5; image.len() + (1 << 20)]);
    let device = Loop::new(&disk);
    let to = Path::new(&device.0);
    pack(&store, to).args(["--format", "ext4"]).ok();
    let written = std::fs::read(to).expect("read");
    assert!(written[..image.len()] == image, "what is zero in the image is zero on the disk");
    assert!(written[image.len()..].iter().all(|byte| *byte == 0xa5), "what is behind it is left");
    let at = store.scratch.mkdir("at");
    Cmd::new("mount").arg(to).arg(&at).ok();
    let used = pack(&store, to).args(["--format", "ext4"]).run();
    Cmd::new("umount").arg(&at).ok();
    used.fails(1).complains("busy");
    let large = pack(&store, to).words("--format ext4 --size 1G").fails(2);
    let says = format!("write {:?}: it has {} MiB, and the image takes", device.0, written.len() >> 20);
    assert!(large.stderr.contains(&says), "{}", large.stderr);
    Cmd::new("e2fsck").args(["-f", "-n"]).arg(to).ok();
}
