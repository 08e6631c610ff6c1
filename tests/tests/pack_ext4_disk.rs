//! `rootfs-tool pack --format ext4`: what e2fsck, debugfs and the kernel say of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coracle_tests::nasty::{self, Seen};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// What e2fsck has to say: nothing.
#[track_caller]
fn sound(image: &Path) {
    let said = Cmd::new("e2fsck").args(["-f", "-n"]).arg(image).ok().stdout;
    assert!(!said.contains('?') && said.contains("(0.0% non-contiguous)"), "{said}");
}

fn pack(store: &Store, image: &str, to: &Path) -> Cmd {
    store.rootfs_tool().args(["pack", image, "-o"]).arg(to)
}

/// An image of these folder's files, in a store.
fn of_folder(store: &Store, folder: &Path, name: &str) {
    let tar = store.scratch.join(format!("{name}.tar"));
    Cmd::new("tar")
        .words("--xattrs --xattrs-include=* --sparse -C")
        .arg(folder)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .ok();
    store.rootfs_tool().arg("import").arg(&tar).arg(name).ok();
}

fn root_with(peers: &[&str]) -> bool {
    need(Privilege::Root) && peers.iter().all(|peer| need(Privilege::Peer(peer)))
}

fn mounted(scratch: &Scratch, image: &Path, options: &str) -> std::path::PathBuf {
    let at = scratch.mkdir("mounted");
    Cmd::new("mount").args(["-t", "ext4", "-o", options]).arg(image).arg(&at).ok();
    at
}

fn unmount(at: &Path) {
    Cmd::new("umount").arg(at).ok();
}

/// A listing without the folder that ext4 adds, and what it does to the root.
fn without_lost_found(listing: &str) -> String {
    listing.lines().filter(|line| !line.starts_with("b'lost+found'")).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_ext4_is_the_image_with_all_its_attributes_and_the_same_every_time() {
    if !root_with(&["e2fsck", "python3"]) {
        return;
    }
    let store = Store::new("pack-ext4");
    nasty::image(&store, true);
    let (file, again) = (store.scratch.join("a.ext4"), store.scratch.join("b.ext4"));
    pack(&store, "nasty", &file).ok();
    pack(&store, "nasty", &again).ok();
    Cmd::new("cmp").arg(&file).arg(&again).ok();
    sound(&file);
    let seen = Seen { nanoseconds: true, attributes: true };
    let expected = nasty::listing(&nasty::unpacked(&store, "nasty"), seen);
    let at = mounted(&store.scratch, &file, "ro");
    let found = nasty::listing(&at, seen);
    unmount(&at);
    nasty::same(expected.trim_end(), &without_lost_found(&found), "ext4");
    let size = std::fs::metadata(&file).expect("stat");
    assert!(size.blocks() * 512 < size.size(), "the journal takes no space yet");
}

#[test]
fn times_beyond_32_bits_holes_and_many_names_are_kept() {
    if !root_with(&["e2fsck", "debugfs", "setfacl", "python3"]) {
        return;
    }
    let store = Store::new("pack-ext4");
    let tree = store.scratch.mkdir("tree");
    let make = r#"
        set -e
        cd "$1"
        mkdir many large facl lost+found
        (cd many && seq -f "a-longer-name-so-that-the-index-has-two-levels-%08.0f-$(printf 'n%.0s' $(seq 180))" 9000 | xargs touch)
        (cd many && touch "$(printf 'n%.0s' $(seq 255))" "$(printf '\377\200')" café)
        head -c 40000000 /dev/urandom >large/forty
        truncate -s 100M large/holes
        printf tail | dd of=large/holes bs=1 seek=90000000 conv=notrunc status=none
        python3 -c "
f = open('large/comb', 'wb')
for n in range(3000):
    f.seek(n * 8192)
    f.write(b'tooth %d' % n)
f.truncate(3000 * 8192 + 5)"
        for n in 58 59 60 61 4000; do ln -s "$(printf 'x%.0s' $(seq $n))" link-$n; done
        touch -d '1955-01-02 03:04:05.123456789' facl
        touch -d '2400-05-05 01:02:03.987654321' large/forty
        setfacl -m u:1000:rwx,g:70000:r facl
        setfacl -d -m u:1000:rwx facl
        setfattr -n user.none large
        setfattr -n user.a -v "$(printf 'v%.0s' $(seq 3000))" large/forty
        for n in $(seq 20); do setfattr -n user.$n -v "$n" many; done
        touch -d '1901-12-15' many
    "#;
    Cmd::new("bash").args(["-c", make, "bash"]).arg(&tree).ok();
    of_folder(&store, &tree, "tree");
    let file = store.scratch.join("tree.img");
    pack(&store, "tree", &file)
        .words("--format ext4 --label nasty --uuid 01234567-89ab-cdef-0123-456789abcdef")
        .ok();
    sound(&file);
    let seen = Seen { nanoseconds: true, attributes: true };
    let at = mounted(&store.scratch, &file, "ro");
    let found = nasty::listing(&at, seen);
    let holes = std::fs::metadata(at.join("large/holes")).expect("stat");
    unmount(&at);
    nasty::same(&nasty::listing(&tree, seen), &found, "ext4");
    assert_eq!((holes.size(), holes.blocks()), (100 << 20, 8), "a hole is one in the file system too");
    let told = Cmd::new("dumpe2fs").arg("-h").arg(&file).ok().stdout;
    assert!(told.contains("01234567-89ab-cdef-0123-456789abcdef") && told.contains("nasty"), "{told}");
    let told = Cmd::new("debugfs").args(["-R", "htree_dump /many"]).arg(&file).ok().stdout;
    assert!(told.contains("Indirect levels: 1"), "{}", &told[..told.len().min(500)]);
}

#[test]
fn an_ext4_takes_writes_and_grows() {
    if !root_with(&["e2fsck", "resize2fs", "losetup"]) {
        return;
    }
    let store = Store::new("pack-ext4");
    let tree = store.scratch.mkdir("tree");
    std::fs::write(tree.join("file"), "content").expect("write");
    of_folder(&store, &tree, "tree");
    for (size, larger) in [(None, 3_u64 << 30), (Some("200M"), 40 << 30)] {
        let file = store.scratch.join("tree.ext4");
        let mut packing = pack(&store, "tree", &file);
        if let Some(size) = size {
            packing = packing.args(["--size", size]);
        }
        packing.ok();
        sound(&file);
        let grow = r#"
            set -e
            truncate -s "$2" "$1"
            loop=$(losetup -f --show "$1")
            trap 'umount -q "$3" || true; losetup -d "$loop"' EXIT
            mount -t ext4 "$loop" "$3"
            for n in $(seq 200); do echo "$n" >"$3/new-$n"; done
            umount "$3"
            e2fsck -f -p "$loop"
            resize2fs "$loop"
            mount -t ext4 "$loop" "$3"
            head -c 100000000 /dev/zero >"$3/large"
            umount "$3"
        "#;
        let at = store.scratch.mkdir("at");
        // Not while it is mounted, which takes CAP_SYS_RESOURCE of the host; the machines that tests boot do that.
        Cmd::new("bash").args(["-c", grow, "bash"]).arg(&file).arg(larger.to_string()).arg(&at).ok();
        let said = Cmd::new("e2fsck").args(["-f", "-n"]).arg(&file).ok().stdout;
        assert!(!said.contains('?'), "{said}");
        let told = Cmd::new("dumpe2fs").arg("-h").arg(&file).ok().stdout;
        let blocks = told.lines().find_map(|line| line.strip_prefix("Block count:")).expect("blocks").trim();
        assert_eq!(blocks, (larger / 4096).to_string(), "{told}");
    }
}

#[test]
fn what_ext4_cannot_hold_is_refused_by_name() {
    if !root_with(&["setfattr"]) {
        return;
    }
    let store = Store::new("pack-ext4");
    if Image::busybox().map(|image| image.compose(&store, "small")).is_none() {
        return;
    }
    let refused = |words: &str, code, says: &str| {
        let to = store.scratch.join("refused.ext4");
        let said = store.rootfs_tool().arg("pack").words(words).arg("-o").arg(&to).fails(code).stderr;
        assert!(said.contains(says), "{words}: {said}");
        assert!(!to.exists(), "{words}");
    };
    refused("small --label a-label-of-many-bytes", 2, "--label a-label-of-many-bytes");
    refused("small --uuid 1234", 2, "--uuid 1234");
    refused("small --size 1M", 2, "takes 8 MiB or more");
    refused("small --size 8Q", 2, "--size 8Q");
    refused("small --format tar --size 8M", 2, "--size is for ext4");
    let said = store.rootfs_tool().words("pack small --format ext4").fails(2).stderr;
    assert!(said.contains("use -o FILE"), "{said}");
    let said = store.rootfs_tool().words("pack small --format ext4 -o /dev/null").fails(2).stderr;
    assert!(said.contains("/dev/null"), "{said}");
    for (name, make, says) in [
        ("found", "touch \"$1/lost+found\"", "lost+found"),
        ("full", "head -c 20000000 /dev/urandom >\"$1/f\"", "takes 2"),
    ] {
        let tree = store.scratch.mkdir(name);
        Cmd::new("bash").args(["-c", make, "bash"]).arg(&tree).ok();
        of_folder(&store, &tree, name);
        let (size, code) = if name == "full" { (" --size 20M", 2) } else { ("", 1) };
        refused(&format!("{name}{size}"), code, says);
    }
}
