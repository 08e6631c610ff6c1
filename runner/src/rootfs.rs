//! The root file system: a directory, or a stack of layers; attached, walked beneath, and made the
//! root. Every path that an image or a bundle had a hand in is resolved here, inside the root.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result, mount as sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use pathrs::Root as Jail;
use serde::Serialize;

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A directory of the host, written to directly.
    Directory(PathBuf),
    /// Layers, lowest first, under a top of the container's own.
    Layers {
        /// Directories, lowest first.
        lower: Vec<PathBuf>,
        /// What lies on top.
        top: Top,
    },
}

/// What lies on top of the layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Top {
    /// Nothing: every write is refused.
    None,
    /// Directories of the container's own.
    Upper {
        /// Takes the writes.
        upper: PathBuf,
        /// overlay's own, on the same file system.
        work: PathBuf,
        /// Never synced: nothing of it is to outlive a power cut.
        volatile: bool,
    },
    /// A tmpfs that ends with the container.
    Scratch {
        /// Its size in bytes; half of the memory when absent.
        size: Option<u64>,
    },
}

/// The root file system, fully decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Where it comes from.
    pub source: Source,
    /// Whether the root mount is read only in the end.
    pub readonly: bool,
    /// Propagation that the host's mounts get in the container's namespace before anything else.
    #[serde(skip)]
    pub host: MsFlags,
    /// Propagation of the root mount in the end.
    #[serde(skip)]
    pub propagation: Option<MsFlags>,
}

/// Decide the root from `root.path` (or `stack`, which replaces it) and `linux.rootfsPropagation`.
pub fn plan(
    source: Source,
    readonly: bool,
    propagation: Option<&str>,
    mounts_follow: MsFlags,
) -> Result<Plan> {
    let propagation = match propagation.unwrap_or("") {
        "" => None,
        "private" => Some(MsFlags::MS_PRIVATE),
        "rprivate" => Some(MsFlags::MS_PRIVATE | MsFlags::MS_REC),
        "slave" => Some(MsFlags::MS_SLAVE),
        "rslave" => Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        "shared" => Some(MsFlags::MS_SHARED),
        "rshared" => Some(MsFlags::MS_SHARED | MsFlags::MS_REC),
        "unbindable" => Some(MsFlags::MS_UNBINDABLE),
        "runbindable" => Some(MsFlags::MS_UNBINDABLE | MsFlags::MS_REC),
        other => {
            return Err(Error::invalid(format!("linux.rootfsPropagation: {other:?} is unknown")));
        }
    };
    // What a mount or the root is to receive from the host must not be cut off first.
    let follow = mounts_follow | propagation.unwrap_or(MsFlags::empty());
    let host = if follow.contains(MsFlags::MS_SHARED) {
        MsFlags::empty()
    } else if follow.contains(MsFlags::MS_SLAVE) {
        MsFlags::MS_SLAVE | MsFlags::MS_REC
    } else {
        MsFlags::MS_PRIVATE | MsFlags::MS_REC
    };
    Ok(Plan { source, readonly, host, propagation })
}

impl Plan {
    /// In the new mount namespace: cut it off from the host's and attach the root. `stack` is the
    /// detached overlay, where the source is one.
    pub fn attach(&self, stack: Option<OwnedFd>) -> Result<Root> {
        let none: Option<&str> = None;
        if !self.host.is_empty() {
            mount(none, "/", none, self.host, none).context(|| format!("mount(\"/\", {:?})", self.host))?;
        }
        let (tree, at) = match (&self.source, stack) {
            (_, Some(stack)) => (stack, Path::new("/")),
            (Source::Directory(dir), None) => (
                sys::clone_host_tree(dir, true)
                    .context(|| format!("open the root file system {}", dir.display()))?,
                dir.as_path(),
            ),
            (Source::Layers { .. }, None) => {
                return Err(Error::invalid("the layers of the root file system are not mounted"));
            }
        };
        // pivot_root refuses a root whose own mount, or the one below, is shared.
        let private = sys::Attrs { propagation: libc::MS_PRIVATE, ..sys::Attrs::default() };
        if self.host.is_empty() {
            mount(none, "/", none, MsFlags::MS_PRIVATE, none).context(|| "mount(\"/\", MS_PRIVATE)")?;
        }
        sys::set_attrs(tree.as_fd(), private, true)?;
        let target = nix::fcntl::open(at, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .context(|| format!("open({at:?}, O_PATH)"))?;
        sys::attach(tree.as_fd(), target.as_fd()).context(|| "attach the root file system")?;
        Ok(Root { fd: tree })
    }

    /// Make it the root, and let the host's mounts go. Read only from here on, if it is to be.
    pub fn enter(&self, root: &Root) -> Result<()> {
        fchdir(&root.fd).context(|| "fchdir(rootfs)")?;
        // The old root ends up stacked on the new one, at "." of the new.
        match pivot_root(".", ".") {
            Ok(()) => umount2(".", MntFlags::MNT_DETACH).context(|| "umount2(\".\", MNT_DETACH)")?,
            // The host's root is an initramfs, which has no mount below it.
            Err(Errno::EINVAL) => move_to_root()?,
            Err(e) => return Err(e).context(|| "pivot_root(\".\", \".\")"),
        }
        chdir("/").context(|| "chdir(\"/\")")?;
        if let Some(flags) = self.propagation {
            let none: Option<&str> = None;
            mount(none, "/", none, flags, none).context(|| format!("mount(\"/\", {flags:?})"))?;
        }
        if self.readonly {
            let attrs = sys::Attrs { set: sys::attr::RDONLY, ..sys::Attrs::default() };
            sys::set_attrs(root.fd.as_fd(), attrs, false).context(|| "make the root read only")?;
        }
        Ok(())
    }
}

/// An initramfs cannot be pivoted away from: cover it with a copy of itself that can, else move ours
/// over it. The working directory is the new root.
fn move_to_root() -> Result<()> {
    let none: Option<&str> = None;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).context(|| "mount(\".\", \"/\", MS_MOVE)")?;
    chroot(".").context(|| "chroot(\".\")")
}

/// The container's root, held by descriptor. Paths given to it never leave it, whatever symbolic
/// links they cross, and never go through /proc's magic links.
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The root directory itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Open what is at `path` with O_PATH; links are followed inside the root.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH, ResolveFlag::empty())
    }

    /// Open `path` for reading and writing: a device node, not what could block.
    pub fn open_read_write(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        self.resolve(path, flags, ResolveFlag::empty())
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
        let jail = self.jail()?;
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

    /// Make the directory at `path` and those above it; what is there already stays.
    pub fn make_directory(&self, path: &Path) -> Result<OwnedFd> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        let handle = self.jail()?.mkdir_all(path, &mode);
        Ok(handle.map_err(|e| foreign(&e, format!("mkdir({path:?}, 0755) in the root")))?.into())
    }

    /// Make an empty file at `path` to mount something on; what is there already stays.
    pub fn make_file(&self, path: &Path) -> Result<OwnedFd> {
        let (parent, name) = self.parent_of(path)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        match nix::fcntl::openat(&parent, name.as_os_str(), flags, mode) {
            Ok(_) | Err(Errno::EEXIST) => self.open(path),
            Err(e) => Err(e).context(|| format!("openat({path:?}, O_CREAT|O_EXCL)")),
        }
    }

    /// The directory above `path`, made if need be, and the last name of it.
    pub fn parent_of(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let path = clean(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid(format!("{path:?} names no file")));
        };
        let parent = match self.open(parent) {
            Err(e) if e.kind() == Kind::NotFound => self.make_directory(parent)?,
            other => other?,
        };
        Ok((parent, name.to_os_string()))
    }

    fn jail(&self) -> Result<Jail> {
        let fd = self.fd.try_clone().context(|| "dup(rootfs)")?;
        Ok(Jail::from_fd(fd))
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

    #[test]
    fn propagation_from_the_host_is_cut_only_where_nothing_asks_for_it() {
        let dir = || Source::Directory("/r".into());
        let host = |p, m| plan(dir(), false, p, m).unwrap().host;
        assert_eq!(host(None, MsFlags::empty()), MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        assert_eq!(host(Some("rslave"), MsFlags::empty()), MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(host(None, MsFlags::MS_SHARED), MsFlags::empty());
        assert!(plan(dir(), false, Some("upwards"), MsFlags::empty()).is_err());
    }
}
