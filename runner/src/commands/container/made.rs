//! What a container has beside its process: folder, volumes, name; and how it goes again.

use std::path::Path;

use coracle_store::image::ProcessConfig;
use coracle_store::{ContainerDir, Store};
use coracle_sys::{Context, Error, Kind, Result};

use super::Made;
use crate::commands::forget;
use crate::diary::Event;
use crate::from_image::flags::Flags;
use crate::from_image::mounts::{self, Asked};
use crate::spec::Mount;
use crate::volumes::{self, Fill};

/// The mounts that were asked for in the folder `here`, their folders made, and the volumes that are to be filled.
pub(super) fn mounts(
    store: &Store,
    dir: &ContainerDir,
    flags: &Flags,
    config: &ProcessConfig,
    here: &Path,
) -> Result<(Vec<Mount>, Vec<Fill>)> {
    volumes::make(store, dir, &asked(flags, config, here)?)
}

impl Made {
    /// Give it its name.
    pub(crate) fn name_it(&self) -> Result<()> {
        let (flags, id) = (&self.flags, &self.record.id);
        if let Some(name) = &flags.name {
            self.store.claim_name(name, id).map_err(|e| match e.kind() {
                Kind::Exists => Error::new(
                    Kind::Exists,
                    format!("the container name {name:?} is already in use (runner rm {name} frees it)"),
                ),
                _ => e,
            })?;
        }
        if let Some(path) = &flags.cidfile {
            use std::io::Write;
            let mut options = std::fs::File::options();
            let file = options.write(true).create_new(true).open(path);
            file.and_then(|mut f| f.write_all(id.as_bytes()))
                .context(|| format!("open({path:?}, O_CREAT|O_EXCL)"))
                .context(|| "--cidfile")?;
        }
        self.tell(&[Event::plain("create")]);
        Ok(())
    }

    /// Take it all away. The container has ended: what goes wrong here is for a sweep to mend.
    pub(crate) fn remove(&self) {
        if let Err(e) = forget(&self.store, &self.dir.id, Some(&self.record.name)) {
            coracle_sys::warn!("runner: {}", e.wrap("remove the container's files"));
        }
    }
}

/// All that is to be mounted, the image's volumes first: what comes later for the same place replaces it.
pub(crate) fn asked(flags: &Flags, config: &ProcessConfig, here: &Path) -> Result<Vec<Asked>> {
    let mut all: Vec<Asked> = Vec::new();
    let image = config.volumes.iter().flatten().map(|(at, _)| mounts::image_volume(at));
    let typed = flags.volume.iter().map(|text| mounts::volume(text, here));
    let typed = typed.chain(flags.mount.iter().map(|text| mounts::mount(text, here)));
    for next in image.chain(typed).chain(flags.tmpfs.iter().map(|text| mounts::tmpfs(text))) {
        let next = next?;
        all.retain(|a| a.at != next.at);
        all.push(next);
    }
    Ok(all)
}
