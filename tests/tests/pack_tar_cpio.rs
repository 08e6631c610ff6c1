//! `rootfs-tool pack`: tar and cpio, read by the tools that everyone has.

use std::path::Path;

use coracle_tests::nasty::{self, Seen};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, need};

fn pack(store: &Store, format: &str, to: &Path) -> Cmd {
    store.rootfs_tool().args(["pack", "--format", format, "nasty", "-o"]).arg(to)
}

#[test]
fn what_is_packed_is_the_image_for_tar_and_cpio_and_the_same_every_time() {
    if !need(Privilege::Root) || !need(Privilege::Peer("python3")) || !need(Privilege::Peer("cpio")) {
        return;
    }
    let store = Store::new("pack");
    nasty::image(&store, false);
    let seen = Seen { nanoseconds: false, attributes: true };
    let expected = nasty::listing(&nasty::unpacked(&store, "nasty"), seen);
    for (format, unpack) in [
        ("tar", "tar --numeric-owner --delay-directory-restore -xpf"),
        ("tar:gzip", "tar --numeric-owner --delay-directory-restore -xzpf"),
        ("tar:zstd:1", "tar --numeric-owner --delay-directory-restore --zstd -xpf"),
        ("cpio", "cpio --quiet -idm --no-absolute-filenames -F"),
        ("cpio:gzip:9", "sh -c 'gzip -dc \"$0\" | cpio --quiet -idm'"),
        ("cpio:zstd", "sh -c 'zstd -qdc \"$0\" | cpio --quiet -idm'"),
    ] {
        let name = format.replace(':', "-");
        let (file, again) = (store.scratch.join(&name), store.scratch.join(format!("{name}.again")));
        pack(&store, format, &file).ok();
        pack(&store, format, &again).ok();
        assert!(
            std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap(),
            "{format} is the same twice"
        );
        let tree = store.scratch.mkdir(format!("of-{name}"));
        Cmd::new("sh").args(["-c", &format!("{unpack} \"$1\""), "sh"]).arg(&file).dir(&tree).ok();
        nasty::same(&timeless(&expected, format), &timeless(&nasty::listing(&tree, seen), format), format);
    }
}

/// Without what cpio(1) does not set: times of directories after they are filled, and of links.
fn timeless(listing: &str, format: &str) -> String {
    let unset = |word: &str| word.starts_with("0o4") || word.starts_with("0o12");
    let without = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if let Some(mode) = words.iter().position(|word| unset(word)).filter(|_| format.starts_with("cpio")) {
            words.remove(mode + 3);
        }
        words.join(" ")
    };
    listing.lines().map(without).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_file_s_name_says_the_format_and_a_pipe_takes_what_streams() {
    let store = Store::new("pack");
    if !need(Privilege::Peer("busybox")) || Image::busybox().map(|i| i.compose(&store, "small")).is_none() {
        return;
    }
    for (name, magic) in
        [("a.tar.gz", &b"\x1f\x8b"[..]), ("a.cpio", b"070701"), ("a.tar.zst", b"\x28\xb5\x2f\xfd")]
    {
        let to = store.scratch.join(name);
        store.rootfs_tool().args(["pack", "small", "-o"]).arg(&to).ok();
        assert!(std::fs::read(to).unwrap().starts_with(magic), "{name}");
    }
    let piped = store.rootfs_tool().args(["pack", "--format=cpio", "small"]).ok();
    assert!(piped.stdout.starts_with("070701"));
}

#[test]
fn attributes_that_cpio_cannot_hold_are_told() {
    if !need(Privilege::Root) || !need(Privilege::Peer("python3")) {
        return;
    }
    let store = Store::new("pack");
    nasty::image(&store, true);
    let packed = pack(&store, "cpio", &store.scratch.join("out")).ok();
    assert!(packed.stderr.contains("3 files lose theirs"), "{}", packed.stderr);
    let packed = pack(&store, "tar", &store.scratch.join("out.tar")).ok();
    assert_eq!(packed.stderr, "");
}

#[test]
fn what_cannot_be_packed_is_told_and_leaves_nothing() {
    let store = Store::new("pack");
    if !need(Privilege::Peer("busybox")) || Image::busybox().map(|i| i.compose(&store, "small")).is_none() {
        return;
    }
    let out = store.scratch.mkdir("out");
    let to = out.join("file");
    std::fs::write(&to, "as it was").expect("write");
    for (words, code, says) in [
        ("--format zip small", 2, "--format zip: it is one of tar, cpio"),
        ("--format cpio:gzip:10 small", 2, "the level is 1 to 9"),
        ("--format cpio:lz4 small", 2, "the compressions of cpio are none, gzip, zstd"),
        ("small", 2, "-o file: its end says no format: --format is one of"),
        ("small out.ext4", 2, "pack takes no \"out.ext4\" (see pack --help): pack -o FILE IMAGE"),
        ("--format cpio nothing", 1, "No such image: nothing"),
    ] {
        let refused = store.rootfs_tool().args(["pack", "-o"]).arg(&to).words(words).fails(code);
        assert!(refused.stderr.contains(says), "{words}: {}", refused.stderr);
    }
    for (place, says) in [("/dev/full", "No space left"), ("/proc/none/x", "No such file")] {
        let refused = store.rootfs_tool().words("pack --format cpio small -o").arg(place).fails(1);
        assert!(refused.stderr.contains(says) && refused.stderr.contains(place), "{}", refused.stderr);
    }
    assert_eq!(std::fs::read_to_string(&to).expect("read"), "as it was");
    assert_eq!(std::fs::read_dir(&out).expect("list").count(), 1);
}
