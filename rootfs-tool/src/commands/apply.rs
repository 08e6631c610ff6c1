//! `rootfs-tool apply`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Result, interrupt};

use super::{each, enter_user_namespace, missing, platform, warn};
use crate::progress::{APPLY, Progress};
use crate::transfer::{self, Stored};

/// Apply the layers of images that lie in the store as blobs alone, as other tools put them there: skopeo, umoci.
/// `runner run` does it by itself.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "apply",
    example = "skopeo copy docker://debian:12 oci:/var/lib/coracle:localhost/debian:12
rootfs-tool apply debian:12"
)]
pub(crate) struct Apply {
    /// say nothing
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// the machine, of an image for several: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Apply {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.images.is_empty() {
            return Err(Error::usage("apply needs an image"));
        }
        let platform = platform(self.platform.as_deref())?;
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        let reader = store.clone();
        let tx = store.begin()?;
        each(&self.images, |typed| {
            let stored = Stored::find(&reader, typed).map_err(|e| missing(e, typed))?;
            let apply = || -> Result<Vec<String>> {
                let loaded = transfer::load(&stored, &platform)?;
                let progress = Progress::new(APPLY, &loaded.manifest.layers, self.quiet);
                tx.ingest(&[], &loaded.layers, &stored, &progress)
            };
            warn(&apply().map_err(|e| e.wrap(format!("apply {typed}")))?);
            Ok(())
        })
    }
}
