//! Mounts with ids of their own: what the source's files have on disk is seen through a map.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use coracle_sys::idmap::Maps;
use coracle_sys::mount::{self as sys, Attrs};
use coracle_sys::process::{self, Cloned};
use coracle_sys::{Context, Error, Result, pidfd};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::Around;
use super::options::Options;
use crate::spec;

/// Which map.
#[derive(Clone, Debug, PartialEq)]
enum Map {
    /// This one.
    Own(Maps),
    /// That of a user namespace, which the container joins.
    Of(PathBuf),
}

/// The ids of a mount, decided.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ids {
    map: Map,
    /// Of all mounts below as well.
    recursive: bool,
}

/// Decide. A mount without a map of its own that asks for one has the container's.
pub(super) fn plan(mount: &spec::Mount, options: &Options, around: &Around<'_>) -> Result<Option<Ids>> {
    let own = (&mount.uid_mappings[..], &mount.gid_mappings[..]);
    let recursive = options.id_map == Some(true);
    let own = match (own, options.id_map) {
        (([], []), None) => return Ok(None),
        (([], []), Some(_)) => around.maps,
        (own, _) => Some(own),
    };
    let map = match (own, around.user) {
        (Some((uids, gids)), _) => Map::Own(crate::idmap::ranges(uids, gids)?),
        (None, Some(path)) => Map::Of(path.to_owned()),
        (None, None) => {
            return Err(Error::invalid("idmap needs mappings of the mount's own, or a user namespace"));
        }
    };
    Ok(Some(Ids { map, recursive }))
}

impl Ids {
    /// Have a detached tree seen through the map. Needs the rights of the host's root.
    pub(super) fn apply(&self, tree: &OwnedFd) -> Result<()> {
        let namespace = match &self.map {
            Map::Own(maps) => make(maps)?,
            Map::Of(path) => open_namespace(path.clone())?,
        };
        let attrs = Attrs { userns: Some(namespace.as_fd()), ..Attrs::default() };
        sys::set_attrs(tree.as_fd(), attrs, self.recursive).map_err(|e| match e.errno() {
            Some(Errno::EINVAL) => e.wrap("map its ids: its file system cannot (or has no such mount)"),
            Some(Errno::EPERM) => e.wrap("map its ids: it has a map already, or that takes the host's root"),
            Some(Errno::ENOSYS) => e.wrap("map its ids: that needs Linux 5.12"),
            _ => e.wrap("map its ids"),
        })
    }
}

fn open_namespace(path: PathBuf) -> Result<OwnedFd> {
    open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({path:?}, O_RDONLY)"))
}

/// A user namespace with this map. It is kept by its descriptor; who made it is gone.
fn make(maps: &Maps) -> Result<OwnedFd> {
    match process::clone(CloneFlags::CLONE_NEWUSER.bits() as u32 as u64, None)? {
        Cloned::Child => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            loop {
                nix::unistd::pause();
            }
        }
        Cloned::Parent { pid, pidfd } => {
            let made = maps
                .write(Pid::from_raw(pid))
                .and_then(|()| open_namespace(format!("/proc/{pid}/ns/user").into()))
                .context(|| "make the user namespace of a mount");
            let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
            process::wait(pid)?;
            made
        }
    }
}
