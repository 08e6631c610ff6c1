//! A container's root, for a child that does nothing else: that of one that runs by a descriptor, that of one that does
//! not run by mounting it where nobody else sees it, with the volumes that it has.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_store::driver::overlay::{self, Top};
use coracle_store::driver::{Driver, btrfs, fuse};
use coracle_store::lock::Lock;
use coracle_sys::idmap::{self, Grant};
use coracle_sys::mount::{self, Attrs, attr};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{Gid, Uid, geteuid, setresgid, setresuid};

use super::Container;
use super::child::die_with_parent;
use super::confined::Confined;

/// What the runner hands over of one that runs: descriptors by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) root: RawFd,
    pub(crate) user: Option<RawFd>,
}

/// The root, held as long as this is.
pub(crate) struct Held {
    pub(crate) root: Confined,
    /// Keeps one that does not run from being started.
    _lock: Option<Lock>,
}

/// Enter what the container's files are to be seen from, and open its root.
pub(crate) fn enter(store: &Store, container: &Container, running: Option<Running>) -> Result<Held> {
    let held = open_root(store, container, running)?;
    die_with_parent()?;
    Ok(held)
}

fn open_root(store: &Store, container: &Container, running: Option<Running>) -> Result<Held> {
    match running {
        Some(running) => Ok(Held { root: of_running(running)?, _lock: None }),
        None => {
            let busy = || {
                let what = format!("container {} runs, or is about to start or to go", container.dir.id);
                Error::new(Kind::Busy, what)
            };
            let lock = Lock::try_existing(&container.dir.path)?.ok_or_else(busy)?;
            if !lock.is_at(&container.dir.path) {
                return Err(busy());
            }
            Ok(Held { root: mounted(store, container)?, _lock: Some(lock) })
        }
    }
}

/// A descriptor by its number, as one of our own.
fn inherited(number: RawFd, flags: OFlag) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).context(|| format!("open({path:?})"))
}

fn of_running(running: Running) -> Result<Confined> {
    let root = inherited(running.root, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let ours = stat("/").context(|| "stat(\"/\")")?;
    if let Some(user) = running.user {
        let user = inherited(user, OFlag::O_RDONLY)?;
        setns(&user, CloneFlags::CLONE_NEWUSER).context(|| "setns(CLONE_NEWUSER)")?;
        // Root of the host is nobody there before it says who it is.
        if !geteuid().is_root() {
            let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(gid, gid, gid).context(|| "setresgid(0)")?;
            setresuid(uid, uid, uid).context(|| "setresuid(0)")?;
        }
    }
    // From inside: what fuse-overlayfs mounts shows nothing to others.
    let its = fstat(&root).context(|| "fstat(root)")?;
    if (ours.st_dev, ours.st_ino) == (its.st_dev, its.st_ino) {
        return Err(Error::new(Kind::Busy, "the container is just starting: its root is still the host's"));
    }
    Ok(Confined::root(root))
}

fn mounted(store: &Store, container: &Container) -> Result<Confined> {
    let spec = &container.record["spec"];
    if !geteuid().is_root() {
        idmap::plan(&Grant::of_this_user()).enter()?;
    }
    // Before, as all mounts of the host are, ours would be seen there.
    unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare(CLONE_NEWNS)")?;
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    nix::mount::mount(none, "/", none, private, none).context(|| "mount(\"/\", MS_PRIVATE)")?;
    let dir = &container.dir;
    let layers = || -> Result<Vec<PathBuf>> {
        let layers = store.stack_paths(container.image(store)?.diff_ids())?;
        Ok(store.mount_points().into_iter().chain(layers).collect())
    };
    let tree = match container.copied() {
        Some(root) => mount::clone_host_tree(&root, false)?,
        // One that has not run yet.
        None if store.driver() == Driver::Btrfs => {
            mount::clone_host_tree(&btrfs::root_of_container(&dir.path, &layers()?)?, false)?
        }
        None => {
            let (layers, upper, work) = (layers()?, dir.upper(), dir.work());
            let top = Some(Top { upper: &upper, work: &work });
            let by_program = || {
                fuse::mark(&upper)?;
                fuse::mount(&layers, top, false, &[])
            };
            let by_kernel = || {
                let layers =
                    layers.iter().map(|path| overlay::open_layer(path)).collect::<Result<Vec<_>>>()?;
                overlay::mount(&layers, top, overlay::Options::of_this_process(false))
            };
            if store.driver() == Driver::Fuse || fuse::is_marked(&upper) {
                by_program()?
            } else {
                match by_kernel() {
                    Err(e) if e.kind() == Kind::Unsupported && fuse::works().is_ok() => by_program()?,
                    tree => tree?,
                }
            }
        }
    };
    // Only in an attached tree others can be attached.
    let at = coracle_sys::file::open_dir(&dir.path)?;
    mount::attach(tree.as_fd(), at.as_fd())?;
    let root = Confined::root(tree);
    for one in spec["mounts"].as_array().into_iter().flatten() {
        volume(&root, one)?;
    }
    if spec["root"]["readonly"].as_bool() == Some(true) {
        mount::set_attrs(root.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, false)?;
    }
    Ok(root)
}

/// Attach a directory or file of the host where the container has it. What is no such, as /proc, or is not there any
/// more, it would not find either.
fn volume(root: &Confined, one: &serde_json::Value) -> Result<()> {
    let has = |word: &str| one["options"].as_array().into_iter().flatten().any(|o| o.as_str() == Some(word));
    let (Some(source), Some(at)) = (one["source"].as_str(), one["destination"].as_str()) else {
        return Ok(());
    };
    if one["type"].as_str() != Some("bind") && !has("bind") && !has("rbind") {
        return Ok(());
    }
    let target = match root.open(Path::new(at), OFlag::O_PATH) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.context(|| format!("open({at:?})"))?,
    };
    let tree = match mount::clone_host_tree(Path::new(source), has("rbind")) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        // In a user namespace what lies on top of a mount is not taken off.
        Err(e) if e.errno() == Some(Errno::EINVAL) => mount::clone_host_tree(Path::new(source), true)?,
        other => other?,
    };
    if has("ro") {
        mount::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, true)?;
    }
    mount::attach(tree.as_fd(), target.as_fd()).context(|| format!("mount {source} on {at}"))
}
