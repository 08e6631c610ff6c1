//! Making layers: an [`Archive`] is a sorted set of entries that writes the same tar whenever it
//! holds the same. It is filled entry by entry, from a directory, or from an overlay's upper. No
//! path is emitted twice, each has its parents before it, and overlay's own attributes never leave.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, major, minor};
use tar::Header;

use super::attributes::is_overlays;
use super::tree::{is, list, open_dir};
use super::{Marks, whiteout};

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
    entries: BTreeMap<Vec<u8>, (Meta, Content)>,
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
        let mut walk = DirWalk { how, upper: None, links: HashMap::new() };
        walk.fill(self, dir, at.as_ref()).map_err(|e| e.wrap(format!("read the directory {dir:?}")))
    }

    /// Put the changes that an overlay's upper holds: whiteouts and opaque marks become the
    /// archive's.
    pub fn put_upper(&mut self, upper: &Path, marks: Marks, how: FromDir) -> Result<()> {
        let mut walk = DirWalk { how, upper: Some(marks), links: HashMap::new() };
        walk.fill(self, upper, Path::new("")).map_err(|e| e.wrap(format!("read the upper {upper:?}")))
    }

    /// Add every parent directory that is missing, root's and 0755, so that the layer stands alone.
    pub fn put_parents(&mut self) {
        let missing: Vec<Vec<u8>> = self
            .entries
            .keys()
            .flat_map(|p| p.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(n, _)| p[..n].to_vec()))
            .filter(|p| !self.entries.contains_key(p))
            .collect();
        for path in missing {
            self.entries.entry(path).or_insert((Meta::new(0o755), Content::Dir));
        }
    }

    /// Write the tar. The order is that of the paths' components, so a directory stands before what
    /// is in it; of files with several names, the one that holds the bytes stands before the others
    /// whenever its path sorts first, which [`Archive::put_dir`] sees to.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        let mut order: Vec<&Vec<u8>> = self.entries.keys().collect();
        order.sort_by(|a, b| a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/')));
        // A hard link needs its target before it.
        let (links, others): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|p| matches!(self.entries[*p].1, Content::HardLink(_)));
        for path in others.into_iter().chain(links) {
            let (meta, content) = &self.entries[path];
            entry(&mut out, path, meta, content)
                .map_err(|e| e.wrap(format!("write the entry {:?}", String::from_utf8_lossy(path))))?;
        }
        out.write_all(&[0; 1024]).context(|| "write the archive's end")?;
        out.flush().context(|| "write the archive's end")
    }
}

/// A path without `.`, empty components, or a slash at either end.
fn clean(path: &Path) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    let parts: Vec<&[u8]> = bytes.split(|b| *b == b'/').filter(|c| !matches!(c, [] | [b'.'])).collect();
    if parts.contains(&&b".."[..]) || bytes.contains(&0) {
        return Err(Error::invalid(format!("put {path:?} into a layer: it is no plain path")));
    }
    Ok(parts.join(&b'/'))
}

/// A directory of the host on its way into an archive.
struct DirWalk {
    how: FromDir,
    upper: Option<Marks>,
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl DirWalk {
    fn fill(&mut self, archive: &mut Archive, dir: &Path, at: &Path) -> Result<()> {
        let fd = file::open_dir(dir)?;
        let at = clean(at)?;
        let st = fstatat(&fd, ".", AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({dir:?})"))?;
        if !at.is_empty() || self.upper.is_some() {
            let meta = self.meta(fd.as_fd(), OsStr::new("."), &st)?;
            archive.entries.insert(at.clone(), (meta, Content::Dir));
        }
        self.contents(archive, fd.as_fd(), dir, &at, 0)
    }

    fn contents(
        &mut self,
        archive: &mut Archive,
        dir: BorrowedFd<'_>,
        host: &Path,
        at: &[u8],
        depth: usize,
    ) -> Result<()> {
        if depth > 1000 {
            return Err(Error::invalid("read a directory: it is deeper than 1000"));
        }
        for name in list(dir)? {
            let os = OsString::from_vec(name.clone());
            let st =
                fstatat(dir, &*os, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({os:?})"))?;
            let path = if at.is_empty() { name.clone() } else { [at, b"/", &name].concat() };
            let host = host.join(&os);
            if self.upper.is_some() && whiteout::is_one(&st) {
                archive.whiteout(Path::new(OsStr::from_bytes(&path)))?;
                continue;
            }
            if name.starts_with(whiteout::PREFIX) {
                archive
                    .warnings
                    .push(format!("{}: its name is a whiteout's, it was left out", host.display()));
                continue;
            }
            if st.st_nlink > 1 && !is(&st, SFlag::S_IFDIR) {
                if let Some(first) = self.links.get(&(st.st_dev, st.st_ino)) {
                    let target = PathBuf::from(OsString::from_vec(first.clone()));
                    let meta = self.meta(dir, &os, &st)?;
                    archive.entries.insert(path, (meta, Content::HardLink(target)));
                    continue;
                }
                self.links.insert((st.st_dev, st.st_ino), path.clone());
            }
            let Some(content) = content(dir, &os, &st, &host)? else {
                archive.warnings.push(format!("{}: a socket was left out", host.display()));
                continue;
            };
            let is_dir = content == Content::Dir;
            archive.entries.insert(path.clone(), (self.meta(dir, &os, &st)?, content));
            if is_dir {
                let sub = open_dir(dir, &os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
                if let Some(marks) = self.upper
                    && opaque(sub.as_fd(), marks)?
                {
                    archive.opaque(Path::new(OsStr::from_bytes(&path)))?;
                }
                self.contents(archive, sub.as_fd(), &host, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn meta(&self, dir: BorrowedFd<'_>, name: &OsStr, st: &FileStat) -> Result<Meta> {
        let (uid, gid) = self.how.owner.unwrap_or((st.st_uid, st.st_gid));
        let mut mtime = (st.st_mtime, st.st_mtime_nsec as u32);
        if let Some(latest) = self.how.latest
            && mtime > (latest, 0)
        {
            mtime = (latest, 0);
        }
        let mut xattrs = BTreeMap::new();
        if self.how.xattrs {
            for key in file::xattr_names_at(dir, name).context(|| format!("llistxattr({name:?})"))? {
                if is_overlays(key.as_bytes()) || key.as_bytes() == b"security.selinux" {
                    continue;
                }
                let value =
                    file::xattr_at(dir, name, &key).context(|| format!("lgetxattr({name:?}, {key:?})"))?;
                xattrs.extend(value.map(|v| (key.into_bytes(), v)));
            }
        }
        Ok(Meta { mode: st.st_mode & 0o7777, uid, gid, mtime, xattrs })
    }
}

fn opaque(dir: BorrowedFd<'_>, marks: Marks) -> Result<bool> {
    let value = file::xattr_at(dir, OsStr::new("."), marks.opaque()).context(|| "lgetxattr(opaque)")?;
    Ok(value.as_deref() == Some(b"y"))
}

fn content(dir: BorrowedFd<'_>, name: &OsStr, st: &FileStat, host: &Path) -> Result<Option<Content>> {
    let device = || (major(st.st_rdev) as u32, minor(st.st_rdev) as u32);
    Ok(Some(match SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Content::Dir,
        SFlag::S_IFREG => Content::File { path: host.to_owned(), size: st.st_size as u64 },
        SFlag::S_IFLNK => {
            Content::Symlink(readlinkat(dir, name).context(|| format!("readlinkat({name:?})"))?)
        }
        SFlag::S_IFCHR => Content::Char(device().0, device().1),
        SFlag::S_IFBLK => Content::Block(device().0, device().1),
        SFlag::S_IFIFO => Content::Fifo,
        _ => return Ok(None),
    }))
}

/// One entry: ustar where it fits, PAX records for the rest.
fn entry(out: &mut impl Write, path: &[u8], meta: &Meta, content: &Content) -> Result<()> {
    let mut header = Header::new_ustar();
    let mut pax: Vec<u8> = Vec::new();
    let mut name = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
    if *content == Content::Dir {
        name.push(b'/');
    }
    let (kind, size, link) = match content {
        Content::Dir => (b'5', 0, None),
        Content::Bytes(b) => (b'0', b.len() as u64, None),
        Content::File { size, .. } => (b'0', *size, None),
        Content::Symlink(to) => (b'2', 0, Some(to.as_bytes())),
        Content::HardLink(to) => (b'1', 0, Some(to.as_os_str().as_bytes())),
        Content::Char(..) => (b'3', 0, None),
        Content::Block(..) => (b'4', 0, None),
        Content::Fifo => (b'6', 0, None),
    };
    if name.len() > 100 {
        record(&mut pax, b"path", &name);
    }
    if let Some(link) = link.filter(|l| l.len() > 100) {
        record(&mut pax, b"linkpath", link);
    }
    let (seconds, nanos) = meta.mtime;
    if nanos != 0 || !(0..1 << 33).contains(&seconds) {
        record(&mut pax, b"mtime", pax_time(seconds, nanos).as_bytes());
    }
    for (key, id) in [(&b"uid"[..], meta.uid), (b"gid", meta.gid)] {
        if id >= 1 << 21 {
            record(&mut pax, key, id.to_string().as_bytes());
        }
    }
    if size >= 1 << 33 {
        record(&mut pax, b"size", size.to_string().as_bytes());
    }
    for (key, value) in meta.xattrs.iter().filter(|(k, _)| !is_overlays(k)) {
        record(&mut pax, &[b"SCHILY.xattr.", &key[..]].concat(), value);
    }
    let fill = |header: &mut Header, name: &[u8], kind: u8, size: u64| {
        let raw = header.as_mut_bytes();
        raw[156] = kind;
        let n = name.len().min(100);
        raw[..n].copy_from_slice(&name[..n]);
        header.set_size(if size < 1 << 33 { size } else { 0 });
    };
    if !pax.is_empty() {
        let mut extension = Header::new_ustar();
        fill(&mut extension, b"pax", b'x', pax.len() as u64);
        extension.set_mode(0o644);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_mtime(0);
        extension.set_cksum();
        put(out, extension.as_bytes())?;
        put(out, &pax)?;
        pad(out, pax.len() as u64)?;
    }
    fill(&mut header, &name, kind, size);
    header.set_mode(meta.mode);
    header.set_uid(if meta.uid < 1 << 21 { meta.uid.into() } else { 0 });
    header.set_gid(if meta.gid < 1 << 21 { meta.gid.into() } else { 0 });
    header.set_mtime(u64::try_from(seconds).ok().filter(|s| *s < 1 << 33).unwrap_or(0));
    if let Some(link) = link {
        let n = link.len().min(100);
        header.as_mut_bytes()[157..157 + n].copy_from_slice(&link[..n]);
    }
    if let Content::Char(a, b) | Content::Block(a, b) = content {
        header.set_device_major(*a).context(|| "write a device's number")?;
        header.set_device_minor(*b).context(|| "write a device's number")?;
    }
    header.set_cksum();
    put(out, header.as_bytes())?;
    match content {
        Content::Bytes(bytes) => put(out, bytes)?,
        Content::File { path, size } => copy(out, path, *size)?,
        _ => {}
    }
    pad(out, size)
}

fn copy(out: &mut impl Write, path: &Path, size: u64) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd =
        openat(nix::fcntl::AT_FDCWD, path, flags, Mode::empty()).context(|| format!("open({path:?})"))?;
    let copied =
        std::io::copy(&mut File::from(fd).take(size + 1), out).context(|| format!("copy {path:?}"))?;
    if copied != size {
        return Err(Error::invalid(format!("copy {path:?}: its size changed from {size}")));
    }
    Ok(())
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).context(|| "write the archive")
}

fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    put(out, &[0; 512][..((512 - size % 512) % 512) as usize])
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(format!("{len} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn pax_time(seconds: i64, nanos: u32) -> String {
    let fraction =
        |n: u32| if n == 0 { String::new() } else { format!(".{n:09}").trim_end_matches('0').to_owned() };
    match (seconds < 0, nanos) {
        (true, n) if n > 0 => format!("-{}{}", -(seconds + 1), fraction(1_000_000_000 - n)),
        _ => format!("{seconds}{}", fraction(nanos)),
    }
}
