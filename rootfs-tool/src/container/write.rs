//! A tar becomes files beneath a confined directory. A file appears whole: it is written without a name, and gets it at
//! the end, in the place of the one that had it. Directories are one with those that are there.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use tar::EntryType;

use super::confined::{Confined, is};
use super::member::Member;
use super::nameless::{Nameless, put_over};

/// Whose the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whose the archive says.
    Kept,
    /// All of one. A program that runs as its owner then runs as another: only where `own` says that files of this id
    /// are that one's own does it stay one.
    One { uid: u32, gid: u32, own: Option<u64> },
}

/// Where an archive's files go.
pub(crate) struct Unpack<'a> {
    root: &'a Confined,
    /// The directory, in the root.
    base: PathBuf,
    rename: Option<(String, String)>,
    owner: Owner,
    /// Directories get their times last: what is put into them changes those.
    dirs: Vec<(PathBuf, TimeSpec)>,
    /// The directory that the last entry went to: the next one goes there too, most likely.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

impl<'a> Unpack<'a> {
    pub(crate) fn new(
        root: &'a Confined,
        base: &Path,
        rename: Option<(String, String)>,
        owner: Owner,
    ) -> Self {
        Self { root, base: base.to_owned(), rename, owner, dirs: Vec::new(), last: None }
    }

    /// Put all of it there.
    pub(crate) fn run(mut self, mut input: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(&mut input);
        for entry in archive.entries().context(|| "read the archive")? {
            let mut entry = entry.context(|| "read the archive")?;
            let Some(member) = Member::of(&mut entry, self.rename.as_ref())? else { continue };
            let told = member.path.display().to_string();
            self.put(&member, &mut entry).map_err(|e| e.wrap(format!("put {told:?}")))?;
        }
        for (path, time) in self.dirs.iter().rev() {
            let dir = self.root.dir(path).context(|| format!("open({path:?})"))?;
            utimensat(&dir, c".", time, time, UtimensatFlags::NoFollowSymlink)
                .context(|| format!("utimensat({path:?})"))?;
        }
        // Whoever writes it is not to find it closed.
        std::io::copy(&mut input, &mut std::io::sink()).context(|| "read the archive").map(drop)
    }

    fn put(&mut self, member: &Member, bytes: &mut dyn Read) -> Result<()> {
        // The directory itself, which is there, stays as it is.
        let Some(name) = member.path.file_name() else { return Ok(()) };
        let dir = self.parent(member.path.parent().unwrap_or(Path::new("")))?;
        let there = match fstatat(&*dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => None,
            other => Some(other.context(|| format!("lstat({name:?})"))?),
        };
        let whole = self.base.join(&member.path);
        match (there.as_ref().map(|st| is(st, SFlag::S_IFDIR)), member.kind == EntryType::Directory) {
            (Some(true), false) => {
                return Err(Error::invalid(format!(
                    "cannot overwrite directory {whole:?} with non-directory"
                )));
            }
            (Some(false), true) => {
                return Err(Error::invalid(format!(
                    "cannot overwrite non-directory {whole:?} with directory"
                )));
            }
            _ => {}
        }
        match member.kind {
            EntryType::Directory => self.directory(&dir, name, there.is_some(), member, whole),
            EntryType::Regular => self.file(&dir, name, there.is_some(), member, bytes),
            EntryType::Link => self.link(&dir, name, there.is_some(), member),
            _ => self.special(&dir, name, there.as_ref(), member),
        }
    }

    /// The directory that an entry is in. An archive need not say it.
    fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let whole = self.base.join(path);
        if let Some((last, dir)) = &self.last
            && *last == whole
        {
            return Ok(dir.clone());
        }
        let mut missing = Vec::new();
        let mut at = whole.as_path();
        let mut dir = loop {
            match self.root.dir(at) {
                Err(Errno::ENOENT) if at != self.base => {}
                other => break other.context(|| format!("open({at:?}, O_DIRECTORY)"))?,
            }
            let (Some(name), Some(parent)) = (at.file_name(), at.parent()) else { break self.dup()? };
            missing.push(name);
            at = parent;
        };
        for name in missing.into_iter().rev() {
            mkdirat(&dir, name, Mode::from_bits_truncate(0o755)).context(|| format!("mkdir({name:?})"))?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            dir = openat(&dir, name, flags, Mode::empty()).context(|| format!("open({name:?})"))?;
            if let Owner::One { uid, gid, .. } = self.owner {
                chown_at(&dir, OsStr::new("."), uid, gid)?;
            }
        }
        let dir = Rc::new(dir);
        self.last = Some((whole, dir.clone()));
        Ok(dir)
    }

    fn dup(&self) -> Result<OwnedFd> {
        self.root.as_fd().try_clone_to_owned().context(|| "dup()")
    }

    /// Who owns a member, and what of its mode it keeps.
    fn owned(&self, member: &Member) -> (u32, u32, Mode, bool) {
        let all = Mode::from_bits_truncate(member.mode);
        match self.owner {
            Owner::Kept => (member.uid as u32, member.gid as u32, all, true),
            Owner::One { uid, gid, own } => {
                let powers = own == Some(member.uid) || member.kind == EntryType::Directory;
                let mode = if powers { all } else { all & !(Mode::S_ISUID | Mode::S_ISGID) };
                (uid, gid, mode, powers)
            }
        }
    }

    fn directory(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        there: bool,
        member: &Member,
        whole: PathBuf,
    ) -> Result<()> {
        if !there {
            mkdirat(dir, name, Mode::S_IRWXU).context(|| format!("mkdir({name:?})"))?;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd =
            openat(dir, name, flags, Mode::empty()).context(|| format!("open({name:?}, O_DIRECTORY)"))?;
        let (uid, gid, mode, _) = self.owned(member);
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(|| format!("chown({name:?}, {uid}, {gid})"))?;
        fchmod(&fd, mode).context(|| format!("chmod({name:?})"))?;
        self.dirs.push((whole, member.time));
        Ok(())
    }

    fn file(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        there: bool,
        member: &Member,
        bytes: &mut dyn Read,
    ) -> Result<()> {
        let mut file = Nameless::new(dir)?;
        let written = std::io::copy(bytes, file.file()).context(|| format!("write {name:?}"))?;
        if written != member.size {
            return Err(Error::invalid(format!("the archive ends within it, after {written} bytes")));
        }
        let (uid, gid, mode, powers) = self.owned(member);
        let made = file.file();
        let fd = made.as_fd();
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(|| format!("chown({name:?}, {uid}, {gid})"))?;
        fchmod(fd, mode).context(|| format!("chmod({name:?})"))?;
        for (key, value) in
            member.xattrs.iter().filter(|(k, _)| powers || k.to_bytes() != b"security.capability")
        {
            match coracle_sys::file::set_xattr(fd, key, value) {
                Ok(()) | Err(Errno::EPERM | Errno::EOPNOTSUPP) => {}
                Err(e) => return Err(e).context(|| format!("fsetxattr({name:?}, {key:?})")),
            }
        }
        nix::sys::stat::futimens(fd, &member.time, &member.time).context(|| format!("futimens({name:?})"))?;
        file.name(dir, name, there)
    }

    fn link(&mut self, dir: &OwnedFd, name: &OsStr, there: bool, member: &Member) -> Result<()> {
        let to = member.link.as_deref().unwrap_or(Path::new(""));
        let Some(target) = to.file_name() else {
            return Err(Error::invalid(format!("it is another name of {to:?}, which names no file")));
        };
        let from = self.parent(to.parent().unwrap_or(Path::new("")))?;
        if there {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).context(|| format!("unlink({name:?})"))?;
        }
        linkat(&*from, target, dir, name, AtFlags::empty()).context(|| format!("link({to:?}, {name:?})"))
    }

    fn special(&self, dir: &OwnedFd, name: &OsStr, there: Option<&FileStat>, member: &Member) -> Result<()> {
        let (uid, gid, mode, _) = self.owned(member);
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let make = |new: &OsStr| match member.kind {
            EntryType::Symlink => {
                let to = member.link.as_deref().unwrap_or(Path::new(""));
                symlinkat(to, dir, new).context(|| format!("symlink({name:?})"))
            }
            kind => {
                let (kind, device) = match kind {
                    EntryType::Char => (SFlag::S_IFCHR, member.device),
                    EntryType::Block => (SFlag::S_IFBLK, member.device),
                    _ => (SFlag::S_IFIFO, (0, 0)),
                };
                mknodat(dir, new, kind, private, makedev(device.0.into(), device.1.into()))
                    .context(|| format!("mknod({name:?})"))
            }
        };
        if member.kind == EntryType::Symlink && leaves(&member.path, member.link.as_deref()) {
            let to = member.link.as_deref().unwrap_or(Path::new(""));
            return Err(Error::invalid(format!(
                "invalid symlink: it leads out of what is copied, to {to:?}"
            )));
        }
        put_over(dir, name, there.is_some(), |new| {
            make(new)?;
            chown_at(dir, new, uid, gid)?;
            if member.kind != EntryType::Symlink {
                use nix::sys::stat::{FchmodatFlags, fchmodat};
                fchmodat(dir, new, mode, FchmodatFlags::FollowSymlink)
                    .context(|| format!("chmod({name:?})"))?;
            }
            utimensat(dir, new, &member.time, &member.time, UtimensatFlags::NoFollowSymlink)
                .context(|| format!("utimensat({name:?})"))
        })
    }
}

fn chown_at(dir: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    fchownat(dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_SYMLINK_NOFOLLOW)
        .context(|| format!("chown({name:?}, {uid}, {gid})"))
}

/// Does a link's target, taken from the link on, lead above where the archive is unpacked? Docker makes no such link. One
/// that begins at the root is taken to begin at the link.
fn leaves(path: &Path, target: Option<&Path>) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for name in target.unwrap_or(Path::new("")).as_os_str().as_bytes().split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::leaves;
    use std::path::Path;

    #[test]
    fn a_link_leads_out_by_its_words() {
        for (path, to, out) in [
            ("up", "../x", true),
            ("d/up", "../x", false),
            ("d/up", "../../x", true),
            ("l", "/etc/passwd", false),
            ("l", "a/../..", true),
            ("d/l", "a/../../b", false),
        ] {
            assert_eq!(leaves(Path::new(path), Some(Path::new(to))), out, "{path} {to}");
        }
    }
}
