//! What an applier must get right, on both drivers: hostile archives, and what honest ones mean.
//! Every case is applied under overlay and under vfs, and both must show the same tree.

mod archives;
mod compressed;
mod meaning;
mod safety;
mod uppers;
mod writing;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_sys::Result;
use coracle_sys::file::{remove_tree, unique_name};

use super::Limits;
use super::unpack;
use super::walk::{self, Walk};
use crate::digest::Digest;
use crate::driver::{Driver, overlay};
use crate::layer::pack::{Archive, FromDir};
use crate::layers::PutLayer;
use crate::{Locations, Store};

/// A tar, written byte by byte, so that it can be as wrong as a test wants.
#[derive(Clone, Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn header(name: &[u8], kind: u8, size: &str, link: &[u8], mode: u32) -> [u8; 512] {
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

    pub(super) fn put(mut self, mut h: [u8; 512], data: &[u8]) -> Self {
        h[148..156].copy_from_slice(b"        ");
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&h);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn entry(self, name: &[u8], kind: u8, data: &[u8], link: &[u8], mode: u32) -> Self {
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

    pub(super) fn hard(self, name: &str, to: &str) -> Self {
        self.entry(name.as_bytes(), b'1', b"", to.as_bytes(), 0o666)
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
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
pub(super) struct Stack {
    pub(super) dir: PathBuf,
    pub(super) store: Store,
    pub(super) ids: Vec<Digest>,
}

impl Stack {
    pub(super) fn new(driver: Driver) -> Self {
        let dir = std::env::temp_dir().join(unique_name("coracle-layers-"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("canary")).unwrap();
        fs::write(dir.join("canary/file"), "canary").unwrap();
        let mut store = Store::open(&Locations { main: dir.join("s"), behind: Vec::new() }).unwrap();
        store.create(Some(driver)).unwrap();
        Self { dir, store, ids: Vec::new() }
    }

    pub(super) fn put(&mut self, tar: &[u8]) -> Result<PutLayer> {
        let put = self.store.begin()?.put_layer_from_tar(tar, &self.ids)?;
        self.ids.push(put.diff_id);
        Ok(put)
    }

    /// Look at the stack as a container would see it.
    pub(super) fn look<T>(&self, see: impl FnOnce(&Path) -> T) -> Option<T> {
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

    pub(super) fn canary_lives(&self) {
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
pub(super) fn describe(root: &Path) -> BTreeMap<String, String> {
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
pub(super) fn see(layers: &[Tar]) -> BTreeMap<String, String> {
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

pub(super) fn paths(layers: &[Tar]) -> Vec<String> {
    see(layers).into_keys().collect()
}

/// Each driver must refuse the last layer, and leave the canary alone.
pub(super) fn refused(layers: &[Tar]) -> String {
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

pub(super) fn walk_all(tar: &[u8]) -> Result<Vec<(walk::Entry, Vec<u8>)>> {
    walk_limited(tar, Limits::default())
}

pub(super) fn walk_limited(tar: &[u8], limits: Limits) -> Result<Vec<(walk::Entry, Vec<u8>)>> {
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

/// The layer of what `change` does to a container over `below`; none where no overlay can be mounted. Applied, the
/// layer shows the same tree again.
fn changed(below: Tar, change: impl FnOnce(&Path)) -> Option<(Stack, Archive)> {
    let mut stack = Stack::new(Driver::Overlay);
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
            println!("skipped: {e}");
            return None;
        }
    };
    let root = PathBuf::from(format!("/proc/self/fd/{}/", live.as_raw_fd()));
    change(&root);
    let seen = describe(&root);
    drop(live);
    let mut archive = Archive::new();
    let how = FromDir { owner: None, latest: None, xattrs: true };
    archive.put_upper(&upper, crate::layer::Marks::of_this_process(), how).unwrap();
    let mut tar = Vec::new();
    archive.write(&mut tar).unwrap();
    stack.put(&tar).unwrap();
    assert_eq!(stack.look(describe).unwrap(), seen);
    Some((stack, archive))
}
