//! The root file system: a directory, or a stack of layers; attached, walked beneath, and made the
//! root. Every path that an image or a bundle had a hand in is resolved here, inside the root.

mod beneath;
pub mod stack;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_store::driver::Driver;
use coracle_sys::{Context, Error, Result, mount as sys};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use serde::Serialize;

pub use beneath::{Root, clean};

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A directory of the host, written to directly.
    Directory(PathBuf),
    /// Layers, lowest first, under a top of the container's own.
    Layers(Layers),
}

/// A stack of layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layers {
    /// Directories, lowest first.
    pub lower: Vec<PathBuf>,
    /// What lies on top.
    pub top: Top,
    /// How they are stacked.
    pub driver: Driver,
    /// They are stacked by the program fuse-overlayfs, and by nothing else: the driver is that, or the container was
    /// begun so.
    pub by_program: bool,
    /// overlay's own marks are `user.overlay.*`: the store belongs to an ordinary user.
    pub userxattr: bool,
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
        leave_initramfs()?;
        let (tree, at) = match (&self.source, stack) {
            (_, Some(stack)) => (stack, Path::new("/")),
            (Source::Directory(dir), None) => (
                sys::clone_host_tree(dir, true)
                    .context(|| format!("open the root file system {}", dir.display()))?,
                dir.as_path(),
            ),
            (Source::Layers(_), None) => {
                return Err(Error::invalid("the layers of the root file system are not mounted"));
            }
        };
        // pivot_root refuses a root whose own mount, or the one below, is shared.
        let apart = match self.propagation.is_some_and(|p| p.contains(MsFlags::MS_SLAVE)) {
            true => libc::MS_SLAVE,
            false => libc::MS_PRIVATE,
        };
        let apart = sys::Attrs { propagation: apart, ..sys::Attrs::default() };
        if self.host.is_empty() {
            mount(none, "/", none, MsFlags::MS_PRIVATE, none).context(|| "mount(\"/\", MS_PRIVATE)")?;
        }
        sys::set_attrs(tree.as_fd(), apart, true)?;
        let target = open(at, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .context(|| format!("open({at:?}, O_PATH)"))?;
        sys::attach(tree.as_fd(), target.as_fd()).context(|| "attach the root file system")?;
        Ok(Root::new(tree))
    }

    /// Make it the root, and let the host's mounts go. Read only from here on, if it is to be.
    pub fn enter(&self, root: &Root) -> Result<()> {
        fchdir(root.as_fd()).context(|| "fchdir(rootfs)")?;
        // The old root ends up stacked on the new one, at "." of the new.
        pivot_root(".", ".").context(|| "pivot_root(\".\", \".\")")?;
        umount2(".", MntFlags::MNT_DETACH).context(|| "umount2(\".\", MNT_DETACH)")?;
        chdir("/").context(|| "chdir(\"/\")")?;
        if let Some(flags) = self.propagation {
            let none: Option<&str> = None;
            mount(none, "/", none, flags, none).context(|| format!("mount(\"/\", {flags:?})"))?;
        }
        if self.readonly {
            let attrs = sys::Attrs { set: sys::attr::RDONLY, ..sys::Attrs::default() };
            sys::set_attrs(root.as_fd(), attrs, false).context(|| "make the root read only")?;
        }
        Ok(())
    }
}

/// pivot_root refuses to leave a root that is no mount on another, as an initramfs is: a copy of it is
/// put on top and entered. `/..` is what lies topmost on the root. A tmpfs root may be an ordinary
/// mount as well, and then loses nothing by this.
fn leave_initramfs() -> Result<()> {
    const RAMFS_MAGIC: libc::c_long = 0x8584_58f6;
    let kind = statfs("/").context(|| "statfs(\"/\")")?.filesystem_type();
    if kind != TMPFS_MAGIC && kind.0 as libc::c_long != RAMFS_MAGIC {
        return Ok(());
    }
    let tree = sys::clone_host_tree(Path::new("/"), true)?;
    let at = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context(|| "open(\"/\", O_PATH)")?;
    sys::attach(tree.as_fd(), at.as_fd()).context(|| "put a copy of the initramfs on top of it")?;
    chroot("/..").context(|| "chroot(\"/..\")")
}

#[cfg(test)]
mod tests {
    use super::*;

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
