//! What `-v`, `--mount` and an image's volumes come to: folders and volumes that are there before the
//! container is, and new volumes, which the container's process fills from its own root before anything is
//! mounted on it. There links are resolved inside, and owners are those that the container sees.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use coracle_store::{ContainerDir, NewVolume, Store};
use coracle_sys::{Context, Error, Kind, Result};
use nix::sys::stat::fstat;
use serde::Serialize;

use crate::from_image::mounts::{Asked, Origin};
use crate::rootfs::Root;
use crate::spec::Mount;

/// A volume that is to be made of what the image has at its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fill {
    /// The place, inside.
    at: PathBuf,
    volume: NewVolume,
}

impl Fill {
    /// Make the volume. Nothing may be mounted on the root yet.
    pub fn make(&self, root: &Root) -> Result<()> {
        let make = || match root.open(&self.at) {
            Ok(dir) if is_directory(&dir)? => self.volume.make(Some(dir.as_fd())),
            Ok(_) => Err(Error::invalid("it is no directory in the image")),
            Err(e) if e.kind() == Kind::NotFound => self.volume.make(None),
            Err(e) => Err(e),
        };
        make().context(|| format!("fill the volume for {}", self.at.display()))
    }
}

fn is_directory(file: &OwnedFd) -> Result<bool> {
    let stat = fstat(file).context(|| "fstat(volume)")?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Make the folders and the volumes that begin empty. The mounts, and the volumes to fill.
pub(crate) fn make(store: &Store, dir: &ContainerDir, asked: &[Asked]) -> Result<(Vec<Mount>, Vec<Fill>)> {
    let (mut all, mut fills) = (Vec::new(), Vec::new());
    for (n, asked) in asked.iter().enumerate() {
        let new = match &asked.origin {
            Origin::Volume(Some(name)) => store.clone().new_volume(name)?,
            Origin::Volume(None) => Some(store.container_volume(dir, n)?),
            _ => None,
        };
        let source = match (&asked.origin, &new) {
            (_, Some(new)) => Some(new.path().to_path_buf()),
            (Origin::Volume(Some(name)), None) => Some(store.volume_path(name)?),
            (Origin::Host(path), _) => Some(path.clone()),
            (Origin::HostMade(path), _) => Some(folder(path.clone())?),
            (Origin::Tmpfs | Origin::Volume(None), None) => None,
        };
        match new {
            Some(volume) if asked.copy => fills.push(Fill { at: asked.at.clone(), volume }),
            Some(volume) => volume.make(None)?,
            None => {}
        }
        all.retain(|m: &Mount| m.destination != asked.at);
        all.push(asked.mount(source.as_deref()));
    }
    Ok((all, fills))
}

/// Made where it is not there, as docker does for `-v`.
fn folder(path: PathBuf) -> Result<PathBuf> {
    match std::fs::create_dir_all(&path).context(|| format!("mkdir({path:?})")) {
        Err(e) if !path.exists() => Err(e.wrap("make the folder that -v names")),
        _ => Ok(path),
    }
}
