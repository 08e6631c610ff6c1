//! An image of all that formats of file systems differ over, and what is to be seen of a tree.

use std::path::{Path, PathBuf};

use crate::{Cmd, Store};

/// Writes the tar of one: names of 255 bytes and of bytes that are no text, hard links across directories, holes, sizes at
/// the borders of blocks, devices, fifos, ids beyond 16 bits, all bits of modes, times to the nanosecond, and a directory of
/// many names. Small enough to be packed many times.
const MAKE: &str = r#"
import io, random, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)
noise = random.Random(7)
def put(name, kind=tarfile.REGTYPE, data=b'', mode=0o644, owner=(0, 0), mtime=1700000000.25, link='', number=(0, 0), **pax):
    t = tarfile.TarInfo(name)
    t.type, t.mode, t.size, t.mtime, t.linkname = kind, mode, len(data), mtime, link
    t.uid, t.gid = owner
    t.devmajor, t.devminor = number
    t.pax_headers = pax
    out.addfile(t, io.BytesIO(data))
D, L, H = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
put('.', D, mode=0o755)
for name, mode in [('dir', 0o755), ('dir/deep', 0o2775), ('dir/deep/er', 0o700), ('tmp', 0o1777), ('empty', 0o755), ('many', 0o755)]:
    put(name, D, mode=mode)
put('dir/setuid', data=b'#!/bin/sh\n', mode=0o4755)
put('dir/none', mode=0)
put('dir/file', data=b'several names', owner=(1000, 100))
put('dir/deep/second', H, link='dir/file')
put('a-third', H, link='dir/file')
put('link', L, link='dir/file')
put('far', L, link='x/' * 300 + 'y')
put('n' * 255, data=b'long')
put('caf\udce9', data=b'no text')
for size in [1, 4095, 4096, 4097, 131071, 131072, 131073]:
    put('size-%d' % size, data=noise.randbytes(size))
put('zeros', data=bytes(300000))
put('mixed', data=bytes(200000) + noise.randbytes(5000) + bytes(70000))
put('text', data=b''.join(b'%d bottles on the wall\n' % n for n in range(20000)))
put('twice', data=noise.randbytes(50000))
put('again', data=b'x' * 100000)
put('once more', data=b'x' * 100000)
put('owned', data=b'by many', owner=(3000000000, 70000))
put('old', data=b'', mtime=1)
put('later', data=b'', mtime=4000000000)
put('fifo', tarfile.FIFOTYPE)
put('null', tarfile.CHRTYPE, mode=0o666, number=(1, 3))
put('block', tarfile.BLKTYPE, mode=0o660, number=(259, 70000))
for n in range(3000):
    put('many/%d-%s' % (n, 'name' * (n % 20)), data=b'%d' % n if n % 3 else b'')
if len(sys.argv) > 1:
    put('ping', data=b'\x7fELF', mode=0o755, **{'SCHILY.xattr.security.capability': '\x01\x00\x00\x02\x00 \x00\x00' + '\0' * 12})
    put('dir/attributes', D, **{'SCHILY.xattr.user.one': 'value', 'SCHILY.xattr.user.two': 'w' * 300})
    put('more', data=b'more', **{'SCHILY.xattr.user.one': 'value', 'SCHILY.xattr.trusted.%s' % ('k' * 200): ''})
out.close()
"#;

/// Put one into a store, as `nasty`, with extended attributes or without.
pub fn image(store: &Store, attributes: bool) {
    let make = "python3 -c \"$1\" $2 >\"$3\"";
    let tar = store.scratch.join("nasty.tar");
    let more = if attributes { "attributes" } else { "" };
    Cmd::new("sh").args(["-c", make, "sh", MAKE, more]).arg(&tar).ok();
    store.rootfs_tool().arg("import").arg(&tar).arg("nasty").ok();
}

/// An image's whole tree, as `export` and tar have it. It takes root.
pub fn unpacked(store: &Store, image: &str) -> PathBuf {
    let to = store.scratch.mkdir(format!("tree-{image}"));
    let tar = store.scratch.join(format!("{image}-tree.tar"));
    store.rootfs_tool().args(["export", "-o"]).arg(&tar).arg(image).ok();
    Cmd::new("tar")
        .words("--xattrs --xattrs-include=* --numeric-owner --delay-directory-restore -xpf")
        .arg(&tar)
        .arg("-C")
        .arg(&to)
        .ok();
    std::fs::remove_file(tar).expect("remove the tar");
    to
}

/// What a listing shows besides names, kinds, modes, owners, link counts, sizes, targets, device numbers and contents.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// Times, in nanoseconds rather than seconds when this says so.
    pub nanoseconds: bool,
    /// Extended attributes.
    pub attributes: bool,
}

/// Every path of a tree with what is to be seen of it, one line each.
pub fn listing(dir: &Path, seen: Seen) -> String {
    const LIST: &str = r#"
import hashlib, os, stat, sys
top, nanoseconds, attributes = os.fsencode(sys.argv[1]), sys.argv[2] == '1', sys.argv[3] == '1'
def show(path):
    s, full = os.lstat(os.path.join(top, path)), os.path.join(top, path)
    kind = stat.S_IFMT(s.st_mode)
    words = [repr(path), oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns if nanoseconds else s.st_mtime_ns // 10**9]
    if kind == stat.S_IFREG:
        words += [s.st_nlink, s.st_size, hashlib.sha256(open(full, 'rb').read()).hexdigest()[:16]]
    if kind == stat.S_IFLNK:
        words.append(os.readlink(full))
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        words += [os.major(s.st_rdev), os.minor(s.st_rdev)]
    if attributes:
        words += [(n, os.getxattr(full, n, follow_symlinks=False)) for n in sorted(os.listxattr(full, follow_symlinks=False))]
    print(*words)
show(b'.')
for dir, dirs, files in os.walk(top):
    dirs.sort()
    for name in sorted(dirs + files):
        show(os.path.relpath(os.path.join(dir, name), top))
"#;
    let flag = |on: bool| if on { "1" } else { "0" };
    let list = Cmd::new("python3").args(["-c", LIST]).arg(dir);
    list.args([flag(seen.nanoseconds), flag(seen.attributes)]).ok().stdout
}

/// Panic with the lines that differ.
#[track_caller]
pub fn same(expected: &str, found: &str, what: &str) {
    if expected == found {
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (expected, found) = (lines(expected), lines(found));
    let missing: Vec<&String> = expected.difference(&found).take(10).collect();
    let more: Vec<&String> = found.difference(&expected).take(10).collect();
    panic!("{what}: the image has\n{missing:#?}\nand what was packed has\n{more:#?}");
}
