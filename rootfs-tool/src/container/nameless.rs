//! Files that have no name until they are whole. Who is killed before leaves nothing behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use coracle_sys::{Context, Result, file};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

/// A file in the making.
pub(crate) struct Nameless<'a> {
    file: File,
    /// Where the file system knows no file without a name: the one it has meanwhile.
    temp: Option<(&'a OwnedFd, OsString)>,
}

impl<'a> Nameless<'a> {
    /// One in the file system of a directory.
    pub(crate) fn new(dir: &'a OwnedFd) -> Result<Self> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(dir, c".", flags | OFlag::O_TMPFILE, mode) {
            Ok(fd) => return Ok(Self { file: fd.into(), temp: None }),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => return Err(e).context(|| "open(O_TMPFILE)"),
        }
        let name = temporary();
        let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let fd = openat(dir, name.as_os_str(), flags, mode).context(|| format!("open({name:?}, O_CREAT)"))?;
        Ok(Self { file: fd.into(), temp: Some((dir, name)) })
    }

    /// What is written to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Give it its name, in the place of what has it.
    pub(crate) fn name(mut self, dir: &OwnedFd, name: &OsStr, there: bool) -> Result<()> {
        if let Some((at, temp)) = &self.temp {
            rename(at, temp, name)?;
            self.temp = None;
            return Ok(());
        }
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        put_over(dir, name, there, |new| {
            linkat(AT_FDCWD, own.as_str(), dir, new, AtFlags::AT_SYMLINK_FOLLOW)
                .context(|| format!("link({name:?})"))
        })
    }
}

impl Drop for Nameless<'_> {
    fn drop(&mut self) {
        if let Some((dir, temp)) = &self.temp {
            let _ = unlinkat(dir, temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Make something under a name, or beside it and then in the place of what has the name.
pub(crate) fn put_over(
    dir: &OwnedFd,
    name: &OsStr,
    there: bool,
    make: impl Fn(&OsStr) -> Result<()>,
) -> Result<()> {
    if !there {
        match make(name) {
            Err(e) if e.errno() == Some(Errno::EEXIST) => {}
            other => return other,
        }
    }
    let temp = temporary();
    make(&temp).and_then(|()| rename(dir, &temp, name)).inspect_err(|_| {
        let _ = unlinkat(dir, temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
    })
}

fn rename(dir: &OwnedFd, from: &OsStr, to: &OsStr) -> Result<()> {
    renameat(dir, from, dir, to).context(|| format!("rename({from:?}, {to:?})"))
}

fn temporary() -> OsString {
    file::unique_name(".copy-").into_os_string()
}
