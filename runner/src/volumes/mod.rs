//! What `-v`, `--mount` and an image's volumes come to: folders and volumes that are there before the
//! container is, and new volumes, which the container's process fills from its own root before anything is
//! mounted on it. There links are resolved inside, and owners are those that the container sees.

pub(crate) mod driver;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use coracle_store::volume_note::{self, Note};
use coracle_store::{ContainerDir, NewVolume, Store};
use coracle_sys::{Context, Error, Kind, Result};
use nix::sys::stat::fstat;
use serde::Serialize;

use crate::from_image::mounts::{Asked, Origin};
use crate::mounts::SUBDIR;
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

/// What the mounts that were asked for come to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The mounts.
    pub(crate) mounts: Vec<Mount>,
    /// Volumes that are to be filled.
    pub(crate) fills: Vec<Fill>,
    /// Where volumes are mounted as they lie on disk.
    pub(crate) plain: Vec<PathBuf>,
    /// Volumes that are memory, each container's own.
    pub(crate) memory: Vec<String>,
    /// Where files of the source's owner are to be seen as the user's, and that owner.
    pub(crate) owned: Vec<(PathBuf, (u32, u32))>,
}

/// Make the folders and the volumes that begin empty.
pub(crate) fn make(store: &Store, dir: &ContainerDir, asked: &[Asked]) -> Result<Outcome> {
    let mut out = Outcome::default();
    for (n, asked) in asked.iter().enumerate() {
        out.mounts.retain(|m: &Mount| m.destination != asked.at);
        if let Origin::Volume(Some(name)) = &asked.origin {
            if let Some((labels, options)) = &asked.note
                && !store.has_volume(name)
            {
                driver::check(options).context(|| format!("create {name}"))?;
                let (labels, options) = (labels.clone(), options.clone());
                store.clone().create_volume(name, &Note { created: volume_note::now(), labels, options })?;
            }
            let options = store.volume_options(name)?;
            if !options.is_empty() {
                out.mounts.push(with_options(asked, &options).context(|| format!("the volume {name}"))?);
                out.memory.extend(driver::is_memory(&options).then(|| name.clone()));
                continue;
            }
        }
        let new = match &asked.origin {
            Origin::Volume(Some(name)) => store.clone().new_volume(name)?,
            Origin::Volume(None) => Some(store.container_volume(dir, n)?),
            _ => None,
        };
        if matches!(asked.origin, Origin::Volume(_)) {
            out.plain.push(asked.at.clone());
        }
        let source = match (&asked.origin, &new) {
            (_, Some(new)) => Some(new.path().to_path_buf()),
            (Origin::Volume(Some(name)), None) => Some(store.volume_path(name)?),
            (Origin::Host(path), _) => Some(path.clone()),
            (Origin::HostMade(path), _) => Some(folder(path.clone())?),
            (Origin::Tmpfs | Origin::Volume(None), None) => None,
        };
        match new {
            Some(volume) if asked.copy => out.fills.push(Fill { at: asked.at.clone(), volume }),
            Some(volume) => volume.make(None)?,
            None => {}
        }
        if let (true, Some(source)) = (asked.own, &source) {
            // A volume that is yet to be filled is the image's, whose owners are the container's.
            let owner = source.symlink_metadata().map_or((0, 0), |m| (m.uid(), m.gid()));
            out.owned.push((asked.at.clone(), owner));
        }
        out.mounts.push(asked.mount(source.as_deref()));
    }
    Ok(out)
}

/// A volume in whose place its driver has something mounted.
fn with_options(asked: &Asked, options: &BTreeMap<String, String>) -> Result<Mount> {
    let mut words = asked.options.clone();
    if words.iter().any(|word| word.starts_with(SUBDIR)) || asked.own {
        return Err(Error::unsupported("neither volume-subpath nor U goes with a volume that has options"));
    }
    if asked.copy && driver::is_memory(options) {
        words.push("tmpcopyup".to_owned());
    }
    driver::mount(options, &asked.at, &words)
}

/// Made where it is not there, as docker does for `-v`.
fn folder(path: PathBuf) -> Result<PathBuf> {
    match std::fs::create_dir_all(&path).context(|| format!("mkdir({path:?})")) {
        Err(e) if !path.exists() => Err(e.wrap("make the folder that -v names")),
        _ => Ok(path),
    }
}
