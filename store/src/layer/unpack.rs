//! Applying a layer: the entries of an archive become files in the layer's directory. Every path is
//! resolved by [`super::tree`], which does not leave it. What is below is never changed; where the
//! archive leans on it, that is reported, since the layer is then the same only on top of it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, makedev, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::attributes::{copied_xattrs, set_times, shown, unshown, wanted_xattrs};
use super::owners::Owner;
use super::tree::{Missing, Place, Tree, is, open_dir, split};
use super::walk::{Entry, Kind, Walk};
use super::whiteout::{self, Meaning};
use super::{Limits, Marks, Owners};

/// How to apply a layer.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the archive may cost.
    pub limits: Limits,
    /// Whose marks the overlay will read.
    pub marks: Marks,
    /// Where owners go.
    pub owners: Owners,
    /// The directory holds a copy of all that is below: whiteouts remove there, and nothing is
    /// marked.
    pub plain: bool,
}

impl Options {
    /// For the overlay driver, as this process.
    pub fn of_this_process() -> Self {
        Self {
            limits: Limits::default(),
            marks: Marks::of_this_process(),
            owners: Owners::of_this_process(),
            plain: false,
        }
    }
}

/// What became of a layer.
#[derive(Debug, Default)]
pub struct Applied {
    /// It says what the root directory is like.
    pub root: bool,
    /// It leaned on what is below: it is kept by its chain id.
    pub leans: bool,
    /// What could not be as in the archive, one sentence each.
    pub warnings: Vec<String>,
    /// The owners that the disk could not hold.
    pub owners: Vec<Owner>,
    /// Bytes of all files together.
    pub size: u64,
}

/// Apply the archive in `input`, not compressed, to the empty directory `root`, over `lowers`, top
/// first. The input is read to its end. Where the directory holds a copy of all that is below, `owners` is
/// the table of that.
pub fn unpack(
    input: impl Read,
    root: OwnedFd,
    lowers: Vec<OwnedFd>,
    owners: Vec<Owner>,
    options: Options,
) -> Result<Applied> {
    let mut walk = Walk::new(input, options.limits);
    let mut layer = Layer {
        tree: Tree::new(root, lowers, options.marks, options.limits.depth),
        options,
        out: Applied::default(),
        dirs: BTreeMap::new(),
        owners: owners.into_iter().map(|o| (unshown(&o.path), o)).collect(),
        own: Default::default(),
        parent: None,
        opaque_root: false,
        buf: vec![0; 128 * 1024],
    };
    // A root that the archive does not name is plain, and the same every time.
    if !options.plain {
        let plain = DirMeta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
        layer.dirs.insert(Vec::new(), plain);
    }
    while let Some(entry) = walk.next_entry()? {
        layer
            .apply(&entry, &mut walk)
            .map_err(|e| e.wrap(format!("apply the entry {:?}", String::from_utf8_lossy(&entry.path))))?;
    }
    layer.finish()
}

/// Forget a path and all beneath it, which stand side by side in a map of paths.
fn forget<T>(map: &mut BTreeMap<Vec<Vec<u8>>, T>, path: &[Vec<u8>]) {
    let next = |map: &BTreeMap<Vec<Vec<u8>>, T>| {
        map.range(path.to_vec()..).next().map(|(p, _)| p).filter(|p| p.starts_with(path)).cloned()
    };
    while let Some(beneath) = next(map) {
        map.remove(&beneath);
    }
}

/// Attributes that a directory gets at the end.
struct DirMeta {
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: (i64, u32),
    xattrs: Vec<(CString, Vec<u8>)>,
}

struct Layer {
    tree: Tree,
    options: Options,
    out: Applied,
    /// Directories whose attributes wait: a mode may forbid writing, and writing changes times.
    dirs: BTreeMap<Vec<Vec<u8>>, DirMeta>,
    /// What the disk cannot hold of the owners.
    owners: BTreeMap<Vec<Vec<u8>>, Owner>,
    /// With a copying driver: what this layer has brought.
    own: std::collections::BTreeSet<Vec<Vec<u8>>>,
    /// The last entry's parent directory, as the archive wrote it and as it was found.
    parent: Option<(Vec<u8>, Place)>,
    opaque_root: bool,
    buf: Vec<u8>,
}

impl Layer {
    fn apply<R: Read>(&mut self, entry: &Entry, walk: &mut Walk<R>) -> Result<()> {
        let components = split(&entry.path);
        let Some(name) = components.first() else {
            if entry.path.is_empty() {
                return Err(Error::invalid("read the archive: an entry has no name"));
            }
            if entry.kind != Kind::Dir {
                return Err(Error::invalid("read the archive: the root is to be replaced by something else"));
            }
            let root = self.tree.root();
            self.out.root = true;
            self.remember(root.path, entry);
            return Ok(());
        };
        if name == b".." {
            return Err(Error::invalid("read the archive: an entry's name ends in .."));
        }
        if components.iter().any(|c| matches!(whiteout::read(c), Ok(Meaning::Nothing))) {
            return Ok(());
        }
        if components[1..].iter().any(|c| c.starts_with(whiteout::PREFIX)) {
            return Err(Error::invalid("read the archive: something lies below a whiteout"));
        }
        if components.len() > self.options.limits.depth {
            let most = self.options.limits.depth;
            return Err(Error::invalid(format!("read the archive: a path deeper than {most}")));
        }
        let mut raw = &entry.path[..];
        while raw.ends_with(b"/") || raw.ends_with(b"/.") {
            raw = &raw[..raw.len() - 1];
        }
        let parent = &raw[..raw.len() - name.len()];
        match whiteout::read(name)? {
            Meaning::Nothing => Ok(()),
            Meaning::Opaque => self.opaque(parent),
            Meaning::Gone(gone) => self.gone(parent, gone),
            Meaning::Name => self.put(entry, parent, name, walk),
        }
    }

    /// The directory that an entry goes to, made when missing.
    fn parent(&mut self, raw: &[u8]) -> Result<Place> {
        if let Some((known, place)) = &self.parent
            && known == raw
        {
            return Ok(place.clone());
        }
        let place = self.tree.dir(raw, Missing::Make)?;
        self.take_implied()?;
        let place = place.ok_or_else(|| Error::invalid("read the archive: an entry without a parent"))?;
        self.keep_attributes(&place)?;
        self.parent = Some((raw.to_vec(), place.clone()));
        Ok(place)
    }

    /// With a copying driver: a directory from below that is about to change inside looks as before
    /// at the end.
    fn keep_attributes(&mut self, place: &Place) -> Result<()> {
        if !self.options.plain || self.dirs.contains_key(&place.path) {
            return Ok(());
        }
        let st = nix::sys::stat::fstat(&*place.dir).context(|| "fstat()")?;
        let meta = DirMeta {
            mode: st.st_mode & 0o7777,
            uid: st.st_uid.into(),
            gid: st.st_gid.into(),
            mtime: (st.st_mtime, st.st_mtime_nsec as u32),
            xattrs: Vec::new(),
        };
        self.dirs.insert(place.path.clone(), meta);
        Ok(())
    }

    /// Directories that were made on the way look as they do below, else plain.
    fn take_implied(&mut self) -> Result<()> {
        for implied in std::mem::take(&mut self.tree.implied) {
            let meta = match &implied.like {
                Some((st, dir)) => {
                    let name = implied.path.last().map_or(OsStr::new("."), |n| OsStr::from_bytes(n));
                    DirMeta {
                        mode: st.st_mode & 0o7777,
                        uid: st.st_uid.into(),
                        gid: st.st_gid.into(),
                        mtime: (st.st_mtime, st.st_mtime_nsec as u32),
                        xattrs: copied_xattrs(dir.as_fd(), name)?,
                    }
                }
                None => DirMeta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() },
            };
            if self.options.plain {
                self.own.insert(implied.path.clone());
            }
            self.dirs.insert(implied.path, meta);
        }
        Ok(())
    }

    fn put<R: Read>(&mut self, entry: &Entry, parent: &[u8], name: &[u8], walk: &mut Walk<R>) -> Result<()> {
        let place = self.parent(parent)?;
        let path = [&place.path[..], &[name.to_vec()]].concat();
        let os = OsStr::from_bytes(name);
        let dir = place.dir.as_fd();
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, &place, name, path);
        }
        if entry.kind == Kind::Char && entry.device == (0, 0) {
            self.warn(entry, "a character device 0:0 cannot be in a layer, and was left out");
            return Ok(());
        }
        if entry.kind == Kind::Dir {
            self.directory(dir, os, &path)?;
            self.remember(path, entry);
            return Ok(());
        }
        if entry.kind == Kind::File {
            let out = self.fresh(dir, os, &path, || {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(dir, os, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            })?;
            let out = File::from(out);
            self.copy_data(entry, walk, &out)?;
        } else {
            let link = OsStr::from_bytes(&entry.link);
            let (kind, device) = match entry.kind {
                Kind::Char => (SFlag::S_IFCHR, entry.device),
                Kind::Block => (SFlag::S_IFBLK, entry.device),
                _ => (SFlag::S_IFIFO, (0, 0)),
            };
            let rdev = makedev(device.0.into(), device.1.into());
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            if entry.kind == Kind::Symlink {
                if entry.link.is_empty() {
                    return Err(Error::invalid("read the archive: a symbolic link leads nowhere"));
                }
                self.fresh(dir, os, &path, || symlinkat(link, dir, os))?;
            } else if self.options.owners == Owners::Table && kind != SFlag::S_IFIFO {
                // Without privilege an empty file holds the device's place; the table says what it is.
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                drop(self.fresh(dir, os, &path, || openat(dir, os, flags, mode))?);
            } else {
                let made = self.fresh(dir, os, &path, || mknodat(dir, os, kind, mode, rdev));
                match made {
                    // A user namespace with many ids may still make no device.
                    Err(e) if e.errno() == Some(Errno::EPERM) => {
                        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                        drop(self.fresh(dir, os, &path, || openat(dir, os, flags, mode))?);
                        self.table(&path, entry);
                    }
                    other => other?,
                }
            }
        }
        self.attributes(dir, os, &path, entry)
    }

    /// Make something under a name; what is there goes first, so that it keeps its own inode.
    fn fresh<T>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        make: impl Fn() -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        if self.options.plain {
            self.own.insert(path.to_vec());
        }
        match make() {
            Err(Errno::EEXIST) => {
                self.remove(dir, name, path)?;
                make().context(|| format!("make {name:?}"))
            }
            other => other.context(|| format!("make {name:?}")),
        }
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &[Vec<u8>]) -> Result<()> {
        self.parent = None;
        file::remove_at(dir, name)?;
        forget(&mut self.dirs, path);
        forget(&mut self.owners, path);
        Ok(())
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &[Vec<u8>]) -> Result<()> {
        if self.options.plain {
            self.own.insert(path.to_vec());
        }
        match mkdirat(dir, name, Mode::S_IRWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).context(|| format!("mkdirat({name:?})")),
        }
        let st = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({name:?})"))?;
        if is(&st, SFlag::S_IFDIR) {
            return Ok(());
        }
        // What stood here hid what is below it, and so does the directory that takes its place.
        self.remove(dir, name, path)?;
        mkdirat(dir, name, Mode::S_IRWXU).context(|| format!("mkdirat({name:?})"))?;
        if !self.options.plain {
            let fd = open_dir(dir, name).context(|| format!("openat({name:?}, O_DIRECTORY)"))?;
            self.tree.set_opaque(fd.as_fd())?;
        }
        Ok(())
    }

    fn copy_data<R: Read>(&mut self, entry: &Entry, walk: &mut Walk<R>, mut out: &File) -> Result<()> {
        let write = || format!("write({} bytes)", entry.size);
        let mut pieces = entry.sparse.iter().flatten();
        let mut piece = pieces.next().copied();
        loop {
            let room = match (&entry.sparse, piece) {
                (Some(_), Some(p)) if p.len == 0 => {
                    piece = pieces.next().copied();
                    continue;
                }
                (Some(_), Some(p)) => self.buf.len().min(usize::try_from(p.len).unwrap_or(usize::MAX)),
                (Some(_), None) => break,
                (None, _) => self.buf.len(),
            };
            let n = walk.read_data(&mut self.buf[..room])?;
            if n == 0 {
                break;
            }
            match &mut piece {
                Some(p) => {
                    out.write_all_at(&self.buf[..n], p.offset).context(write)?;
                    p.offset += n as u64;
                    p.len -= n as u64;
                }
                None => out.write_all(&self.buf[..n]).context(write)?,
            }
        }
        if entry.sparse.is_some() {
            out.set_len(entry.size).context(|| format!("ftruncate({})", entry.size))?;
        }
        self.out.size += entry.size;
        Ok(())
    }

    /// Owner first, since chown clears setuid bits and capabilities; times last.
    fn attributes(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        entry: &Entry,
    ) -> Result<()> {
        self.own_it(dir, name, path, entry.uid, entry.gid, entry)?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(entry.mode);
            // The file was just made by us and is no link.
            fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)
                .context(|| format!("fchmodat({name:?}, {mode:?})"))?;
        }
        for (key, value) in wanted_xattrs(&entry.xattrs) {
            self.xattr(dir, name, path, &key, &value)?;
        }
        set_times(dir, name, entry.mtime)
    }

    fn own_it(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        uid: u64,
        gid: u64,
        entry: &Entry,
    ) -> Result<()> {
        if self.options.owners == Owners::Table {
            if (uid, gid) != (0, 0) || matches!(entry.kind, Kind::Char | Kind::Block) {
                self.table(path, entry);
            }
            return Ok(());
        }
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let ids = (u32::try_from(uid), u32::try_from(gid));
        let (Ok(u), Ok(g)) = ids else {
            return Err(Error::invalid(format!("chown {name:?} to {uid}:{gid}: ids have 32 bits")));
        };
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fchownat(dir, name, Some(Uid::from_raw(u)), Some(Gid::from_raw(g)), flags) {
            // The namespace has no such id.
            Err(Errno::EINVAL) => {
                self.table(path, entry);
                Ok(())
            }
            other => other.context(|| format!("fchownat({name:?}, {uid}, {gid})")),
        }
    }

    fn xattr(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        key: &CString,
        value: &[u8],
    ) -> Result<()> {
        match file::set_xattr_at(dir, name, key, value) {
            Ok(()) => Ok(()),
            Err(e @ (Errno::EPERM | Errno::EOPNOTSUPP)) => {
                let why = e.desc();
                self.out.warnings.push(format!("{}: the attribute {key:?} was left out: {why}", shown(path)));
                Ok(())
            }
            Err(e) => Err(e).context(|| format!("lsetxattr({name:?}, {key:?})")),
        }
    }

    fn table(&mut self, path: &[Vec<u8>], entry: &Entry) {
        let kind = match entry.kind {
            Kind::File | Kind::HardLink => SFlag::S_IFREG,
            Kind::Symlink => SFlag::S_IFLNK,
            Kind::Char => SFlag::S_IFCHR,
            Kind::Block => SFlag::S_IFBLK,
            Kind::Dir => SFlag::S_IFDIR,
            Kind::Fifo => SFlag::S_IFIFO,
        };
        let device = matches!(entry.kind, Kind::Char | Kind::Block).then_some(entry.device);
        let mode = entry.mode | kind.bits();
        let owner = Owner { path: shown(path), uid: entry.uid, gid: entry.gid, mode, device };
        self.owners.insert(path.to_vec(), owner);
    }

    fn remember(&mut self, path: Vec<Vec<u8>>, entry: &Entry) {
        self.owners.remove(&path);
        if self.options.owners == Owners::Table && (entry.uid, entry.gid) != (0, 0) {
            self.table(&path, entry);
        }
        let xattrs = wanted_xattrs(&entry.xattrs).collect();
        let (uid, gid) = (entry.uid, entry.gid);
        self.dirs.insert(path, DirMeta { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs });
    }

    /// A hard link's target is a path of the archive, resolved inside; where only a layer below has
    /// it, the file is copied up first, as overlay does on a write.
    fn hard_link(&mut self, entry: &Entry, place: &Place, name: &[u8], path: Vec<Vec<u8>>) -> Result<()> {
        let mut components = split(&entry.link);
        let bad =
            || Error::invalid(format!("link to {:?}: it is not there", String::from_utf8_lossy(&entry.link)));
        if components.is_empty() || components[0] == b".." {
            return Err(bad());
        }
        let target_name = components.remove(0);
        components.reverse();
        let parent = components.join(&b'/');
        let os = OsStr::from_bytes(&target_name);
        let target = self.tree.dir(&parent, Missing::Follow)?.ok_or_else(bad)?;
        self.take_implied()?;
        let target_path = [&target.path[..], std::slice::from_ref(&target_name)].concat();
        if target_path == path {
            return Ok(());
        }
        match fstatat(&*target.dir, os, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if whiteout::is_one(&st) => return Err(bad()),
            Ok(st) if is(&st, SFlag::S_IFDIR) => return Err(Error::invalid("link to a directory")),
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                let (st, below) = self.tree.below(&target_path)?.ok_or_else(bad)?;
                if is(&st, SFlag::S_IFDIR) {
                    return Err(Error::invalid("link to a directory"));
                }
                super::copy::file(below.as_fd(), os, &st, target.dir.as_fd(), os)?;
            }
            Err(e) => return Err(e).context(|| format!("fstatat({os:?})")),
        }
        let link_name = OsStr::from_bytes(name);
        let (from, to) = (Rc::clone(&target.dir), Rc::clone(&place.dir));
        self.fresh(place.dir.as_fd(), link_name, &path, || {
            linkat(&*from, os, &*to, link_name, AtFlags::empty())
        })?;
        // Another name of the same file, which may be the one that is met first.
        if let Some(owner) = self.owners.get(&target_path).cloned() {
            let shown = shown(&path);
            self.owners.insert(path, Owner { path: shown, ..owner });
        }
        Ok(())
    }

    /// What is below under this name is gone; what this layer brought stays.
    fn gone(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        let place = self.tree.dir(parent, Missing::Follow)?;
        self.take_implied()?;
        let Some(place) = place else { return Ok(()) };
        self.keep_attributes(&place)?;
        let os = OsStr::from_bytes(name);
        let dir = place.dir.as_fd();
        let path = [&place.path[..], &[name.to_vec()]].concat();
        if self.options.plain {
            return self.remove_foreign(dir, os, &path);
        }
        match fstatat(dir, os, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => whiteout::make(dir, os),
            Ok(st) if is(&st, SFlag::S_IFDIR) => {
                let fd = open_dir(dir, os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
                self.tree.set_opaque(fd.as_fd())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(e).context(|| format!("fstatat({os:?})")),
        }
    }

    /// Everything that is below in this directory is gone.
    fn opaque(&mut self, dir: &[u8]) -> Result<()> {
        let place = self.tree.dir(dir, Missing::Make)?;
        self.take_implied()?;
        let Some(place) = place else { return Ok(()) };
        self.keep_attributes(&place)?;
        if self.options.plain {
            for name in super::tree::list(place.dir.as_fd())? {
                let path = [&place.path[..], std::slice::from_ref(&name)].concat();
                self.remove_foreign(place.dir.as_fd(), OsStr::from_bytes(&name), &path)?;
            }
            return Ok(());
        }
        if place.path.is_empty() {
            // Overlay reads no mark on a layer's root: see `finish`.
            self.opaque_root = true;
            return Ok(());
        }
        self.tree.set_opaque(place.dir.as_fd())
    }

    /// With a copying driver: remove what came from below, at a path and under it.
    fn remove_foreign(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &[Vec<u8>]) -> Result<()> {
        let below = |p: &Vec<Vec<u8>>| p.starts_with(path);
        let mine = self.own.range(path.to_vec()..).next().is_some_and(below);
        if !mine {
            return self.remove(dir, name, path);
        }
        let Ok(fd) = open_dir(dir, name) else { return Ok(()) };
        for child in super::tree::list(fd.as_fd())? {
            let path = [path, std::slice::from_ref(&child)].concat();
            self.remove_foreign(fd.as_fd(), OsStr::from_bytes(&child), &path)?;
        }
        Ok(())
    }

    /// Directories get their attributes, the deepest first, and the account is closed.
    fn finish(mut self) -> Result<Applied> {
        if self.opaque_root {
            self.hide_all_below()?;
        }
        for (path, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            self.finish_dir(&path, meta)
                .map_err(|e| e.wrap(format!("set the attributes of {:?}", shown(&path))))?;
        }
        self.out.leans = self.tree.leans;
        self.out.owners = self.owners.into_values().collect();
        self.out.owners.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.out)
    }

    fn hide_all_below(&mut self) -> Result<()> {
        let root = self.tree.root();
        for name in self.tree.root_names_below()? {
            let os = OsStr::from_bytes(&name);
            match open_dir(root.dir.as_fd(), os) {
                Ok(fd) => self.tree.set_opaque(fd.as_fd())?,
                Err(Errno::ENOENT) => whiteout::make(root.dir.as_fd(), os)?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn finish_dir(&mut self, path: &[Vec<u8>], meta: DirMeta) -> Result<()> {
        let mut fd = self.tree.root().dir;
        for name in path {
            let os = OsStr::from_bytes(name);
            fd = Rc::new(open_dir(fd.as_fd(), os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?);
        }
        let here = OsStr::new(".");
        if self.options.owners == Owners::Disk && (meta.uid, meta.gid) != (0, 0) {
            let (Ok(u), Ok(g)) = (u32::try_from(meta.uid), u32::try_from(meta.gid)) else {
                return Err(Error::invalid(format!("chown to {}:{}: ids have 32 bits", meta.uid, meta.gid)));
            };
            match nix::unistd::fchown(&*fd, Some(Uid::from_raw(u)), Some(Gid::from_raw(g))) {
                Err(Errno::EINVAL) => {
                    let mode = meta.mode | SFlag::S_IFDIR.bits();
                    let owner = Owner { path: shown(path), uid: meta.uid, gid: meta.gid, mode, device: None };
                    self.owners.insert(path.to_vec(), owner);
                }
                other => other.context(|| format!("fchown({u}, {g})"))?,
            }
        }
        for (key, value) in &meta.xattrs {
            self.xattr(fd.as_fd(), here, path, key, value)?;
        }
        let mode = Mode::from_bits_truncate(meta.mode);
        let (s, n) = meta.mtime;
        let time = TimeSpec::new(s, n.into());
        nix::sys::stat::futimens(&*fd, &time, &time).context(|| "futimens()")?;
        nix::sys::stat::fchmod(&*fd, mode).context(|| format!("fchmod({mode:?})"))
    }

    fn warn(&mut self, entry: &Entry, what: &str) {
        self.out.warnings.push(format!("{}: {what}", String::from_utf8_lossy(&entry.path)));
    }
}
