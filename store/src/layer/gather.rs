//! A directory of the host, an overlay's upper or an applied layer becomes entries of an archive. Links are
//! taken as they are and never followed.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstatat, major, minor};

use super::attributes::{is_overlays, shown};
use super::owners::Owner;
use super::pack::{Archive, Content, FromDir, Meta, Seen, clean};
use super::tree::{is, list, open_dir};
use super::whiteout::{self, Meaning};
use super::{Marks, Owners};

/// A directory of the host on its way into an archive.
pub(super) struct Gather<'a> {
    how: FromDir,
    upper: Option<Marks>,
    owners: HashMap<String, Owner>,
    /// Whatever the table does not name is root's, since all files on disk belong to the one id.
    one_id: bool,
    links: HashMap<(u64, u64), Vec<u8>>,
    wanted: Option<Wanted<'a>>,
    /// The directory itself is taken as well.
    whole: bool,
}

/// Is a path, a directory or not, to be taken?
type Wanted<'a> = &'a mut dyn FnMut(&[u8], bool) -> bool;

impl<'a> Gather<'a> {
    /// With `upper`, whiteouts and opaque marks are read; `owners` is a layer's table.
    pub(super) fn new(how: FromDir, upper: Option<Marks>, owners: Vec<Owner>) -> Self {
        let owners = owners.into_iter().map(|o| (o.path.clone(), o)).collect();
        let one_id = upper.is_some() && Owners::of_this_process() == Owners::Table;
        Self { how, upper, owners, one_id, links: HashMap::new(), wanted: None, whole: upper.is_some() }
    }

    /// Of a directory that is the whole of what is seen, and not a layer of it.
    pub(super) fn of_snapshot(how: FromDir) -> Self {
        let one_id = Owners::of_this_process() == Owners::Table;
        Self { one_id, whole: true, ..Self::new(how, None, Vec::new()) }
    }

    /// Take this alone.
    pub(super) fn only(self, wanted: Wanted<'a>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// Put everything in `dir` below `at`.
    pub(super) fn fill(&mut self, archive: &mut Archive, dir: &Path, at: &Path) -> Result<()> {
        // Files are opened by their paths later, and no link is followed then.
        let dir = &std::fs::canonicalize(dir).context(|| format!("open({dir:?})"))?;
        let fd = file::open_dir(dir)?;
        let at = clean(at)?;
        let st = fstatat(&fd, ".", AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({dir:?})"))?;
        if !at.is_empty() || self.whole {
            let meta = self.meta(fd.as_fd(), OsStr::new("."), &st, &at)?;
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
            if let Some(wanted) = &mut self.wanted
                && !wanted(&path, is(&st, SFlag::S_IFDIR))
            {
                continue;
            }
            let host = host.join(&os);
            if self.upper.is_some() && whiteout::is_one(&st) {
                archive.whiteout(Path::new(OsStr::from_bytes(&path)))?;
                continue;
            }
            if self.upper == Some(Marks::Fuse)
                && let Ok(meaning) = whiteout::read(&name)
                && meaning != Meaning::Name
            {
                match meaning {
                    Meaning::Gone(gone) => {
                        archive.whiteout(Path::new(OsStr::from_bytes(at)).join(OsStr::from_bytes(gone)))?
                    }
                    Meaning::Opaque => archive.opaque(Path::new(OsStr::from_bytes(at)))?,
                    Meaning::Name | Meaning::Nothing => {}
                }
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
                    let meta = self.meta(dir, &os, &st, &path)?;
                    archive.entries.insert(path, (meta, Content::HardLink(target)));
                    continue;
                }
                self.links.insert((st.st_dev, st.st_ino), path.clone());
            }
            let Some(content) =
                self.device(&path).map_or_else(|| content(dir, &os, &st, &host), |d| Ok(Some(d)))?
            else {
                archive.warnings.push(format!("{}: a socket was left out", host.display()));
                continue;
            };
            let is_dir = content == Content::Dir;
            archive.entries.insert(path.clone(), (self.meta(dir, &os, &st, &path)?, content));
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

    /// The device whose place an empty file holds.
    fn device(&self, path: &[u8]) -> Option<Content> {
        let owner = self.owner(path)?;
        let (major, minor) = owner.device?;
        match owner.mode & SFlag::S_IFMT.bits() {
            kind if kind == SFlag::S_IFBLK.bits() => Some(Content::Block(major, minor)),
            _ => Some(Content::Char(major, minor)),
        }
    }

    fn owner(&self, path: &[u8]) -> Option<&Owner> {
        if self.owners.is_empty() {
            return None;
        }
        let components: Vec<Vec<u8>> = path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        self.owners.get(&shown(&components))
    }

    pub(super) fn meta(&self, dir: BorrowedFd<'_>, name: &OsStr, st: &FileStat, path: &[u8]) -> Result<Meta> {
        let mut ids = if self.one_id { (0, 0) } else { (st.st_uid, st.st_gid) };
        if let Some(owner) = self.owner(path) {
            let id = |id: u64| {
                u32::try_from(id).map_err(|_| Error::invalid(format!("chown to {id}: ids have 32 bits")))
            };
            ids = (id(owner.uid)?, id(owner.gid)?);
        }
        let (uid, gid) = self.how.owner.unwrap_or(ids);
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
    for key in marks.all_opaque() {
        let value = file::xattr_at(dir, OsStr::new("."), key).context(|| format!("lgetxattr({key:?})"))?;
        if value.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn content(dir: BorrowedFd<'_>, name: &OsStr, st: &FileStat, host: &Path) -> Result<Option<Content>> {
    let device = || (major(st.st_rdev) as u32, minor(st.st_rdev) as u32);
    Ok(Some(match SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Content::Dir,
        SFlag::S_IFREG => {
            Content::File { path: host.to_owned(), size: st.st_size as u64, seen: Some(Seen::of(st)) }
        }
        SFlag::S_IFLNK => {
            Content::Symlink(readlinkat(dir, name).context(|| format!("readlinkat({name:?})"))?)
        }
        SFlag::S_IFCHR => Content::Char(device().0, device().1),
        SFlag::S_IFBLK => Content::Block(device().0, device().1),
        SFlag::S_IFIFO => Content::Fifo,
        _ => return Ok(None),
    }))
}
