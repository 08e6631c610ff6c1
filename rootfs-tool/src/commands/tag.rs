//! `rootfs-tool tag`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::Reference;
use coracle_store::image::REGISTRY_DIGEST;
use coracle_sys::Result;

use super::{missing, new_name, open};

/// Give an image one more name.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "tag", example = "rootfs-tool tag shell registry.example/me/shell:1")]
pub(crate) struct Tag {
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or an id
    #[argh(positional, arg_name = "image")]
    image: String,
    /// the new name
    #[argh(positional, arg_name = "name")]
    name: String,
}

impl Tag {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let name = new_name(&self.name)?;
        let mut store = open(self.store.as_deref())?;
        let (old, mut entry) = store.find(&self.image).map_err(|e| missing(e, &self.image))?;
        let name = name.local();
        // Another repository may not have it, and another registry calls it otherwise.
        let repository = |r: Reference| (r.registry, r.path);
        let old = old.and_then(|o| o.parse::<Reference>().ok()).map(repository);
        if old != Some(repository(name.clone()))
            && let Some(notes) = &mut entry.annotations
        {
            notes.remove(REGISTRY_DIGEST);
        }
        store.begin()?.tag(&name.to_string(), &entry)?;
        Ok(())
    }
}
