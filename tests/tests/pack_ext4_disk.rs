//! `rootfs-tool pack` as ext4 and as a whole disk: what e2fsck, debugfs, sgdisk, fsck.vfat and the kernel say of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

fn mounted(scratch: &Scratch, image: &Path, options: &str) -> PathBuf {
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
    for (size, larger) in [(None, 3_u64 << 30), (Some("0.25G"), 40 << 30)] {
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
    for format in ["ext4", "erofs"] {
        let with = |words: &str| format!("small --format {format} {words}");
        refused(&with("--label a-label-of-many-bytes"), 2, "--label a-label-of-many-bytes: ");
        refused(&with("--label=two\u{1}"), 2, "--label \"two\\u{1}\": it holds a control character");
        let nothing = "--uuid 00000000-0000-0000-0000-000000000000";
        refused(&with(nothing), 2, &format!("{nothing}: it is the UUID of nothing"));
        refused(&with("--uuid {01234567-89ab-cdef-0123-456789abcdef}"), 2, "a UUID has the form");
    }
    refused("small --size 1M", 2, "takes 8 MiB or more");
    for size in ["8Q", "512MX", "-1", "1.5.5", "1e9"] {
        refused(&format!("small --size {size}"), 2, &format!("--size {size}: a size is"));
    }
    refused("small --format tar --size 8M", 2, "--size is for ext4 and disk");
    let said = store.rootfs_tool().words("pack small --format ext4").fails(2).stderr;
    assert!(said.contains("use -o FILE"), "{said}");
    let said = store.rootfs_tool().words("pack small --format ext4 -o /dev/null").fails(2).stderr;
    assert!(said.contains("/dev/null"), "{said}");
    for (name, make, says) in [
        ("found", "touch \"$1/lost+found\"", "lost+found"),
        (
            "full",
            "head -c 20000000 /dev/urandom >\"$1/f\"",
            "20 MiB is too small: what is to be in it takes 2",
        ),
    ] {
        let tree = store.scratch.mkdir(name);
        Cmd::new("bash").args(["-c", make, "bash"]).arg(&tree).ok();
        of_folder(&store, &tree, name);
        let (size, code) = if name == "full" { (" --size 20M", 2) } else { ("", 1) };
        refused(&format!("{name}{size}"), code, says);
    }
}

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const SECTOR: u64 = 512;

/// What is no kernel, and says a version as one does.
fn kernel(scratch: &Scratch) -> PathBuf {
    let mut file = vec![0; 20_000];
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    file[0x300..0x30a].copy_from_slice(b"9.9-tests ");
    scratch.write("vmlinuz", file)
}

/// A store with an image, and a kernel beside it; none where disks cannot be looked at.
fn with_image() -> Option<(Store, PathBuf)> {
    if !root_with(&["sgdisk", "fsck.vfat", "e2fsck", "mcopy", "python3"]) || !need(Privilege::Peer(STUB)) {
        return None;
    }
    let store = Store::new("pack-disk");
    Image::busybox()?.config("cmd = [\"true\"]").compose(&store, "small");
    let kernel = kernel(&store.scratch);
    Some((store, kernel))
}

fn disk(store: &Store, kernel: &Path, image: &str, to: &Path) -> Cmd {
    store
        .rootfs_tool()
        .args(["pack", "--format", "disk", "--stub", STUB, image, "--kernel"])
        .arg(kernel)
        .arg("-o")
        .arg(to)
}

/// The first sector and the number of sectors of a partition, as sgdisk tells them.
fn partition(disk: &Path, number: u32) -> (u64, u64) {
    let told = Cmd::new("sgdisk").arg(format!("--info={number}")).arg(disk).ok().stdout;
    let field = |name: &str| {
        let line =
            told.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {told}"));
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    (field("First sector: "), field("Partition size: "))
}

/// A partition as a file of its own.
fn cut(store: &Store, disk: &Path, number: u32) -> PathBuf {
    let (first, sectors) = partition(disk, number);
    let to = store.scratch.join(format!("partition-{number}"));
    let _ = std::fs::remove_file(&to);
    let words = format!("bs=512 skip={first} count={sectors} conv=sparse status=none");
    Cmd::new("dd")
        .arg(format!("if={}", disk.display()))
        .arg(format!("of={}", to.display()))
        .words(&words)
        .ok();
    Cmd::new("truncate").arg(format!("--size={}", sectors * SECTOR)).arg(&to).ok();
    to
}

/// A table without a fault, and three partitions without one.
#[track_caller]
fn whole(store: &Store, disk: &Path) {
    let told = Cmd::new("sgdisk").arg("--verify").arg(disk).ok().stdout;
    assert!(told.contains("No problems found"), "{told}");
    let esp = cut(store, disk, 1);
    let told = Cmd::new("fsck.vfat").args(["-n", "-v"]).arg(&esp).ok().stdout;
    assert!(told.contains("32 bit entries") && !told.contains("Dirty"), "{told}");
    sound(&cut(store, disk, 3));
}

/// A file of the boot partition.
fn of_esp(store: &Store, path: &str) -> Vec<u8> {
    let (esp, to) = (store.scratch.join("partition-1"), store.scratch.join("of-esp"));
    Cmd::new("mcopy").arg("-n").arg("-o").arg("-i").arg(esp).arg(format!("::{path}")).arg(&to).ok();
    std::fs::read(to).expect("read what was copied")
}

#[test]
fn a_disk_has_a_boot_partition_the_image_as_its_root_and_a_partition_for_data() {
    let Some((store, kernel)) = with_image() else { return };
    nasty::image(&store, true);
    let seen = Seen { nanoseconds: true, attributes: true };
    let expected = nasty::listing(&nasty::unpacked(&store, "nasty"), seen);
    let (file, again) = (store.scratch.join("a.disk"), store.scratch.join("b.disk"));
    for (root, id) in [("ext4", "08"), ("squashfs", "10"), ("erofs", "10")] {
        let pack = |to| {
            disk(&store, &kernel, "nasty", to)
                .words("--cmdline quiet --cmdline init.rescue=1 --root")
                .arg(root)
        };
        pack(&file).ok();
        pack(&again).ok();
        Cmd::new("cmp").arg(&file).arg(&again).ok();
        whole(&store, &file);
        let told = Cmd::new("sgdisk").arg("--info=2").arg(&file).ok().stdout;
        let uuid =
            told.lines().find_map(|line| line.strip_prefix("Partition unique GUID: ")).expect("a GUID");
        for line in ["4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "'root-a'", id] {
            assert!(told.contains(line), "{line}: {told}");
        }
        let of_root = cut(&store, &file, 2);
        if root == "ext4" {
            sound(&of_root);
            let at = mounted(&store.scratch, &of_root, "ro,loop");
            let found = nasty::listing(&at, seen);
            unmount(&at);
            nasty::same(expected.trim_end(), &without_lost_found(&found), "the root");
        }
        // The program that the firmware starts has all that the kernel needs as sections.
        let program = store.scratch.write("program", of_esp(&store, "EFI/BOOT/BOOTX64.EFI"));
        let section = |name: &str| {
            let to = store.scratch.join("section");
            let dump = format!("--dump-section={name}={}", to.display());
            Cmd::new("objcopy").args(["-O", "binary"]).arg(dump).arg(&program).arg("/dev/null").ok();
            std::fs::read(to).expect("read the section")
        };
        let cmdline = String::from_utf8(section(".cmdline")).expect("text");
        let mode = if root == "ext4" { "rw" } else { "ro" };
        let root = format!("root=PARTUUID={} rootfstype={root} {mode} rootwait", uuid.to_lowercase());
        assert_eq!(cmdline, format!("{root} quiet init.rescue=1"));
        assert_eq!(section(".uname"), b"9.9-tests");
        assert_eq!(section(".linux"), std::fs::read(&kernel).expect("read"));
        store.scratch.write("initrd.gz", section(".initrd"));
        let initrd =
            Cmd::new("sh").args(["-c", "gzip -dc initrd.gz | cpio -t"]).dir(store.scratch.path()).ok().stdout;
        for name in ["init", "etc/coracle/boot.conf", "etc/coracle/modules"] {
            assert!(initrd.lines().any(|line| line == name), "{name}: {initrd}");
        }
    }
    let size = std::fs::metadata(&file).expect("stat");
    assert!(
        size.blocks() * SECTOR * 4 < size.size(),
        "it is sparse: {} of {}",
        size.blocks() * SECTOR,
        size.size()
    );
}

#[test]
fn a_disk_grows_with_what_it_is_copied_to() {
    let Some((store, kernel)) = with_image() else { return };
    let file = store.scratch.join("a.disk");
    disk(&store, &kernel, "small", &file).words("--size 300M --root-size 40M").ok();
    let again = store.scratch.join("b.disk");
    disk(&store, &kernel, "small", &again).words("--size 300M --root-size 40M").ok();
    Cmd::new("cmp").arg(&file).arg(&again).ok();
    assert_eq!(std::fs::metadata(&file).expect("stat").len(), 300 << 20);
    whole(&store, &file);
    let ((root, _), (data, sectors)) = (partition(&file, 2), partition(&file, 3));
    assert_eq!(data - root, 2 * (40 << 20) / SECTOR, "a second root has room");
    assert_eq!((data + sectors) * SECTOR, 299 << 20, "the data reaches to the end");
    Cmd::new("truncate").args(["-s", "2G"]).arg(&file).ok();
    let grow = format!("--move-second-header --delete=3 --new=3:{data}:0 --change-name=3:data");
    Cmd::new("sgdisk").words(&grow).arg(&file).ok();
    let grown = cut(&store, &file, 3);
    Cmd::new("e2fsck").args(["-f", "-p"]).arg(&grown).ok();
    Cmd::new("resize2fs").arg(&grown).ok();
    sound(&grown);
    let blocks = Cmd::new("dumpe2fs").arg("-h").arg(&grown).ok().stdout;
    let blocks = blocks.lines().find_map(|line| line.strip_prefix("Block count:")).expect("blocks").trim();
    assert!(blocks.parse::<u64>().expect("a number") > (1500 << 20) / 4096, "{blocks}");
}

#[test]
fn a_board_finds_its_loader_where_it_looks_and_an_extlinux_conf() {
    let Some((store, kernel)) = with_image() else { return };
    let file = store.scratch.join("a.disk");
    let loader = store.scratch.write("u-boot.bin", vec![0x5a; 1 << 20]);
    let tree = store.scratch.write("a,board_v1.2-rev+3.dtb", b"\xd0\x0d\xfe\xedtree");
    let blob = |at: &str| format!("--blob={}@{at}", loader.display());
    disk(&store, &kernel, "small", &file).arg(blob("32K")).arg(blob("8M")).arg("--dtb").arg(&tree).ok();
    whole(&store, &file);
    assert_eq!(partition(&file, 1).0 * SECTOR, 9 << 20, "partitions begin behind blobs");
    let bytes = std::fs::read(&file).expect("read");
    for at in [32 << 10, 8 << 20] {
        assert!(bytes[at..at + (1 << 20)].iter().all(|byte| *byte == 0x5a) && bytes[at - 1] != 0x5a, "{at}");
    }
    let conf = String::from_utf8(of_esp(&store, "extlinux/extlinux.conf")).expect("text");
    for line in [
        "label root-a",
        "  kernel /root-a/vmlinuz",
        "  initrd /root-a/initrd",
        "  fdt /root-a/a,board_v1.2-rev+3.dtb",
    ] {
        assert!(conf.lines().any(|known| known == line), "{line}: {conf}");
    }
    assert_eq!(of_esp(&store, "root-a/a,board_v1.2-rev+3.dtb"), b"\xd0\x0d\xfe\xedtree");
    assert_eq!(of_esp(&store, "root-a/vmlinuz"), std::fs::read(&kernel).expect("read"));
}

#[test]
fn what_no_disk_can_be_is_refused_by_name() {
    let Some((store, kernel)) = with_image() else { return };
    let file = store.scratch.join("a.disk");
    let blob = store.scratch.write("blob", vec![1; 10_000]).display().to_string();
    let tree = store.scratch.write("what?.dtb", b"\xd0\x0d\xfe\xed").display().to_string();
    for (words, code, says) in [
        (
            format!("--blob={blob}@8K"),
            2,
            format!("--blob {blob}@8K: bytes 440 to 17407 of the disk hold its partition table"),
        ),
        (format!("--blob={blob}@0"), 2, "hold its partition table".to_owned()),
        (format!("--blob={blob}@1M --blob={blob}@1028K"), 2, format!("@1028K: it would overlap {blob}@1M")),
        (format!("--blob={blob}"), 2, "FILE@OFFSET".to_owned()),
        (format!("--blob={blob}@x"), 2, "a size is".to_owned()),
        ("--blob=/gone@1M".to_owned(), 1, "--blob /gone@1M".to_owned()),
        (format!("--dtb={blob}"), 1, format!("--dtb {blob}: it is no device tree")),
        (format!("--dtb={tree}"), 2, format!("--dtb {tree}: its name is not of letters")),
        (format!("--loader={blob}"), 1, "no program for EFI".to_owned()),
        ("--root=tar".to_owned(), 2, "--root tar: no kernel mounts that".to_owned()),
        ("--root=squashfs --label=x".to_owned(), 2, "--label".to_owned()),
        ("--label=a-label-of-many-bytes".to_owned(), 2, "--label a-label-of-many-bytes: ".to_owned()),
        ("--label=a\u{7f}".to_owned(), 2, "it holds a control character".to_owned()),
        ("--uuid=00000000-0000-0000-0000-000000000000".to_owned(), 2, "it is the UUID of nothing".to_owned()),
        ("--size=20M".to_owned(), 2, "--size: the disk takes".to_owned()),
        ("--root-size=8M --root=squashfs:gzip --size=8M".to_owned(), 2, "--size: the disk takes".to_owned()),
        (format!("--stub={blob}"), 1, "the stub is no program for EFI".to_owned()),
        ("--modules=no-such-module".to_owned(), 1, "no_such_module".to_owned()),
        ("--bootfs=x".to_owned(), 2, "--bootfs and --kernel".to_owned()),
    ] {
        let stub: &[&str] = if words.starts_with("--stub") { &[] } else { &["--stub", STUB] };
        let pack =
            store.rootfs_tool().args(["pack", "small", "--format=disk", "--kernel"]).arg(&kernel).args(stub);
        let said = pack.arg("-o").arg(&file).words(&words).fails(code).stderr;
        assert!(said.contains(&says), "{words}: {said}");
        assert!(!file.exists(), "{words}");
    }
    let said = store.rootfs_tool().words("pack small --format ext4 --kernel host -o x").fails(2).stderr;
    assert!(said.contains("--kernel is for disk"), "{said}");
}
