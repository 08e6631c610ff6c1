//! The layers under a top of the container's own, as one detached mount. How overlay is asked for it
//! is the store's driver's business; whose ids the files have is decided here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_store::driver::{Driver, btrfs, fuse, overlay, vfs};
use coracle_store::layer::{Marks, key};
use coracle_sys::mount::{self as sys, Attrs, FsContext, attr};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
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

/// A stack that was made.
pub struct Stack {
    /// The detached mount.
    pub tree: OwnedFd,
    /// What the container has to do without.
    pub warning: Option<&'static str>,
}

/// Mount the stack as this process. With `ids` the layers, which stay as they are on disk, are seen
/// through the namespace's map, and what is written belongs to the ids on the other side of it.
///
/// Nothing is probed before: where the kernel refuses the overlay, the next best is tried then. `by_program` is who has
/// them mounted by fuse-overlayfs, if that can be.
pub fn mount(
    layers: &Layers,
    ids: Option<Ids<'_>>,
    by_program: impl FnOnce() -> Result<Option<OwnedFd>>,
) -> Result<Stack> {
    if layers.by_program && matches!(layers.top, Top::Upper { .. }) {
        let tree = by_program()?.ok_or_else(|| Error::unsupported("mount the layers by fuse-overlayfs"))?;
        return Ok(Stack { tree, warning: None });
    }
    if let (Driver::Btrfs, Top::Upper { upper, .. }) = (layers.driver, &layers.top) {
        return Ok(Stack { tree: snapshot(layers, upper, ids)?, warning: None });
    }
    let lower = layers.lower.iter().map(|dir| open_layer(dir, ids)).collect::<Result<Vec<_>>>()?;
    match stack(layers, &layers.top, &lower, ids) {
        Ok(tree) => Ok(Stack { tree, warning: None }),
        Err(e) if e.kind() == Kind::Unsupported => fall_back(e, layers, &lower, ids, by_program),
        Err(e) => Err(e),
    }
}

/// A snapshot of the container's own, beside where its upper would be. Its files have the ids of the image's on disk.
fn snapshot(layers: &Layers, upper: &Path, ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let dir = upper.parent().unwrap_or(upper);
    let root = btrfs::root_of_container(dir, &layers.lower).context(|| "make a snapshot of the layers")?;
    match ids {
        Some(ids) => map_layer(&root, ids),
        None => sys::clone_host_tree(&root, false),
    }
}

const IN_MEMORY: &str = "this file system cannot hold what the container writes (an overlay or a network's cannot \
     be on top of an overlay): it is kept in memory, half of it at most, and is lost when the container ends";
const COPIED: &str = "the kernel gives no overlay here: the container runs in a copy of the image's files, which \
     costs their space and the time to copy them";

/// An upper that its file system refuses goes to memory; where there is no overlay at all, the layers are
/// copied. Without a way, the first error is the one that tells.
fn fall_back(
    e: Error,
    layers: &Layers,
    lower: &[OwnedFd],
    ids: Option<Ids<'_>>,
    by_program: impl FnOnce() -> Result<Option<OwnedFd>>,
) -> Result<Stack> {
    let again = match ids {
        Some(_) => layers.lower.iter().map(|dir| open_layer(dir, ids)).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    // What was tried once may have been attached.
    let lower = if ids.is_some() { &again[..] } else { lower };
    let upper_may_be_why = matches!(layers.top, Top::Upper { .. }) && e.errno() == Some(Errno::EINVAL);
    if upper_may_be_why && let Ok(tree) = stack(layers, &Top::Scratch { size: None }, lower, ids) {
        return Ok(Stack { tree, warning: Some(IN_MEMORY) });
    }
    // One that was begun in a copy goes on in it. Nothing is lost by this way: it is told by `info`, and not each time.
    if let Top::Upper { upper, .. } = &layers.top
        && !upper.with_file_name("root").exists()
        && let Ok(Some(tree)) = by_program()
    {
        return Ok(Stack { tree, warning: None });
    }
    // A copy has the ids that are on disk.
    if ids.is_some() {
        return Err(e);
    }
    let mut named = None;
    let (tree, files) = match &layers.top {
        Top::None => return Err(e),
        Top::Upper { upper, .. } => {
            let root = upper.with_file_name("root");
            // One that runs once more goes on with what it has written.
            if root.exists() {
                let Ok(tree) = sys::clone_host_tree(&root, false) else { return Err(e) };
                return Ok(Stack { tree, warning: Some(COPIED) });
            }
            let begun = upper.with_file_name("root.new");
            coracle_sys::file::remove_tree(&begun)?;
            std::fs::DirBuilder::new().mode(0o755).create(&begun).context(|| format!("mkdir({begun:?})"))?;
            // What cannot be mounted need not be copied.
            let Ok(tree) = sys::clone_host_tree(&begun, false) else { return Err(e) };
            let files = coracle_sys::file::open_dir(&begun)?;
            named = Some((begun, root));
            (tree, files)
        }
        Top::Scratch { size } => {
            let Ok(tree) = scratch(*size) else { return Err(e) };
            let files = tree.try_clone().context(|| "dup(scratch)")?;
            (tree, files)
        }
    };
    let marks = if layers.userxattr { Marks::User } else { Marks::Trusted };
    vfs::prepare(lower, files.as_fd(), marks)?;
    dress(Some(files.as_fd()), Path::new("."), &layers.lower, lower, ids)?;
    if let Some((begun, root)) = named {
        // It has its name once it is whole.
        std::fs::rename(&begun, &root).context(|| format!("rename({begun:?}, {root:?})"))?;
    }
    Ok(Stack { tree, warning: Some(COPIED) })
}

/// Have the layers mounted by fuse-overlayfs, for the user namespace of this process. To be called outside of the
/// container, which must not see the program.
pub fn by_program(layers: &Layers, ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let Top::Upper { upper, work, volatile } = &layers.top else {
        return Err(Error::unsupported("mount the layers by fuse-overlayfs: there is no upper on disk"));
    };
    fuse::find()?;
    let lower = layers.lower.iter().map(|dir| open_layer(dir, ids)).collect::<Result<Vec<_>>>()?;
    dress(None, upper, &layers.lower, &lower, ids)?;
    fuse::mark(upper)?;
    let over = lower.into_iter().zip(layers.lower.iter().cloned()).filter(|_| ids.is_some());
    let top = Some(overlay::Top { upper, work });
    fuse::mount(&layers.lower, top, *volatile, &over.collect::<Vec<_>>())
}

fn stack(layers: &Layers, top: &Top, lower: &[OwnedFd], ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let mut options = overlay::Options { userxattr: layers.userxattr, ..overlay::Options::default() };
    // Whose ids are others than on disk is a mount of its own.
    let mapped: Vec<_> = lower.iter().filter(|_| ids.is_some()).map(AsFd::as_fd).collect();
    match top {
        // One layer that nobody writes to needs no overlay.
        Top::None if lower.len() == 1 => {
            let dir = &layers.lower[0];
            let tree = sys::clone_host_tree(dir, false)?;
            let userns = ids.map(|ids| ids.namespace);
            sys::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, userns, ..Attrs::default() }, false)
                .context(|| "mount the layer")?;
            Ok(tree)
        }
        Top::None => overlay::mount_over(lower, None, options, &mapped),
        Top::Upper { upper, work, volatile } => {
            options.volatile = *volatile;
            dress(None, upper, &layers.lower, lower, ids)?;
            overlay::mount_over(lower, Some(overlay::Top { upper, work }), options, &mapped)
        }
        Top::Scratch { size } => {
            let scratch = scratch(*size)?;
            for name in ["upper", "work"] {
                mkdirat(&scratch, name, Mode::from_bits_truncate(0o755))
                    .context(|| format!("mkdirat({name:?})"))?;
            }
            dress(Some(scratch.as_fd()), Path::new("upper"), &layers.lower, lower, ids)?;
            let dir = PathBuf::from(format!("/proc/self/fd/{}", scratch.as_raw_fd()));
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            let top = Some(overlay::Top { upper: &upper, work: &work });
            // The scratch is attached nowhere: older kernels take it beside others of its kind alone.
            let clones = || layers.lower.iter().map(|dir| sys::clone_host_tree(dir, false));
            let cloned = ids.is_none().then(|| clones().collect::<Result<Vec<_>>>().ok()).flatten();
            let lower = cloned.as_deref().unwrap_or(lower);
            let detached: Vec<_> = lower.iter().map(AsFd::as_fd).chain([scratch.as_fd()]).collect();
            overlay::mount_over(lower, top, options, &detached)
        }
    }
}

fn open_layer(dir: &Path, ids: Option<Ids<'_>>) -> Result<OwnedFd> {
    let Some(ids) = ids else { return overlay::open_layer(dir) };
    map_layer(dir, ids)
}

fn map_layer(dir: &Path, ids: Ids<'_>) -> Result<OwnedFd> {
    let tree = sys::clone_host_tree(dir, false)?;
    let attrs = Attrs { userns: Some(ids.namespace), ..Attrs::default() };
    sys::set_attrs(tree.as_fd(), attrs, false).map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => e.wrap(
            "map the ids of a layer: the store's file system cannot do that (ext4, xfs, btrfs and tmpfs can)",
        ),
        Some(Errno::ENOSYS) => e.wrap("map the ids of a layer: that needs Linux 5.12"),
        _ => e.wrap("map the ids of a layer"),
    })?;
    Ok(tree)
}

/// The root directory of a new top is what the topmost layer says that has one; else it is plain, and
/// belongs to the container's root. `lower` are `layers`, opened, with the ids that the container will see.
fn dress(
    at: Option<BorrowedFd<'_>>,
    dir: &Path,
    layers: &[PathBuf],
    lower: &[OwnedFd],
    ids: Option<Ids<'_>>,
) -> Result<()> {
    let at = at.unwrap_or(nix::fcntl::AT_FDCWD);
    let own = |uid, gid| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fchownat(at, dir, Some(uid), Some(gid), FchownatFlags::AT_SYMLINK_NOFOLLOW)
            .context(|| format!("fchownat({dir:?}, {uid}, {gid})"))
    };
    let said = layers.iter().zip(lower).rev().find(|(layer, _)| key::has_root(layer));
    let Some((_, layer)) = said else { return ids.map_or(Ok(()), |ids| own(ids.uid, ids.gid)) };
    let like = fstat(layer).context(|| "fstat(layer)")?;
    match (like.st_uid, like.st_gid) {
        // Of an id that is not mapped: a store of somebody else's.
        (NOBODY, _) | (_, NOBODY) => {}
        (uid, gid) => own(uid, gid)?,
    }
    let mode = Mode::from_bits_truncate(like.st_mode);
    fchmodat(at, dir, mode, FchmodatFlags::FollowSymlink).context(|| format!("fchmodat({dir:?}, {mode:?})"))
}

/// What the kernel shows for an id without a map.
const NOBODY: u32 = 65534;

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
