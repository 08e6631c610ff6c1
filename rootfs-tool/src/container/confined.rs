//! A directory that paths do not leave, whatever is in them and whoever changes it meanwhile: each is resolved by the
//! kernel, beneath the directory's descriptor.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// The directory.
pub(crate) struct Confined {
    fd: OwnedFd,
    how: ResolveFlag,
}

impl Confined {
    /// A container's root: links lead where they lead inside, never through those of /proc.
    pub(crate) fn root(fd: OwnedFd) -> Self {
        Self { fd, how: ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS }
    }

    /// A folder of the host, in which no link is followed.
    pub(crate) fn folder(fd: OwnedFd) -> Self {
        Self { fd, how: ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS }
    }

    /// The directory itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Open what a path leads to, a link at its end followed where any is.
    pub(crate) fn open(&self, path: &Path, flags: OFlag) -> std::result::Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(self.how);
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(&self.fd, path, how) {
                // A rename elsewhere was in the way of a "..".
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// A directory.
    pub(crate) fn dir(&self, path: &Path) -> std::result::Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    /// What stands at a path, itself if that is a link; none where there is nothing. A slash or a dot at its end asks for
    /// a directory, behind a link too.
    pub(crate) fn look(&self, path: &str) -> Result<Option<FileStat>> {
        let flags = match super::paths::says_directory(path) {
            true => OFlag::O_PATH | OFlag::O_DIRECTORY,
            false => OFlag::O_PATH | OFlag::O_NOFOLLOW,
        };
        match self.open(Path::new(path), flags) {
            Ok(fd) => fstat(&fd).map(Some).context(|| format!("fstat({path:?})")),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOSYS) => {
                Err(Error::unsupported("openat2(): copies need it, and Linux 5.6 brings it"))
            }
            Err(e) => Err(e).context(|| format!("open({path:?})")),
        }
    }

    /// The path without links, as far as there is something. No more than a name for it: who opens it is confined again.
    pub(crate) fn evaluate(&self, path: &Path) -> Result<PathBuf> {
        let words = |path: &Path| -> Vec<OsString> {
            let word = |c: Component<'_>| match c {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            };
            path.components().rev().filter_map(word).collect()
        };
        let mut todo = words(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let here = at.join(&name);
            let target = match self.open(&here, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
                Ok(fd) => readlinkat(&fd, c"").ok(),
                Err(_) => None,
            };
            let Some(target) = target else {
                at = here;
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(Errno::ELOOP).context(|| format!("resolve {path:?}"));
            }
            let target = PathBuf::from(OsString::from_vec(target.into_vec()));
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            todo.extend(words(&target));
        }
        Ok(at)
    }
}

/// Is a file with this status of this type?
pub(crate) fn is(st: &FileStat, kind: SFlag) -> bool {
    st.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}
