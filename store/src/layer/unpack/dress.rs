//! What a file is given beside its content: owner, mode, extended attributes, times; and the table of what
//! the disk cannot hold of these.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::{DirMeta, Layer};
use crate::layer::Owners;
use crate::layer::attributes::{copied_xattrs, set_times, shown, wanted_xattrs};
use crate::layer::owners::Owner;
use crate::layer::tree::open_dir;
use crate::layer::walk::{Entry, Kind};

/// The machine's own, which no archive says anything of.
const SELINUX: &CStr = c"security.selinux";

impl Layer<'_> {
    /// Owner first, since chown clears setuid bits and capabilities; times last. What is `open` is not looked up again.
    pub(super) fn attributes(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        entry: &Entry,
        open: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        self.own_it(dir, name, path, entry.uid, entry.gid, entry)?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(entry.mode);
            // The file was just made by us and is no link.
            let done = match open {
                Some(fd) => fchmod(fd, mode),
                None => fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink),
            };
            done.context(|| format!("fchmodat({name:?}, {mode:?})"))?;
        }
        for (key, value) in wanted_xattrs(&entry.xattrs) {
            self.xattr(dir, name, path, &key, &value)?;
        }
        let (s, n) = entry.mtime;
        let time = TimeSpec::new(s, n.into());
        match open {
            Some(fd) => futimens(fd, &time, &time).context(|| format!("futimens({name:?}, {s}.{n:09})")),
            None => set_times(dir, name, entry.mtime),
        }
    }

    pub(super) fn own_it(
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

    pub(super) fn xattr(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
        key: &CString,
        value: &[u8],
    ) -> Result<()> {
        match file::set_xattr_at(dir, name, key, value) {
            Ok(()) => Ok(()),
            // Not allowed, not kept by this file system, or no name of an attribute.
            Err(e @ (Errno::EPERM | Errno::EOPNOTSUPP | Errno::ERANGE)) => {
                let why = e.desc();
                self.out.warnings.push(format!("{}: the attribute {key:?} was left out: {why}", shown(path)));
                Ok(())
            }
            Err(e) => Err(e).context(|| format!("lsetxattr({name:?}, {key:?})")),
        }
    }

    pub(super) fn table(&mut self, path: &[Vec<u8>], entry: &Entry) {
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

    pub(super) fn remember(&mut self, path: Vec<Vec<u8>>, entry: &Entry) -> Result<()> {
        self.owners.remove(&path);
        if self.options.owners == Owners::Table && (entry.uid, entry.gid) != (0, 0) {
            self.table(&path, entry);
        }
        let xattrs = wanted_xattrs(&entry.xattrs).collect();
        let (uid, gid) = (entry.uid, entry.gid);
        self.wait(path, DirMeta { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs, guessed: false })
    }

    /// Give a directory its attributes. `way` holds the directories on the way to it that are open, the root
    /// first, and then all of them.
    pub(super) fn finish_dir(
        &mut self,
        path: &[Vec<u8>],
        way: &mut Vec<Rc<OwnedFd>>,
        meta: DirMeta,
    ) -> Result<()> {
        let mut fd = way.last().map_or_else(|| self.tree.root().dir, Rc::clone);
        for name in &path[way.len().saturating_sub(1)..] {
            let os = OsStr::from_bytes(name);
            fd = Rc::new(open_dir(fd.as_fd(), os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?);
            way.push(Rc::clone(&fd));
        }
        let here = OsStr::new(".");
        // With a copying driver it may be one from below, which had others.
        let others = match self.options.plain {
            true => nix::sys::stat::fstat(&*fd).map(|st| (st.st_uid, st.st_gid)).context(|| "fstat()")?,
            false => (0, 0),
        };
        if self.options.owners == Owners::Disk && (meta.uid, meta.gid) != (others.0.into(), others.1.into()) {
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
        if self.options.plain {
            for (key, _) in copied_xattrs(fd.as_fd(), here)? {
                if key.as_c_str() == SELINUX || meta.xattrs.iter().any(|(k, _)| *k == key) {
                    continue;
                }
                match file::remove_xattr(fd.as_fd(), &key) {
                    Ok(()) | Err(Errno::EPERM | Errno::ENODATA) => {}
                    Err(e) => return Err(e).context(|| format!("fremovexattr({key:?})")),
                }
            }
        }
        for (key, value) in &meta.xattrs {
            self.xattr(fd.as_fd(), here, path, key, value)?;
        }
        let mode = Mode::from_bits_truncate(meta.mode);
        let (s, n) = meta.mtime;
        let time = TimeSpec::new(s, n.into());
        futimens(&*fd, &time, &time).context(|| "futimens()")?;
        fchmod(&*fd, mode).context(|| format!("fchmod({mode:?})"))
    }
}
