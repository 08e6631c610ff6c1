//! What an applier must get right, on both drivers: hostile archives, and what honest ones mean.
//! Every case is applied under overlay and under vfs, and both must show the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use coracle_sys::Result;
use coracle_sys::file::{remove_tree, unique_name};

use super::walk::Walk;
use super::{Limits, walk};
use crate::digest::Digest;
use crate::driver::{Driver, overlay};
use crate::write::PutLayer;
use crate::{Locations, Store};

/// A tar, written byte by byte, so that it can be as wrong as a test wants.
#[derive(Clone, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    fn header(name: &[u8], kind: u8, size: &str, link: &[u8], mode: u32) -> [u8; 512] {
        let mut h = [0u8; 512];
        h[..name.len()].copy_from_slice(name);
        h[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        h[108..115].copy_from_slice(b"0000000");
        h[116..123].copy_from_slice(b"0000000");
        h[124..124 + size.len()].copy_from_slice(size.as_bytes());
        h[136..147].copy_from_slice(b"00000000007");
        h[156] = kind;
        h[157..157 + link.len()].copy_from_slice(link);
        h[257..265].copy_from_slice(b"ustar\x0000");
        h
    }

    fn put(mut self, mut h: [u8; 512], data: &[u8]) -> Self {
        h[148..156].copy_from_slice(b"        ");
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&h);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, name: &[u8], kind: u8, data: &[u8], link: &[u8], mode: u32) -> Self {
        let size = format!("{:011o}", data.len());
        self.put(Self::header(name, kind, &size, link, mode), data)
    }

    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(name.as_bytes(), b'5', b"", b"", mode)
    }

    pub(super) fn file(self, name: &str, text: &str) -> Self {
        self.entry(name.as_bytes(), b'0', text.as_bytes(), b"", 0o644)
    }

    pub(super) fn link(self, name: &str, to: &str) -> Self {
        self.entry(name.as_bytes(), b'2', b"", to.as_bytes(), 0o777)
    }

    fn hard(self, name: &str, to: &str) -> Self {
        self.entry(name.as_bytes(), b'1', b"", to.as_bytes(), 0o666)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (rest + 1..).find(|l| rest + l.to_string().len() == *l).unwrap();
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(b"pax", b'x', &data, b"", 0o644)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A stack of layers in a store of its own, and a canary beside the store.
struct Stack {
    dir: PathBuf,
    store: Store,
    ids: Vec<Digest>,
}

impl Stack {
    fn new(driver: Driver) -> Self {
        let dir = std::env::temp_dir().join(unique_name("coracle-layers-"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("canary")).unwrap();
        fs::write(dir.join("canary/file"), "canary").unwrap();
        let mut store = Store::open(&Locations { main: dir.join("s"), behind: Vec::new() }).unwrap();
        store.create(Some(driver)).unwrap();
        Self { dir, store, ids: Vec::new() }
    }

    fn put(&mut self, tar: &[u8]) -> Result<PutLayer> {
        let put = self.store.begin()?.put_layer_from_tar(tar, &self.ids)?;
        self.ids.push(put.diff_id);
        Ok(put)
    }

    /// Look at the stack as a container would see it.
    fn look<T>(&self, see: impl FnOnce(&Path) -> T) -> Option<T> {
        if self.store.driver() == Driver::Vfs {
            return Some(see(&self.store.stack_paths(&self.ids).unwrap()[0]));
        }
        let dirs = self.store.stack_dirs(&self.ids).unwrap();
        match overlay::mount(&dirs, None, overlay::Options::of_this_process(false)) {
            Ok(m) => Some(see(Path::new(&format!("/proc/self/fd/{}/", m.as_raw_fd())))),
            Err(e) => {
                assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{e}");
                println!("skipped: {e}");
                None
            }
        }
    }

    fn canary_lives(&self) {
        assert_eq!(fs::read_to_string(self.dir.join("canary/file")).unwrap(), "canary");
        let m = fs::metadata(self.dir.join("canary/file")).unwrap();
        assert_eq!((m.nlink(), m.mode() & 0o7777), (1, 0o644));
        assert_eq!(fs::read_dir(self.dir.join("canary")).unwrap().count(), 1);
        assert_eq!(fs::metadata(self.dir.join("canary")).unwrap().mode() & 0o7777, 0o755);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = remove_tree(&self.dir);
    }
}

/// What a tree holds: per path its type, mode, and content or target.
fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        // A directory of mode 0 opens for root only.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let m = fs::symlink_metadata(&path).unwrap();
            let t = m.file_type();
            let what = if t.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if t.is_dir() {
                todo.push(path.clone());
                format!("dir {:o} {}", m.mode() & 0o7777, m.mtime())
            } else if t.is_file() {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                format!("file {:o} {} {text}", m.mode() & 0o7777, m.mtime())
            } else {
                format!("special {:o} {}", m.mode(), m.rdev())
            };
            out.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), what);
        }
    }
    out
}

/// Apply layers with both drivers; both must show the same, and neither touch the canary.
fn see(layers: &[Tar]) -> BTreeMap<String, String> {
    let mut shown: Vec<BTreeMap<String, String>> = Vec::new();
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        for tar in layers {
            stack.put(&tar.clone().end()).unwrap();
        }
        shown.extend(stack.look(describe));
        stack.canary_lives();
    }
    if let [vfs, overlay] = &shown[..] {
        assert_eq!(vfs, overlay, "vfs (left) and overlay (right) differ");
    }
    shown.remove(0)
}

fn paths(layers: &[Tar]) -> Vec<String> {
    see(layers).into_keys().collect()
}

/// Each driver must refuse the last layer, and leave the canary alone.
fn refused(layers: &[Tar]) -> String {
    let mut said = String::new();
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        let (last, first) = layers.split_last().unwrap();
        for tar in first {
            stack.put(&tar.clone().end()).unwrap();
        }
        said = stack.put(&last.clone().end()).unwrap_err().to_string();
        stack.canary_lives();
        assert_eq!(fs::read_dir(stack.dir.join("s/tmp")).unwrap().count(), 0, "what failed is gone");
        assert_eq!(fs::read_dir(stack.dir.join("s/blobs/sha256")).unwrap().count(), first.len());
    }
    said
}

#[test]
fn an_entry_that_is_the_root_and_no_directory_never_replaces_it() {
    for name in [".", "/", "./", "./.", "//"] {
        for kind in *b"0123467" {
            if name.ends_with('/') && matches!(kind, b'0' | b'7') {
                continue; // old archives write directories so
            }
            let tar = Tar::new().file("kept", "").entry(name.as_bytes(), kind, b"", b"/etc", 0o777);
            let e = refused(&[tar]);
            assert!(e.contains("root"), "{name:?} {}: {e}", char::from(kind));
        }
    }
}

#[test]
fn whiteouts_of_dot_and_dot_dot_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", "../.wh..."] {
        refused(&[Tar::new().dir("d", 0o755).file("d/f", ""), Tar::new().file(name, "")]);
    }
}

/// Where a link in an image may point on the host: the canary, by every route.
fn routes_out(stack: &Path) -> Vec<String> {
    let canary = stack.join("canary").to_string_lossy().into_owned();
    vec![
        canary.clone(),
        format!("../../../../../../../../../../../../..{canary}"),
        format!("/proc/self/root{canary}"),
    ]
}

#[test]
fn a_link_to_the_host_is_never_followed_out_of_the_root() {
    type Second = fn(Tar) -> Tar;
    let seconds: [(&str, Second); 8] = [
        ("write", |t| t.file("l/file", "bad")),
        ("write new", |t| t.file("l/new", "bad")),
        ("whiteout", |t| t.file("l/.wh.file", "")),
        ("opaque", |t| t.file("l/.wh..wh..opq", "")),
        ("hard link", |t| t.hard("stolen", "l/file")),
        ("directory", |t| t.dir("l/sub", 0o777)),
        ("directory itself", |t| t.dir("l", 0o700)),
        ("chmod by link", |t| t.hard("l2", "l").entry(b"l2", b'5', b"", b"", 0o7777)),
    ];
    for driver in [Driver::Vfs, Driver::Overlay] {
        for (what, second) in seconds {
            for n in 0..3 {
                for one_layer in [true, false] {
                    let mut stack = Stack::new(driver);
                    let out = &routes_out(&stack.dir)[n];
                    // The target may be too long for a ustar header.
                    let first = Tar::new().pax(&[("linkpath", out.as_bytes())]).link("l", "x");
                    let results = if one_layer {
                        vec![stack.put(&second(first).end())]
                    } else {
                        vec![stack.put(&first.end()), stack.put(&second(Tar::new()).end())]
                    };
                    stack.canary_lives();
                    // A link to a file that is not in the tree is an error; all else is applied inside.
                    let ok = results.iter().all(Result::is_ok);
                    assert_eq!(ok, what != "hard link", "{driver} {what} {out}: {results:?}");
                }
            }
        }
    }
}

#[test]
fn dot_dot_stays_inside() {
    assert_eq!(paths(&[Tar::new().file("../../../x", "1").file("a/../../y", "2")]), ["a", "x", "y"]);
    refused(&[Tar::new().file("a/..", "")]);
    refused(&[Tar::new().hard("x", "../../canary/file")]);
    refused(&[Tar::new().file("", "")]);
}

#[test]
fn a_loop_of_links_is_an_error() {
    let e = refused(&[Tar::new().link("a", "b").link("b", "a").file("a/x", "")]);
    assert!(e.contains("symbolic links"), "{e}");
}

#[test]
fn a_directory_after_a_link_of_its_name_leaves_the_target_alone() {
    let t = Tar::new().dir("real", 0o755).link("d", "real").dir("d", 0o700);
    let seen = see(&[t]);
    assert_eq!((&*seen["real"], &*seen["d"]), ("dir 755 7", "dir 700 7"));
}

fn walk_all(tar: &[u8]) -> Result<Vec<(walk::Entry, Vec<u8>)>> {
    walk_limited(tar, Limits::default())
}

fn walk_limited(tar: &[u8], limits: Limits) -> Result<Vec<(walk::Entry, Vec<u8>)>> {
    let mut walk = Walk::new(tar, limits);
    let mut out = Vec::new();
    while let Some(entry) = walk.next_entry()? {
        let mut data = Vec::new();
        let mut buf = [0; 300];
        loop {
            match walk.read_data(&mut buf)? {
                0 => break,
                n => data.extend_from_slice(&buf[..n]),
            }
        }
        out.push((entry, data));
    }
    Ok(out)
}

#[test]
fn a_pax_size_beats_the_headers_and_belongs_to_the_file() {
    for ustar_size in ["00000000000", "00000001000", "00000000001"] {
        let data = [b'a'; 700];
        let tar = Tar::new()
            .pax(&[("size", b"700")])
            .entry(b"././@LongLink", b'L', b"a-long-name\0", b"", 0)
            .put(Tar::header(b"short", b'0', ustar_size, b"", 0o644), &data)
            .file("after", "x");
        let all = walk_all(&tar.end()).unwrap();
        assert_eq!(all[0].0.path, b"a-long-name");
        assert_eq!((all[0].0.size, &all[0].1[..]), (700, &data[..]));
        assert_eq!((&all[1].0.path[..], &all[1].1[..]), (&b"after"[..], &b"x"[..]));
    }
}

#[test]
fn what_is_no_sound_archive_is_an_error_and_never_a_hang() {
    let good = Tar::new().file("f", "text").end();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("text".into(), b"this is not a tar".repeat(100)),
        ("a block of text".into(), vec![b'x'; 512]),
        ("a zip".into(), [b"PK\x03\x04", &[0u8; 600][..]].concat()),
        ("an extension at the end".into(), Tar::new().pax(&[("path", b"x")]).end()),
        ("an unknown type".into(), Tar::new().entry(b"x", b'M', b"", b"", 0).end()),
        ("a size that is no number".into(), Tar::new().put(Tar::header(b"x", b'0', "zz", b"", 0), b"").end()),
        ("zeros in between".into(), [&[0; 512], &good[..]].concat()),
        ("a NUL in a name".into(), Tar::new().pax(&[("path", b"a\0b")]).file("x", "").end()),
    ];
    for n in [1, 100, 511, 513, 515, 600, 1023] {
        cases.push((format!("cut at {n}"), good[..n].to_vec()));
    }
    let mut bad_sum = good.clone();
    bad_sum[0] = b'g';
    cases.push(("a wrong checksum".into(), bad_sum));
    for record in [
        &b"5 a=b\n"[..],
        b"x a=b\n",
        b"99 a=b\n",
        b"6 a=b",
        b"0 \n",
        b"3 \n",
        b"9999999999999999999999 a=b\n",
    ] {
        let tar = Tar::new().entry(b"p", b'x', record, b"", 0).file("x", "").end();
        cases.push((format!("the record {:?}", String::from_utf8_lossy(record)), tar));
    }
    for (key, value) in
        [("size", "-1"), ("size", "1e3"), ("size", "99999999999999999999"), ("mtime", "x"), ("uid", "-1")]
    {
        cases
            .push((format!("{key}={value}"), Tar::new().pax(&[(key, value.as_bytes())]).file("x", "").end()));
    }
    for (what, tar) in cases {
        assert!(walk_all(&tar).is_err(), "{what}");
    }
}

#[test]
fn odd_endings_of_archives_are_accepted() {
    let whole = Tar::new().file("f", "text").end();
    for (what, tar, entries) in [
        ("no end blocks", whole[..1024].to_vec(), 1),
        ("one end block", whole[..1536].to_vec(), 1),
        ("bytes after the end", [&whole[..], b"anything"].concat(), 1),
        ("only zeros", vec![0; 10240], 0),
        ("nothing", Vec::new(), 0),
    ] {
        assert_eq!(walk_all(&tar).unwrap_or_else(|e| panic!("{what}: {e}")).len(), entries, "{what}");
    }
}

#[test]
fn caps_hold_and_nothing_is_allocated_for_a_claim() {
    let claim = Tar::new().put(Tar::header(b"big", b'0', "", b"", 0o644), b"");
    let mut header: [u8; 512] = claim.0[..512].try_into().unwrap();
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]); // 2^62
    let e = walk_all(&Tar::new().put(header, b"").end()).unwrap_err().to_string();
    assert!(e.contains("larger than"), "{e}");
    header[156] = b'x';
    assert!(walk_all(&Tar::new().put(header, b"").end()).unwrap_err().to_string().contains("extension"));
    let limits = Limits { entries: 2, ..Limits::default() };
    let three = Tar::new().file("a", "").file("b", "").file("c", "").end();
    assert!(walk_limited(&three, limits).unwrap_err().to_string().contains("more than 2 entries"));
    let limits = Limits { size: 3, ..Limits::default() };
    assert!(walk_limited(&Tar::new().file("a", "12").file("b", "34").end(), limits).is_err());
    let deep = "d/".repeat(300);
    assert!(refused(&[Tar::new().pax(&[("path", deep.as_bytes())]).dir("x", 0o755)]).contains("deeper"));
}

#[test]
fn numbers_are_read_in_every_form() {
    let mut header = Tar::header(b"f", b'0', "00000000000", b"", 0o644);
    header[136..148].copy_from_slice(&[0xff; 12]); // -1 in base 256
    header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0]); // 4,000,000,000
    let all = walk_all(&Tar::new().put(header, b"").end()).unwrap();
    assert_eq!((all[0].0.mtime, all[0].0.uid), ((-1, 0), 4_000_000_000));
    for (text, time) in [
        ("1.5", (1, 500_000_000)),
        ("-1.25", (-2, 750_000_000)),
        ("-3", (-3, 0)),
        ("4102444800.123456789", (4_102_444_800, 123_456_789)),
        ("1.1234567899", (1, 123_456_789)),
    ] {
        let all = walk_all(&Tar::new().pax(&[("mtime", text.as_bytes())]).file("f", "").end()).unwrap();
        assert_eq!(all[0].0.mtime, time, "{text}");
    }
}

#[test]
fn a_global_header_is_ignored() {
    let all = walk_all(&Tar::new().entry(b"g", b'g', b"12 path=bad\n", b"", 0).file("f", "x").end()).unwrap();
    assert_eq!(all[0].0.path, b"f");
}

#[test]
fn sparse_files_are_read_in_every_format() {
    let map = b"2\n3\n2\n10\n1\n";
    let mut v10 = map.to_vec();
    v10.resize(512, 0);
    v10.extend_from_slice(b"abc");
    let mut old = Tar::header(b"f", b'S', "00000000003", b"", 0o644);
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..].fill(0);
    for (at, n) in [(386, 3), (398, 2), (410, 10), (422, 1), (483, 12)] {
        old[at..at + 11].copy_from_slice(format!("{n:011o}").as_bytes());
    }
    let formats: [(&str, Tar); 4] = [
        ("S", Tar::new().put(old, b"abc")),
        (
            "0.0",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.size", b"12"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"3"),
                    ("GNU.sparse.numbytes", b"2"),
                    ("GNU.sparse.offset", b"10"),
                    ("GNU.sparse.numbytes", b"1"),
                ])
                .file("f", "abc"),
        ),
        (
            "0.1",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.size", b"12"),
                    ("GNU.sparse.name", b"f"),
                    ("GNU.sparse.map", b"3,2,10,1"),
                ])
                .file("GNUSparseFile.0/f", "abc"),
        ),
        (
            "1.0",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"f"),
                    ("GNU.sparse.realsize", b"12"),
                ])
                .entry(b"GNUSparseFile.0/f", b'0', &v10, b"", 0o644),
        ),
    ];
    for (format, tar) in formats {
        let seen = see(&[tar.file("after", "x")]);
        assert_eq!(seen["f"], "file 644 7 \0\0\0ab\0\0\0\0\0c\0", "{format}");
        assert_eq!(seen.len(), 2, "{format}");
    }
    for map in
        [&b"3,2,4,1"[..], b"3,2,12,1", b"3,2", b"3,2,10,1,11,1", b"10,1,3,2", b"18446744073709551615,2", b"3"]
    {
        let tar = Tar::new().pax(&[("GNU.sparse.size", b"12"), ("GNU.sparse.map", map)]).file("f", "abc");
        assert!(walk_all(&tar.end()).is_err(), "{:?}", String::from_utf8_lossy(map));
    }
}

#[test]
fn no_mutation_of_an_archive_hangs_the_walk_or_leaves_the_jail() {
    let seed_tar = Tar::new()
        .dir("d", 0o755)
        .file("d/f", "some text")
        .link("l", "/canary")
        .hard("h", "d/f")
        .pax(&[("path", b"p/q"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b"), ("size", b"3")])
        .file("x", "abc")
        .file("d/.wh.gone", "")
        .pax(&[("GNU.sparse.size", b"12"), ("GNU.sparse.map", b"3,2,10,1")])
        .file("s", "abc")
        .end();
    let mut seed = 11u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    let limits = Limits { size: 1 << 20, entries: 100, depth: 16 };
    let dir = std::env::temp_dir().join(unique_name("coracle-fuzz-"));
    let mut applied = 0;
    for round in 0..4000 {
        let mut tar = seed_tar.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % tar.len();
            match next() % 5 {
                0 => tar[at] = next() as u8,
                1 => tar[at] = b"/.0123457xgLKS\0-=\n"[next() % 18],
                2 => tar.truncate(at.next_multiple_of(512)),
                3 => {
                    let (from, to) = (at / 512 * 512, next() % tar.len() / 512 * 512);
                    let block = tar[from..from + 512].to_vec();
                    tar[to..to + 512].copy_from_slice(&block);
                }
                _ => {
                    // Headers whose checksum is right again reach further.
                    let from = at / 512 * 512;
                    let h = &mut tar[from..from + 512];
                    h[next() % 148] ^= 1 << (next() % 8);
                    h[148..156].copy_from_slice(b"        ");
                    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
                    h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
                }
            }
            if tar.is_empty() {
                break;
            }
        }
        let _ = walk_limited(&tar, limits);
        if round % 8 == 0 {
            fs::create_dir_all(dir.join("jail")).unwrap();
            let root = coracle_sys::file::open_dir(&dir.join("jail")).unwrap();
            let options = super::unpack::Options { limits, ..super::unpack::Options::of_this_process() };
            applied += usize::from(super::unpack::unpack(&tar[..], root, Vec::new(), options).is_ok());
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "round {round}");
            remove_tree(&dir.join("jail")).unwrap();
        }
    }
    assert!(applied > 20, "{applied}");
    remove_tree(&dir).unwrap();
}

#[test]
fn an_opaque_whiteout_hides_only_what_is_below_wherever_it_stands() {
    let below = || {
        Tar::new().dir("d", 0o755).file("d/old", "").dir("d/sub", 0o755).file("d/sub/x", "").file("top", "")
    };
    let first = Tar::new().dir("d", 0o755).file("d/.wh..wh..opq", "").file("d/new", "");
    let last = Tar::new().dir("d", 0o755).file("d/new", "").file("d/.wh..wh..opq", "");
    assert_eq!(paths(&[below(), first]), ["d", "d/new", "top"]);
    assert_eq!(paths(&[below(), last]), ["d", "d/new", "top"]);
    let root_last = Tar::new().dir("d", 0o755).file("d/new", "").file(".wh..wh..opq", "");
    assert_eq!(paths(&[below(), root_last.clone()]), ["d", "d/new"]);
    assert_eq!(paths(&[below(), below(), root_last]), ["d", "d/new"]);
}

#[test]
fn a_whiteout_after_a_file_of_its_name_leaves_the_file() {
    assert_eq!(paths(&[Tar::new().file("foo", "1").file(".wh.foo", "")]), ["foo"]);
    let below = Tar::new().dir("d", 0o755).file("d/old", "").file("foo", "old");
    let t =
        Tar::new().file("foo", "new").file(".wh.foo", "").dir("d", 0o755).file("d/new", "").file(".wh.d", "");
    let seen = see(&[below, t]);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["d", "d/new", "foo"]);
    assert!(seen["foo"].ends_with("new"));
}

#[test]
fn of_duplicate_names_the_last_wins_and_has_its_own_inode() {
    let seen = see(&[Tar::new().file("a", "1").hard("b", "a").file("a", "2")]);
    assert!(seen["a"].ends_with(" 2") && seen["b"].ends_with(" 1"), "{seen:?}");
}

#[test]
fn a_hard_link_to_a_file_below_works() {
    let below = Tar::new().dir("d", 0o755).entry(b"d/f", b'0', b"text", b"", 0o4755);
    let seen = see(&[below.clone(), Tar::new().hard("l", "d/f")]);
    assert_eq!((&*seen["l"], &*seen["d/f"]), ("file 4755 7 text", "file 4755 7 text"));
    refused(&[below.clone(), Tar::new().hard("l", "d")]);
    refused(&[below, Tar::new().file("d/.wh.f", "").hard("l", "d/f")]);
}

#[test]
fn types_replace_each_other_and_nothing_is_written_through() {
    let below = || Tar::new().dir("d", 0o755).file("d/x", "").file("f", "").link("l", "d").link("lf", "f");
    let seen = see(&[below(), Tar::new().file("d", "now a file")]);
    assert!(seen["d"].starts_with("file") && !seen.contains_key("d/x"));
    let seen = see(&[below(), Tar::new().link("d", "f")]);
    assert_eq!((&*seen["d"], seen.contains_key("d/x")), ("-> f", false));
    let seen = see(&[below(), Tar::new().dir("l", 0o711)]);
    assert_eq!((&*seen["l"], seen.contains_key("l/x"), seen.contains_key("d/x")), ("dir 711 7", false, true));
    let seen = see(&[below(), Tar::new().dir("f", 0o711).file("f/y", "")]);
    assert_eq!(seen["f"], "dir 711 7");
    let seen = see(&[below(), Tar::new().file("lf", "own")]);
    assert!(seen["lf"].ends_with("own") && seen["f"].ends_with(' '));
    let seen = see(&[below(), Tar::new().file(".wh.d", ""), Tar::new().dir("d", 0o755).file("d/z", "")]);
    assert!(seen.contains_key("d/z") && !seen.contains_key("d/x"));
}

#[test]
fn overlays_own_attributes_in_an_archive_are_dropped() {
    let below = Tar::new().dir("d", 0o755).file("d/x", "").dir("other", 0o755).file("other/y", "");
    for key in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let t = Tar::new().pax(&[(&format!("SCHILY.xattr.{key}"), b"y")]).dir("d", 0o755);
        assert!(paths(&[below.clone(), t]).contains(&"d/x".to_owned()), "{key}");
    }
    let t = Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/other")]).dir("d", 0o755);
    assert!(!paths(&[below, t]).contains(&"d/y".to_owned()));
}

#[test]
fn a_device_0_0_in_an_archive_is_no_whiteout() {
    let mut device = Tar::header(b"f", b'3', "00000000000", b"", 0o644);
    device[329..336].copy_from_slice(b"0000000");
    device[337..344].copy_from_slice(b"0000000");
    let seen = see(&[Tar::new().file("f", "kept"), Tar::new().put(device, b"")]);
    assert_eq!(seen["f"], "file 644 7 kept");
}

#[test]
fn setuid_bits_survive_the_owner_and_directories_keep_their_times() {
    let t = Tar::new()
        .dir("d", 0o2750)
        .pax(&[("uid", b"12"), ("gid", b"34")])
        .entry(b"d/su", b'0', b"x", b"", 0o6755);
    let t = t.dir("closed", 0).file("closed/in", "").file("d/later", "");
    let seen = see(&[t]);
    assert_eq!((&*seen["d"], &*seen["closed"]), ("dir 2750 7", "dir 0 7"));
    assert_eq!(seen["d/su"], "file 6755 7 x");
}

#[test]
fn strange_names_numbers_and_files_are_as_in_the_archive() {
    let long = "n".repeat(255);
    let target = "t/".repeat(2000);
    let mut t = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("x", "long")
        .pax(&[("linkpath", &target.as_bytes()[..3999])])
        .link("far", "x")
        .entry(b"new\nline", b'0', b"", b"", 0o644)
        .entry(b"\xff\xfe", b'0', b"bytes", b"", 0o644)
        .entry(b"fifo", b'6', b"", b"", 0o600);
    let mut device = Tar::header(b"dev", b'4', "00000000000", b"", 0o600);
    device[329..336].copy_from_slice(b"0000010");
    device[337..344].copy_from_slice(b"0001000");
    t = t.put(device, b"");
    for driver in [Driver::Vfs, Driver::Overlay] {
        let mut stack = Stack::new(driver);
        stack.put(&t.clone().end()).unwrap();
        stack.look(|root| {
            use std::os::unix::ffi::OsStrExt;
            assert!(root.join(&long).exists() && root.join("new\nline").exists());
            assert!(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")).exists());
            assert_eq!(fs::read_link(root.join("far")).unwrap().as_os_str().len(), 3999);
            assert!(fs::symlink_metadata(root.join("fifo")).unwrap().file_type().is_fifo());
            if super::Marks::of_this_process() == super::Marks::Trusted {
                let rdev = fs::symlink_metadata(root.join("dev")).unwrap().rdev();
                assert_eq!((nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)), (8, 512));
            }
        });
    }
}

#[test]
fn leftovers_of_aufs_never_surface() {
    let t = Tar::new().dir(".wh..wh.plnk", 0o700).file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "");
    assert_eq!(paths(&[t.dir(".wh..wh.orph", 0o700).file("real", "")]), ["real"]);
}

#[test]
fn a_whiteout_below_a_whited_out_directory_is_accepted() {
    let below = Tar::new().dir("d", 0o755).dir("d/e", 0o755).file("d/e/f", "").file("x", "");
    let t = Tar::new().file(".wh.d", "").file("d/.wh.e", "").file("d/e/.wh.f", "").file("none/.wh.f", "");
    assert_eq!(paths(&[below, t.file("x/.wh.y", "")]), ["x"]);
}

#[test]
fn a_layer_that_names_no_parent_leaves_the_lower_directory_as_it_was() {
    let below = Tar::new()
        .dir("tmp", 0o1777)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o751)
        .link("lib", "usr/lib")
        .link("a", "/tmp");
    let t = Tar::new().file("tmp/x", "").file("lib/y", "").file("a/z", "");
    let seen = see(&[below, t]);
    assert_eq!((&*seen["tmp"], &*seen["lib"], &*seen["usr/lib"]), ("dir 1777 7", "-> usr/lib", "dir 751 7"));
    for file in ["tmp/x", "usr/lib/y", "tmp/z"] {
        assert!(seen.contains_key(file), "{file}: {seen:?}");
    }
}

#[test]
fn a_layer_that_stands_alone_is_shared_and_one_that_leans_is_not() {
    let mut stack = Stack::new(Driver::Overlay);
    let alone = Tar::new().dir("d", 0o755).file("d/f", "").end();
    let leans = Tar::new().file("d/g", "").end();
    let put = stack.put(&alone).unwrap();
    stack.put(&leans).unwrap();
    stack.ids.clear();
    stack.put(&leans).unwrap();
    stack.put(&alone).unwrap();
    let layers = fs::read_dir(stack.dir.join("s/layers/overlay")).unwrap();
    let names: Vec<String> = layers.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|n| n.ends_with(".chain")).count(), 2, "{names:?}");
    assert!(names.contains(&put.diff_id.hex()) && names.len() == 3, "{names:?}");
}

#[test]
fn compression_is_what_the_media_type_says() {
    use std::io::Write;
    let tar = Tar::new().file("f", "x").end();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar[..700]).unwrap();
    let mut members = gz.finish().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar[700..]).unwrap();
    members.extend(gz.finish().unwrap());
    let mut stack = Stack::new(Driver::Overlay);
    assert_eq!(stack.put(&members).unwrap().diff_id, Digest::of(&tar), "two members are one archive");
    use super::Compression::{Gzip, None as Plain};
    assert!(super::decompress(&tar[..], Some(Gzip)).is_err());
    assert!(super::decompress(&members[..], Some(Plain)).is_err());
    let mut flipped = members.clone();
    let crc = members.len() - 8;
    flipped[crc] ^= 1;
    for (what, bytes) in [
        ("cut off", members[..members.len() - 9].to_vec()),
        ("cut in the trailer", members[..members.len() - 2].to_vec()),
        ("a bad CRC", flipped),
        ("garbage after it", [&members[..], b"garbage"].concat()),
    ] {
        stack.ids.clear();
        assert!(stack.put(&bytes).is_err(), "{what}");
    }
}

#[test]
fn a_host_link_beside_the_layer_is_no_way_in() {
    // Whoever can write into the store's parents is the user: what counts is that the last step of
    // opening a layer follows no link.
    let mut stack = Stack::new(Driver::Overlay);
    let put = stack.put(&Tar::new().file("f", "").end()).unwrap();
    let dir = stack.dir.join("s/layers/overlay").join(put.diff_id.hex());
    remove_tree(&dir.join("fs")).unwrap();
    symlink(stack.dir.join("canary"), dir.join("fs")).unwrap();
    assert!(stack.store.stack_dirs(&stack.ids).is_err());
}

#[test]
fn what_a_container_changed_is_the_same_again_from_the_layer_made_of_it() {
    let mut stack = Stack::new(Driver::Overlay);
    let below = Tar::new()
        .dir("d", 0o755)
        .file("d/gone", "")
        .file("d/kept", "kept")
        .dir("again", 0o755)
        .file("again/old", "")
        .file("file", "")
        .dir("dir", 0o755)
        .file("dir/in", "")
        .file("mode", "same");
    stack.put(&below.end()).unwrap();
    let (upper, work) = (stack.dir.join("upper"), stack.dir.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let dirs = stack.store.stack_dirs(&stack.ids).unwrap();
    let top = Some(overlay::Top { upper: &upper, work: &work });
    let live = match overlay::mount(&dirs, top, overlay::Options::of_this_process(false)) {
        Ok(live) => live,
        Err(e) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{e}");
            return println!("skipped: {e}");
        }
    };
    let root = PathBuf::from(format!("/proc/self/fd/{}/", live.as_raw_fd()));
    fs::remove_file(root.join("d/gone")).unwrap();
    fs::remove_dir_all(root.join("again")).unwrap();
    fs::create_dir(root.join("again")).unwrap();
    fs::write(root.join("again/new"), "new").unwrap();
    fs::remove_file(root.join("file")).unwrap();
    fs::create_dir(root.join("file")).unwrap();
    fs::write(root.join("file/in"), "").unwrap();
    fs::remove_dir_all(root.join("dir")).unwrap();
    symlink("d", root.join("dir")).unwrap();
    fs::set_permissions(root.join("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o4711)).unwrap();
    let long = format!("{}/{}", "a".repeat(200), "b".repeat(200));
    fs::create_dir(root.join("a".repeat(200))).unwrap();
    fs::write(root.join(&long), "long").unwrap();
    fs::hard_link(root.join(&long), root.join("hard")).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1250);
    fs::File::options().write(true).open(root.join("hard")).unwrap().set_modified(old).unwrap();
    let seen = describe(&root);
    drop(live);

    let mut archive = super::pack::Archive::new();
    let how = super::pack::FromDir { owner: None, latest: None, xattrs: true };
    archive.put_upper(&upper, super::Marks::of_this_process(), how).unwrap();
    let mut tar = Vec::new();
    archive.write(&mut tar).unwrap();
    let marks: Vec<_> = archive.paths().filter(|p| p.to_string_lossy().contains(".wh.")).collect();
    assert!(marks.contains(&Path::new("d/.wh.gone")), "{marks:?}");
    stack.put(&tar).unwrap();
    let again = stack.look(describe).unwrap();
    assert_eq!(again, seen);
    stack.look(|root| {
        let m = fs::metadata(root.join("hard")).unwrap();
        assert_eq!((m.nlink(), m.mtime(), m.mtime_nsec()), (2, -2, 750_000_000));
    });
}

#[test]
fn a_directory_packs_to_the_same_bytes_whoever_made_it_and_when() {
    let dir = std::env::temp_dir().join(unique_name("coracle-pack-"));
    let make = |name: &str, order: &[&str]| {
        let root = dir.join(name);
        fs::create_dir_all(root.join("sub")).unwrap();
        for file in order {
            fs::write(root.join(file), file).unwrap();
        }
        fs::hard_link(root.join("b"), root.join("sub/link")).unwrap();
        let mut archive = super::pack::Archive::new();
        let how = super::pack::FromDir { latest: Some(1000), ..Default::default() };
        archive.put_dir(&root, "srv", how).unwrap();
        archive.put_parents();
        let mut tar = Vec::new();
        archive.write(&mut tar).unwrap();
        tar
    };
    let one = make("one", &["a", "b", "sub/c"]);
    let two = make("two", &["sub/c", "b", "a"]);
    assert_eq!(one, two);
    let all = walk_all(&one).unwrap();
    let paths: Vec<String> = all.iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(paths, ["srv", "srv/a", "srv/b", "srv/sub", "srv/sub/c", "srv/sub/link"]);
    assert!(all.iter().all(|(e, _)| (e.uid, e.gid, e.mtime) == (0, 0, (1000, 0))));
    remove_tree(&dir).unwrap();
}

#[test]
fn no_entry_of_an_archive_that_is_made_leads_out_of_the_root() {
    use super::pack::{Archive, Content, Meta};
    let mut a = Archive::new();
    for bad in ["..", "../x", "a/../../x", "a/.."] {
        assert!(a.put(bad, Meta::new(0o755), Content::Dir).is_err(), "{bad:?}");
    }
    a.put("/a//b/./c/", Meta::new(0o755), Content::Dir).unwrap();
    assert!(a.get("a/b/c").is_some());
}
