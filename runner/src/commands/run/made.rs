//! What there is of a container before its process is: its folder, volumes, name; and how it goes again.

use coracle_store::image::ProcessConfig;
use coracle_store::{ContainerDir, Store};
use coracle_sys::{Context, Error, Kind, Result};

use crate::commands::remove_files;
use crate::from_image::flags::Flags;
use crate::from_image::mounts::{self, Asked};
use crate::spec::Mount;
use crate::volumes::{self, Fill};

/// What is there of a container before its process is, and how it goes again.
pub(super) struct Made<'a> {
    pub(super) store: &'a Store,
    pub(super) dir: &'a ContainerDir,
    pub(super) name: &'a str,
}

impl Made<'_> {
    /// The mounts that were asked for, their folders made, and the volumes that are to be filled.
    pub(super) fn mounts(&self, flags: &Flags, config: &ProcessConfig) -> Result<(Vec<Mount>, Vec<Fill>)> {
        volumes::make(self.store, self.dir, &asked(flags, config)?)
    }

    pub(super) fn name_it(&self, id: &str, flags: &Flags) -> Result<()> {
        let Some(name) = &flags.name else { return Ok(()) };
        self.store.claim_name(name, id).map_err(|e| match e.kind() {
            Kind::Exists => Error::new(
                Kind::Exists,
                format!("the container name {name:?} is already in use (runner rm {name} frees it)"),
            ),
            _ => e,
        })?;
        if let Some(path) = &flags.cidfile {
            use std::io::Write;
            let mut options = std::fs::File::options();
            let file = options.write(true).create_new(true).open(path);
            file.and_then(|mut f| f.write_all(id.as_bytes()))
                .context(|| format!("open({path:?}, O_CREAT|O_EXCL)"))
                .context(|| "--cidfile")?;
        }
        Ok(())
    }

    /// Take it all away. The container has ended: what goes wrong here is for a sweep to mend.
    pub(super) fn remove(&self) {
        let _ = self.store.release_name(self.name, &self.dir.id);
        if let Err(e) = remove_files(self.store, &self.dir.id) {
            coracle_sys::warn!("runner: {}", e.wrap("remove the container's files"));
        }
    }
}

/// All that is to be mounted, the image's volumes first: what comes later for the same place replaces it.
fn asked(flags: &Flags, config: &ProcessConfig) -> Result<Vec<Asked>> {
    // Where it was removed, only what is relative to it cannot be had.
    let here = std::env::current_dir().unwrap_or_default();
    let mut all: Vec<Asked> = Vec::new();
    let image = config.volumes.iter().flatten().map(|(at, _)| mounts::image_volume(at));
    let typed = flags.volume.iter().map(|text| mounts::volume(text, &here));
    let typed = typed.chain(flags.mount.iter().map(|text| mounts::mount(text, &here)));
    for next in image.chain(typed).chain(flags.tmpfs.iter().map(|text| mounts::tmpfs(text))) {
        let next = next?;
        all.retain(|a| a.at != next.at);
        all.push(next);
    }
    Ok(all)
}
