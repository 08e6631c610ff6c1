//! Paths beneath the container's root. Whatever an image or a bundle put there, nothing resolved here
//! is outside. It walks and makes; it mounts nothing.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result, mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use pathrs::Root as Jail;

/// The container's root, held by descriptor. Paths given to it never leave it, whatever symbolic
/// links they cross, and never go through /proc's magic links.
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The root is what this descriptor is open on.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The root directory itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether this is the root directory itself, by whatever path.
    pub fn is(&self, other: &OwnedFd) -> Result<bool> {
        let place = |fd: BorrowedFd<'_>| mount::place(fd).context(|| "look where a path leads");
        Ok(place(self.as_fd())? == place(other.as_fd())?)
    }

    /// Open what is at `path` with O_PATH; links are followed inside the root.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH, ResolveFlag::empty())
    }

    /// Open `path` for reading and writing: a device node, not what could block. With `links` they are followed inside
    /// the root, without one on the way is an error.
    pub fn open_read_write(&self, path: &Path, links: bool) -> Result<OwnedFd> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let more = if links { ResolveFlag::empty() } else { ResolveFlag::RESOLVE_NO_SYMLINKS };
        self.resolve(path, flags, more)
    }

    /// Open the directory at `path`, no part of which may be a symbolic link.
    pub fn open_real_directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        self.resolve(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlag, more: ResolveFlag) -> Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            match openat2(&self.fd, path, how) {
                // A rename or mount elsewhere was in the way of ".."; EAGAIN says so.
                Err(Errno::EAGAIN) => {}
                Err(Errno::ENOSYS) => return self.resolve_without_openat2(path, flags, more),
                other => return other.context(|| format!("openat2({path:?}, {flags:?}, {resolve:?})")),
            }
        }
    }

    /// Linux before 5.6, or a filter that hides openat2.
    fn resolve_without_openat2(&self, path: &Path, flags: OFlag, more: ResolveFlag) -> Result<OwnedFd> {
        let jail = Jail::from_fd(self.fd.try_clone().context(|| "dup(rootfs)")?);
        let handle = if more.contains(ResolveFlag::RESOLVE_NO_SYMLINKS) {
            jail.with_resolver_flags(pathrs::flags::ResolverFlags::NO_SYMLINKS).resolve(path)
        } else {
            jail.resolve(path)
        };
        let handle = handle.map_err(|e| foreign(&e, format!("resolve {path:?}")))?;
        if flags.contains(OFlag::O_PATH) {
            return Ok(handle.into());
        }
        let flags = pathrs::flags::OpenFlags::from_bits_retain(flags.bits() as u64);
        Ok(handle.reopen(flags).map_err(|e| foreign(&e, format!("open {path:?}")))?.into())
    }

    /// Make the directory at `path` and those above it; what is there already stays. Links are
    /// followed inside the root as far as the path exists; what is made is walked by descriptor.
    pub fn make_directory(&self, path: &Path) -> Result<OwnedFd> {
        let path = clean(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let (mut missing, mut at) = (Vec::new(), path.as_path());
        let mut dir = loop {
            match self.resolve(at, flags, ResolveFlag::empty()) {
                Err(e) if e.kind() == Kind::NotFound => {}
                other => break other?,
            }
            let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
                return Err(Error::not_found("the container's root is gone"));
            };
            missing.push(name);
            at = parent;
        };
        for name in missing.into_iter().rev() {
            match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).context(|| format!("mkdirat({path:?}, 0755)")),
            }
            // Not a link: a dangling one may have been in the way.
            dir = openat(&dir, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
                .context(|| format!("openat({path:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW)"))?;
        }
        Ok(dir)
    }

    /// Make an empty file at `path` to mount something on; what is there already stays.
    /// Where a link is in the way whose file is missing, the file is made where the link leads to inside.
    pub fn make_file(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let mut at = path.to_path_buf();
        // As many links as the kernel follows.
        for _ in 0..40 {
            let (parent, name) = self.parent_of(&at)?;
            match openat(&parent, name.as_os_str(), flags, mode) {
                Ok(_) => return self.open(path),
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).context(|| format!("openat({at:?}, O_CREAT|O_EXCL)")),
            }
            match (self.open(&at), readlinkat(&parent, name.as_os_str())) {
                (Err(e), Ok(to)) if e.kind() == Kind::NotFound => {
                    at = at.parent().unwrap_or(Path::new("/")).join(to);
                }
                (found, _) => return found,
            }
        }
        Err(Errno::ELOOP).context(|| format!("openat({path:?}, O_CREAT)"))
    }

    /// The directory above `path`, made if need be, and the last name of it.
    pub fn parent_of(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let path = clean(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid(format!("{path:?} names no file")));
        };
        Ok((self.make_directory(parent)?, name.to_os_string()))
    }
}

/// pathrs' error as ours; its errno is not to be lost.
fn foreign(error: &pathrs::error::Error, what: String) -> Error {
    match error.kind() {
        pathrs::error::ErrorKind::OsError(Some(n)) => Error::syscall(what, Errno::from_raw(n)),
        _ => Error::invalid(error.to_string()).wrap(what),
    }
}

/// The path from the root on, `.` and `..` taken away as words.
pub fn clean(path: &Path) -> PathBuf {
    let mut all = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => all.push(name),
            Component::ParentDir => drop(all.pop()),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_words_and_stays_below_the_root() {
        for (path, clean_path) in
            [("a/b", "/a/b"), ("/a/../../b/.", "/b"), ("..", "/"), ("", "/"), ("//a//b/", "/a/b")]
        {
            assert_eq!(clean(Path::new(path)), Path::new(clean_path), "{path}");
        }
    }
}
