//! `rootfs-tool pack --format squashfs`: what it writes, taken apart by the reference tool and mounted by the kernel.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_tests::nasty::{self, Seen};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

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
fn taken_apart(scratch: &Scratch, packed: &Path) -> PathBuf {
    let to = packed.with_extension("tree");
    Cmd::new("unsquashfs").args(["-quiet", "-no-progress", "-strict-errors", "-d"]).arg(&to).arg(packed).ok();
    assert!(to.starts_with(scratch.path()));
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
    need(Privilege::Root) && need(Privilege::Peer("python3")) && need(Privilege::Peer("unsquashfs"))
}

#[test]
fn a_file_system_is_the_image_to_the_reference_tool_and_to_the_kernel_and_the_same_every_time() {
    if !ready() {
        return;
    }
    let store = Store::new("pack-fs");
    nasty::image(&store, true);
    let seen = Seen { nanoseconds: false, attributes: true };
    let expected = nasty::listing(&nasty::unpacked(&store, "nasty"), seen);
    for format in ["squashfs", "squashfs:zstd", "squashfs:zstd:1", "squashfs:xz:1", "squashfs:gzip:1"] {
        let packed = pack(&store, format, "nasty");
        let first = std::fs::read(&packed).expect("read");
        let again = std::fs::read(pack(&store, format, "nasty")).expect("read");
        assert!(first == again, "{format} is the same twice");
        let apart = taken_apart(&store.scratch, &packed);
        nasty::same(&expected, &nasty::listing(&apart, seen), &format!("{format}, taken apart"));
        if let Some(mounted) = Mounted::new("squashfs", &packed) {
            nasty::same(&expected, &nasty::listing(&mounted.0, seen), &format!("{format}, mounted"));
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
    let seen = Seen { nanoseconds: false, attributes: true };
    // The format has 32 bits for seconds from 1970 on: what is outside becomes the nearest.
    let squeezed =
        |listing: String| listing.replace(" 5000000000 ", " 4294967295 ").replace(" -300000000 ", " 0 ");
    let expected = squeezed(nasty::listing(&nasty::unpacked(&store, "more"), seen));
    let packed = pack(&store, "squashfs:gzip:1", "more");
    let size = packed.metadata().expect("look at it").size();
    assert!(size < 40 << 20, "{size} bytes: the copy is stored again");
    nasty::same(&expected, &nasty::listing(&taken_apart(&store.scratch, &packed), seen), "taken apart");
    if let Some(mounted) = Mounted::new("squashfs", &packed) {
        nasty::same(&expected, &nasty::listing(&mounted.0, seen), "mounted");
        let same = |a: &str, b: &str| {
            let ino = |name| mounted.0.join(name).metadata().expect("look").ino();
            ino(a) == ino(b)
        };
        assert!(same("large", "link to it") && !same("large", "copy of it"));
    }
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
