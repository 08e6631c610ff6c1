//! `rootfs-tool pack --format squashfs` and `erofs`: what they write, taken apart by the reference tools and mounted by the
//! kernel. fsck.erofs 1.5 knows LZ4 alone, and extracts no attributes and no second names: those the kernel is asked for.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_tests::nasty::{self, Seen};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, need};

/// What else formats fall over: a directory of 5,000 names, a large file with a second name and a copy, times outside
/// of 32 bits.
const MORE: &str = r#"
import io, random, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)
noise = random.Random(3)
def put(name, data=b'', kind=tarfile.REGTYPE, mtime=1600000000, link='', **pax):
    t = tarfile.TarInfo(name)
    t.type, t.mode, t.size, t.mtime, t.linkname, t.pax_headers = kind, 0o755, len(data), mtime, link, pax
    out.addfile(t, io.BytesIO(data))
put('.', kind=tarfile.DIRTYPE)
put('names', kind=tarfile.DIRTYPE)
for n in range(5000):
    put('names/%s%d' % ('long-' * 8, n), b'%d' % n)
words = [noise.randbytes(noise.randrange(3, 40)) for _ in range(5000)]
large = b''.join(noise.choice(words) for _ in range(2000000))[:40 << 20]
put('large', large)
put('copy of it', large)
put('link to it', kind=tarfile.LNKTYPE, link='large')
put('ancient', mtime=-300000000)
put('far off', mtime=5000000000)
put('mostly zeros', b'begin' + bytes(3 << 20) + b'end')
put('capable', b'\x7fELF', **{'SCHILY.xattr.security.capability': '\x01\x00\x00\x02\x00 \x00\x00' + '\0' * 12})
out.close()
"#;

fn import(store: &Store, script: &str, name: &str) {
    let tar = store.scratch.join(format!("{name}.tar"));
    Cmd::new("sh").args(["-c", "python3 -c \"$1\" >\"$2\"", "sh", script]).arg(&tar).ok();
    store.rootfs_tool().arg("import").arg(&tar).arg(name).ok();
}

fn pack(store: &Store, format: &str, image: &str) -> PathBuf {
    let to = store.scratch.join(format!("{image}-{}", format.replace(':', "-")));
    store.rootfs_tool().args(["pack", "--format", format, image, "-o"]).arg(&to).ok();
    to
}

/// The tree of an image as the reference tool unpacks it.
fn taken_apart(packed: &Path, erofs: bool) -> PathBuf {
    let to = packed.with_extension("tree");
    if erofs {
        Cmd::new("fsck.erofs").arg("--extract=".to_owned() + to.to_str().expect("UTF-8")).arg(packed).ok();
    } else {
        let unsquashfs = Cmd::new("unsquashfs").args(["-quiet", "-no-progress", "-strict-errors", "-d"]);
        unsquashfs.arg(&to).arg(packed).ok();
    }
    to
}

/// Mounts an image where the kernel can, for as long as this is there.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, packed: &Path) -> Option<Self> {
        let known = || std::fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.contains(kind));
        if !known() && (Cmd::new("modprobe").arg(kind).run().code() != 0 || !known()) {
            println!("left out: this kernel has no {kind}");
            return None;
        }
        let at = packed.with_extension("mounted");
        std::fs::create_dir(&at).expect("make a folder");
        Cmd::new("mount").args(["-t", kind, "-o", "loop,ro"]).arg(packed).arg(&at).ok();
        Some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Cmd::new("umount").arg(&self.0).run();
    }
}

fn ready() -> bool {
    ["python3", "unsquashfs", "fsck.erofs"].iter().all(|peer| need(Privilege::Peer(peer)))
        && need(Privilege::Root)
}

/// A listing without what fsck.erofs does not extract: how many names a file has, and setuid, which its chown(2) takes away.
fn without_names(listing: &str) -> String {
    let file = |line: &str| -> String {
        let mut words: Vec<&str> = line.split(' ').collect();
        if let Some(mode) = words.iter().position(|word| word.len() == 8 && word.starts_with("0o10")) {
            words.remove(mode + 4);
        }
        words.join(" ").replace(" 0o104", " 0o100")
    };
    listing.lines().map(file).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_file_system_is_the_image_to_the_reference_tool_and_to_the_kernel_and_the_same_every_time() {
    if !ready() {
        return;
    }
    let store = Store::new("pack-fs");
    nasty::image(&store, true);
    let tree = nasty::unpacked(&store, "nasty");
    for format in [
        "squashfs",
        "squashfs:zstd",
        "squashfs:zstd:1",
        "squashfs:xz:1",
        "squashfs:gzip:1",
        "erofs",
        "erofs:lz4",
        "erofs:lz4hc",
        "erofs:lzma:0",
    ] {
        let packed = pack(&store, format, "nasty");
        let first = std::fs::read(&packed).expect("read");
        let again = std::fs::read(pack(&store, format, "nasty")).expect("read");
        assert!(first == again, "{format} is the same twice");
        let erofs = format.starts_with("erofs");
        let seen = Seen { nanoseconds: erofs, attributes: true };
        if format != "erofs:lzma:0" {
            let seen = Seen { attributes: !erofs, ..seen };
            let (mut expected, mut found) =
                (nasty::listing(&tree, seen), nasty::listing(&taken_apart(&packed, erofs), seen));
            if erofs {
                (expected, found) = (without_names(&expected), without_names(&found));
            }
            nasty::same(&expected, &found, &format!("{format}, taken apart"));
        }
        if let Some(mounted) = Mounted::new(format.split(':').next().expect("a word"), &packed) {
            let (expected, found) = (nasty::listing(&tree, seen), nasty::listing(&mounted.0, seen));
            nasty::same(&expected, &found, &format!("{format}, mounted"));
        }
    }
}

#[test]
fn large_files_and_folders_come_whole_and_equal_files_are_stored_once() {
    if !ready() {
        return;
    }
    let store = Store::new("pack-fs");
    import(&store, MORE, "more");
    let tree = nasty::unpacked(&store, "more");
    for format in ["squashfs:gzip:1", "erofs", "erofs:lz4"] {
        let packed = pack(&store, format, "more");
        let size = packed.metadata().expect("look at it").size();
        assert!(size < 42 << 20, "{format}: {size} bytes: the copy is stored again");
        let erofs = format.starts_with("erofs");
        let seen = Seen { nanoseconds: erofs, attributes: true };
        let mut expected = nasty::listing(&tree, seen);
        if !erofs {
            // It has 32 bits for seconds from 1970 on: what is outside becomes the nearest.
            expected = expected.replace(" 5000000000 ", " 4294967295 ").replace(" -300000000 ", " 0 ");
            nasty::same(&expected, &nasty::listing(&taken_apart(&packed, false), seen), format);
        }
        if let Some(mounted) = Mounted::new(format.split(':').next().expect("a word"), &packed) {
            nasty::same(&expected, &nasty::listing(&mounted.0, seen), &format!("{format}, mounted"));
            let same = |a: &str, b: &str| {
                let ino = |name| mounted.0.join(name).metadata().expect("look").ino();
                ino(a) == ino(b)
            };
            assert!(same("large", "link to it") && !same("large", "copy of it"));
        }
        if erofs {
            Cmd::new("fsck.erofs").arg("--extract").arg(&packed).ok();
        }
    }
}

/// Where content ends and blocks do not: zeros, then noise, of any length; holes that are worth an index, from the first
/// to the last MiB; and an inode that ends with the image.
const ENDS: &str = r#"
import io, random, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
noise = random.Random(7)
def put(name, data=b'', kind=tarfile.REGTYPE):
    t = tarfile.TarInfo(name)
    t.type, t.mode, t.size, t.mtime = kind, 0o755, len(data), 1000
    out.addfile(t, io.BytesIO(data))
put('.', kind=tarfile.DIRTYPE)
put('known', bytes(65537) + noise.randbytes(65536))
for n in range(150):
    put('f%d' % n, bytes(noise.randrange(20000)) + noise.randbytes(noise.randrange(20000)))
put('full', b'x' * (5000 << 12))
put('holes', (noise.randbytes(31 << 12) + bytes(1 << 12)) * 256)
put('d', kind=tarfile.DIRTYPE)
for n in range(83):
    put('d/p%d' % n, kind=tarfile.FIFOTYPE)
out.close()
"#;

#[test]
fn content_that_ends_anywhere_is_read_by_the_kernel_to_its_end() {
    if !ready() || !need(Privilege::Peer("e2fsck")) {
        return;
    }
    let store = Store::new("pack-fs");
    import(&store, ENDS, "ends");
    let tree = nasty::unpacked(&store, "ends");
    for format in ["erofs", "erofs:lz4", "erofs:lz4hc", "erofs:lzma:0", "squashfs:gzip:1", "ext4"] {
        let packed = pack(&store, format, "ends");
        if format == "erofs" {
            let size = |file: &Path| file.metadata().expect("look at it").size();
            let (size, tar) = (size(&packed), size(&store.scratch.join("ends.tar")));
            assert!(size < tar - (3 << 19), "{size} of {tar}: holes are stored");
        }
        let kind = format.split(':').next().expect("a word");
        match kind {
            "erofs" => drop(Cmd::new("fsck.erofs").arg(&packed).ok()),
            "ext4" => drop(Cmd::new("e2fsck").args(["-f", "-n"]).arg(&packed).ok()),
            _ => {}
        }
        let Some(mounted) = Mounted::new(kind, &packed) else { continue };
        let differ = Cmd::new("diff").args(["-r", "--no-dereference", "-x", "d", "-x", "lost+found"]);
        let differ = differ.arg(&tree).arg(&mounted.0).run();
        assert_eq!((differ.stdout.as_str(), differ.stderr.as_str()), ("", ""), "{format}");
    }
    // The least that an ext4 takes of such a file ends with it.
    for blocks in [1000, 5000] {
        let name = format!("full{blocks}");
        let file = store.scratch.mkdir(&name);
        store.scratch.write(format!("{name}/f"), vec![b'x'; blocks << 12]);
        let tar = store.scratch.join(format!("{name}.tar"));
        Cmd::new("tar").arg("-C").arg(&file).arg("-cf").arg(&tar).arg(".").ok();
        store.rootfs_tool().arg("import").arg(&tar).arg(&name).ok();
        let packed = pack(&store, "ext4", &name);
        let Some(mounted) = Mounted::new("ext4", &packed) else { continue };
        Cmd::new("cmp").arg(file.join("f")).arg(mounted.0.join("f")).ok();
    }
}

#[test]
fn a_volume_has_the_label_and_the_identifier_that_were_given() {
    let store = Store::new("pack-fs");
    if !need(Privilege::Peer("busybox")) || Image::busybox().map(|i| i.compose(&store, "small")).is_none() {
        return;
    }
    let to = store.scratch.join("small.erofs");
    let pack = |words: &str| store.rootfs_tool().args(["pack", "small", "-o"]).arg(&to).words(words).run();
    let told = |field: &str| {
        Cmd::new("blkid").args(["-p", "-o", "value", "-s", field]).arg(&to).ok().text().to_owned()
    };
    pack("").ok();
    let derived = told("UUID");
    pack("").ok();
    assert_eq!((told("UUID"), told("LABEL"), told("TYPE")), (derived.clone(), String::new(), "erofs".into()));
    pack("--label root-a").ok();
    assert_eq!((told("UUID"), told("LABEL")), (derived.clone(), "root-a".into()));
    pack("--format erofs:lz4").ok();
    assert_ne!(told("UUID"), derived, "what is compressed is another volume");
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    pack(&format!("--uuid {uuid}")).ok();
    assert_eq!(told("UUID"), uuid);
    let refused = pack("--label seventeen-bytes--").fails(2);
    assert!(refused.stderr.contains("more than 16 bytes"), "{}", refused.stderr);
}

#[test]
fn what_a_file_system_cannot_hold_is_refused_by_name_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let store = Store::new("pack-fs");
    let put = |change: &str| {
        format!(
            "import io,sys,tarfile\nout=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.PAX_FORMAT)\n\
             t=tarfile.TarInfo('some/file')\n{change}\nout.addfile(t)\nout.close()"
        )
    };
    // Besides owner, group and others: user 1000, and the mask of both.
    let acl = "import struct;u=2**32-1;l=[(1,6,u),(2,6,1000),(4,4,u),(16,6,u),(32,4,u)];\
               v=struct.pack('<I',2)+b''.join(struct.pack('<HHI',*e) for e in l);\
               t.pax_headers={'SCHILY.xattr.system.posix_acl_access':v.decode('utf-8','surrogateescape')}";
    for (n, (change, format, says)) in [(acl, "squashfs", "system.posix_acl_access")].into_iter().enumerate()
    {
        let image = format!("refused{n}");
        import(&store, &put(change), &image);
        let to = store.scratch.join("refused");
        let pack = store.rootfs_tool().args(["pack", "--format", format, &image, "-o"]).arg(&to);
        let refused = pack.fails(1);
        assert!(refused.stderr.contains(says) && refused.stderr.contains("some/file"), "{}", refused.stderr);
        assert!(!to.exists(), "{change}");
    }
    let piped = store.rootfs_tool().words("pack --format squashfs refused0").fails(2);
    assert!(piped.stderr.contains("use -o FILE"), "{}", piped.stderr);
}
