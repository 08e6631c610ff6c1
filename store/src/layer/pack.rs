//! Making layers: an [`Archive`] is a sorted set of entries that writes the same tar whenever it
//! holds the same. It is filled entry by entry, from a directory, from an overlay's upper, or from a
//! layer that is applied. No path is emitted twice, each has its parents before it, and overlay's own
//! attributes never leave.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, order};
use nix::sys::stat::FileStat;

use super::encode::entry;
use super::gather::Gather;
use super::{Marks, key, owners, whiteout};

/// What an entry is, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Dir,
    /// A file of these bytes.
    Bytes(Vec<u8>),
    /// A file with the content of this one, which is read when the archive is written.
    File {
        /// Where it is.
        path: PathBuf,
        /// How large it is: another size is an error.
        size: u64,
        /// How it was found, where that is known.
        seen: Option<Seen>,
    },
    /// A symbolic link.
    Symlink(OsString),
    /// Another name of a file of the archive; the target is a path of the archive.
    HardLink(PathBuf),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A fifo.
    Fifo,
}

/// What no longer is as it was when a file has been changed, its size aside. Times are seconds, and nanoseconds after
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Seen {
    pub dev: u64,
    pub ino: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
}

impl Seen {
    /// By its status.
    pub fn of(st: &FileStat) -> Self {
        let mtime = (st.st_mtime, st.st_mtime_nsec as u32);
        let ctime = (st.st_ctime, st.st_ctime_nsec as u32);
        Self { dev: st.st_dev, ino: st.st_ino, mtime, ctime }
    }
}

/// An entry's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The modification time: seconds, and nanoseconds after them.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// Of root, at the epoch.
    pub fn new(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: (0, 0), xattrs: BTreeMap::new() }
    }
}

/// How a directory of the host becomes entries.
#[derive(Clone, Copy, Debug)]
pub struct FromDir {
    /// Owner and group of everything; those on disk when none.
    pub owner: Option<(u32, u32)>,
    /// Times later than this become this.
    pub latest: Option<i64>,
    /// Keep extended attributes.
    pub xattrs: bool,
}

impl Default for FromDir {
    /// Everything root's, times no later than SOURCE_DATE_EPOCH says.
    fn default() -> Self {
        Self { owner: Some((0, 0)), latest: source_date_epoch(), xattrs: true }
    }
}

/// What SOURCE_DATE_EPOCH says, when it is set to a number.
pub fn source_date_epoch() -> Option<i64> {
    std::env::var("SOURCE_DATE_EPOCH").ok()?.parse().ok()
}

/// The entries of a layer, by path.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    pub(super) entries: BTreeMap<Vec<u8>, (Meta, Content)>,
    /// What could not be taken along, one sentence each.
    pub warnings: Vec<String>,
}

impl Archive {
    /// Without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Put an entry at a path, in place of what was there. The path is cleaned; one that leads
    /// out of the root is refused.
    pub fn put(&mut self, path: impl AsRef<Path>, meta: Meta, content: Content) -> Result<()> {
        let path = clean(path.as_ref())?;
        self.entries.insert(path, (meta, content));
        Ok(())
    }

    /// What is at a path.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<(&Meta, &Content)> {
        self.entries.get(&clean(path.as_ref()).ok()?).map(|(m, c)| (m, c))
    }

    /// Take the entry at a path away, with everything below it.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = clean(path.as_ref())?;
        let below = [&path[..], b"/"].concat();
        self.entries.retain(|p, _| *p != path && !p.starts_with(&below));
        Ok(())
    }

    /// The paths, in order; the root is the empty one.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(|p| Path::new(OsStr::from_bytes(p)))
    }

    /// The paths in the order of their components: `a.b` stands behind all that is in `a`.
    pub fn in_order(&self) -> Vec<&[u8]> {
        let mut paths: Vec<&[u8]> = self.entries.keys().map(Vec::as_slice).collect();
        order::sort_by(&mut paths, |a, b| a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/')));
        paths
    }

    /// What lies in the directory at a clean path, however deep, by its whole path, in order. The empty path is the root.
    pub fn inside<'a>(&'a self, dir: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Meta, &'a Content)> {
        let start = if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() };
        let from = self.entries.range(start.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&start))
            .filter(|(path, _)| !path.is_empty())
            .map(|(path, (meta, content))| (&path[..], meta, content))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there no entry?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Say that what is below at a path is gone.
    pub fn whiteout(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = clean(path.as_ref())?;
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |p| p + 1);
        let name = [&path[..at], whiteout::PREFIX, &path[at..]].concat();
        self.entries.insert(name, (Meta::new(0), Content::Bytes(Vec::new())));
        Ok(())
    }

    /// Say that everything below in a directory is gone.
    pub fn opaque(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let mut name = clean(path.as_ref())?;
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(whiteout::OPAQUE);
        self.entries.insert(name, (Meta::new(0), Content::Bytes(Vec::new())));
        Ok(())
    }

    /// Put everything in a directory of the host below `at`, and the directory's own attributes at
    /// `at` unless that is the root. Links are taken as they are.
    pub fn put_dir(&mut self, dir: &Path, at: impl AsRef<Path>, how: FromDir) -> Result<()> {
        Gather::new(how, None, Vec::new())
            .fill(self, dir, at.as_ref())
            .map_err(|e| e.wrap(format!("read the directory {dir:?}")))
    }

    /// [`Archive::put_dir`] of what is wanted alone: the question has the path below `dir`, and whether it is a
    /// directory, which is not entered unless it is wanted.
    pub fn put_dir_where(
        &mut self,
        dir: &Path,
        how: FromDir,
        wanted: &mut dyn FnMut(&[u8], bool) -> bool,
    ) -> Result<()> {
        Gather::new(how, None, Vec::new())
            .only(wanted)
            .fill(self, dir, Path::new(""))
            .map_err(|e| e.wrap(format!("read the directory {dir:?}")))
    }

    /// Put the changes that an overlay's upper holds: whiteouts and opaque marks become the
    /// archive's.
    pub fn put_upper(&mut self, upper: &Path, marks: Marks, how: FromDir) -> Result<()> {
        let mut gather = Gather::new(how, Some(marks), Vec::new());
        gather.fill(self, upper, Path::new("")).map_err(|e| e.wrap(format!("read the upper {upper:?}")))
    }

    /// Put what an applied layer holds, as its archive had it: owners and devices that the disk could not
    /// hold come from the table beside it. `tree` is one of [`crate::Store::stack_paths`].
    pub fn put_layer(&mut self, tree: &Path, marks: Marks, how: FromDir) -> Result<()> {
        let mut put = || {
            let mut gather = Gather::new(how, Some(marks), owners::read(tree)?);
            gather.fill(self, tree, Path::new(""))?;
            // A root that the archive did not name is none of the layer's.
            if !key::has_root(tree) {
                self.entries.remove(&b""[..]);
            }
            Ok(())
        };
        put().map_err(|e: Error| e.wrap(format!("read the layer {tree:?}")))
    }

    /// Add every parent directory that is missing, root's and 0755, so that the layer stands alone.
    pub fn put_parents(&mut self) {
        for path in self.missing_parents() {
            self.entries.insert(path, (Meta::new(0o755), Content::Dir));
        }
    }

    /// The directories that paths go through and that are no entries.
    pub(super) fn missing_parents(&self) -> BTreeSet<Vec<u8>> {
        let parents = |p: &Vec<u8>| -> Vec<Vec<u8>> {
            p.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(n, _)| p[..n].to_vec()).collect()
        };
        order::gather(self.entries.keys().flat_map(parents).filter(|p| !self.entries.contains_key(p)))
    }

    /// Write the tar. The order is that of the paths' components, so a directory stands before what
    /// is in it; of files with several names, the one that holds the bytes stands before the others
    /// whenever its path sorts first, which [`Archive::put_dir`] sees to. Whether every file still was as it had been
    /// seen.
    pub fn write(&self, mut out: impl Write) -> Result<bool> {
        // A hard link needs its target before it.
        let (links, others): (Vec<_>, Vec<_>) =
            self.in_order().into_iter().partition(|p| matches!(self.entries[*p].1, Content::HardLink(_)));
        let mut as_seen = true;
        for path in others.into_iter().chain(links) {
            let (meta, content) = &self.entries[path];
            as_seen &= entry(&mut out, path, meta, content)
                .map_err(|e| e.wrap(format!("write the entry {:?}", String::from_utf8_lossy(path))))?;
        }
        out.write_all(&[0; 1024]).context(|| "write the archive's end")?;
        out.flush().context(|| "write the archive's end")?;
        Ok(as_seen)
    }
}

/// A path without `.`, empty components, or a slash at either end.
pub(super) fn clean(path: &Path) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    let parts: Vec<&[u8]> = bytes.split(|b| *b == b'/').filter(|c| !matches!(c, [] | [b'.'])).collect();
    if parts.contains(&&b".."[..]) || bytes.contains(&0) {
        return Err(Error::invalid(format!("put {path:?} into a layer: it is no plain path")));
    }
    Ok(parts.join(&b'/'))
}
