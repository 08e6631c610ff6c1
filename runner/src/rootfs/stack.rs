//! The layers under a top of the container's own, as one detached mount. How overlay is asked for it
//! is the store's driver's business; whose ids the files have is decided here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_store::driver::overlay;
use coracle_sys::mount::{self as sys, Attrs, FsContext, attr};
use coracle_sys::{Context, Result};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{FchownatFlags, Gid, Uid, fchownat};

use super::{Layers, Top};

/// Whose ids the files of the container have on disk.
#[derive(Clone, Copy)]
pub struct Ids<'a> {
    /// The user namespace that maps them.
    pub namespace: BorrowedFd<'a>,
    /// What its root is outside.
    pub uid: u32,
    /// What its root's group is outside.
    pub gid: u32,
}

/// Mount the stack as this process. With `ids` the layers, which stay as they are on disk, are seen
/// through the namespace's map, and what is written belongs to the ids on the other side of it.
pub fn mount(layers: &Layers, ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let lower = layers.lower.iter().map(|dir| open_layer(dir, ids)).collect::<Result<Vec<_>>>()?;
    let mut options = overlay::Options { userxattr: layers.userxattr, ..overlay::Options::default() };
    match &layers.top {
        // One layer that nobody writes to needs no overlay.
        Top::None if lower.len() == 1 => {
            let dir = &layers.lower[0];
            let tree = sys::clone_host_tree(dir, false)?;
            let userns = ids.map(|ids| ids.namespace);
            sys::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, userns, ..Attrs::default() }, false)
                .context(|| "mount the layer")?;
            Ok(tree)
        }
        Top::None => overlay::mount(&lower, None, options),
        Top::Upper { upper, work, volatile } => {
            options.volatile = *volatile;
            own(None, upper, ids)?;
            overlay::mount(&lower, Some(overlay::Top { upper, work }), options)
        }
        Top::Scratch { size } => {
            let scratch = scratch(*size)?;
            for name in ["upper", "work"] {
                mkdirat(&scratch, name, Mode::from_bits_truncate(0o755))
                    .context(|| format!("mkdirat({name:?})"))?;
            }
            own(Some(scratch.as_fd()), Path::new("upper"), ids)?;
            let dir = PathBuf::from(format!("/proc/self/fd/{}", scratch.as_raw_fd()));
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            overlay::mount(&lower, Some(overlay::Top { upper: &upper, work: &work }), options)
        }
    }
}

fn open_layer(dir: &Path, ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let Some(ids) = ids else { return overlay::open_layer(dir) };
    let tree = sys::clone_host_tree(dir, false)?;
    let attrs = Attrs { userns: Some(ids.namespace), ..Attrs::default() };
    sys::set_attrs(tree.as_fd(), attrs, false).context(|| "map the ids of a layer")?;
    Ok(tree)
}

/// The root directory of a new top belongs to the container's root.
fn own(at: Option<BorrowedFd<'_>>, dir: &Path, ids: Option<Ids<'_>>) -> Result<()> {
    let Some(ids) = ids else { return Ok(()) };
    let at = at.unwrap_or(nix::fcntl::AT_FDCWD);
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    fchownat(at, dir, Some(uid), Some(gid), FchownatFlags::AT_SYMLINK_NOFOLLOW)
        .context(|| format!("fchownat({dir:?}, {uid}, {gid})"))
}

/// A tmpfs that is gone with the container.
fn scratch(size: Option<u64>) -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.string("mode", "755")?;
    if let Some(size) = size {
        context.string("size", &size.to_string())?;
    }
    context.create()?;
    context.mount(attr::NOSUID | attr::NODEV).context(|| "make the scratch file system")
}
