//! The btrfs driver: a layer is a subvolume, a snapshot of the one below with its own changes applied, and a container
//! runs in a snapshot of the last. What a container has changed is known by the number and the change time of each
//! file, which a snapshot keeps and nobody can set.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result, btrfs, file};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};

use crate::layer::attributes::set_times;
use crate::layer::copy;
use crate::layer::tree::{is, list, open_dir};

/// Refuse a store that would not lie on btrfs.
pub(super) fn check(root: &Path) -> Result<()> {
    let there = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    match btrfs::is_on(file::open_dir(there)?.as_fd()) {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Unsupported,
            format!(
                "use the driver btrfs: {there:?} is not on a btrfs file system: use overlay, or a store on one"
            ),
        )),
    }
}

/// Make the subvolume `at`, with everything that is in the tree at `over`.
pub fn make(at: &Path, over: Option<&Path>) -> Result<()> {
    let Some(over) = over else { return btrfs::create(at) };
    match btrfs::snapshot(over, at) {
        // Of a store behind this one, which may be on another file system.
        Err(e) if matches!(e.errno(), Some(Errno::EXDEV | Errno::EINVAL | Errno::EPERM)) => {
            btrfs::create(at)?;
            copy::tree_at(over, at)
        }
        made => made,
    }
}

/// Where a container runs that has its directory at `dir`: a snapshot of the highest of `layers`, which is made when it
/// is not there. Those below it hold places for mounts. It has its name once it is whole.
pub fn root_of_container(dir: &Path, layers: &[PathBuf]) -> Result<PathBuf> {
    let root = dir.join("root");
    if !root.exists() {
        let begun = dir.join("root.new");
        file::remove_tree(&begun)?;
        let (top, places) = layers.split_last().map_or((None, layers), |(top, places)| (Some(top), places));
        make_root(&begun, top.map(PathBuf::as_path), places)?;
        fs::rename(&begun, &root).context(|| format!("rename({begun:?}, {root:?})"))?;
    }
    Ok(root)
}

/// A snapshot of the tree at `over` at `root`, with the places for mounts in it that it has not got.
pub fn make_root(root: &Path, over: Option<&Path>, places: &[PathBuf]) -> Result<()> {
    make(root, over)?;
    let fd = file::open_dir(root)?;
    places.iter().try_for_each(|tree| {
        lay(file::open_dir(tree)?.as_fd(), fd.as_fd())
            .map_err(|e| e.wrap(format!("lay {tree:?} below {root:?}")))
    })
}

/// Make what is in `from` and not in `to`. A directory that gets something new keeps its time: who looks for changes
/// is to see none.
fn lay(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let here = OsStr::new(".");
    let status = |dir: BorrowedFd<'_>, name: &OsStr| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    let before = status(to, here).context(|| "fstatat(\".\")")?;
    for name in list(from)? {
        let name = OsStr::from_bytes(&name);
        let st = status(from, name).context(|| format!("fstatat({name:?})"))?;
        let there = match status(to, name) {
            Err(Errno::ENOENT) => None,
            other => Some(other.context(|| format!("fstatat({name:?})"))?),
        };
        match (is(&st, SFlag::S_IFDIR), there) {
            (false, None) => copy::file(from, name, &st, to, name)?,
            (true, there) if there.is_none_or(|t| is(&t, SFlag::S_IFDIR)) => {
                if there.is_none() {
                    mkdirat(to, name, Mode::S_IRWXU).context(|| format!("mkdirat({name:?})"))?;
                }
                let open = |at| open_dir(at, name).context(|| format!("openat({name:?}, O_DIRECTORY)"));
                lay(open(from)?.as_fd(), open(to)?.as_fd())?;
                if there.is_none() {
                    copy::attributes(from, name, &st, to, name)?;
                }
            }
            // A file or a link stands there.
            _ => {}
        }
    }
    set_times(to, here, (before.st_mtime, before.st_mtime_nsec as u32))
}
