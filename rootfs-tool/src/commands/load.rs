//! `rootfs-tool load`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::ingest::Quiet;
use coracle_store::{Locations, Store, Transaction};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result, interrupt};

use super::{enter_user_namespace, warn};
use crate::archive::members::Members;
use crate::archive::{docker, oci};
use crate::progress::{LOAD, Progress};
use crate::streams;
use crate::transfer::{self, Origin, take, take_all};

/// Take in the images of an archive: docker's, or an OCI layout in a tar, compressed or not.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "load",
    example = "rootfs-tool load -i shell.tar
docker save debian | rootfs-tool load"
)]
pub(crate) struct Load {
    /// the file, instead of standard input
    #[argh(option, short = 'i', arg_name = "FILE")]
    input: Option<PathBuf>,
    /// show no progress
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
}

impl Load {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let at = Locations::from_env(self.store.as_deref())?;
        let what = self.input.as_ref().map_or("standard input".to_owned(), |p| format!("{p:?}"));
        let input = streams::input(self.input.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let load = || {
            let members = Members::open(input, &tx.store().main().tmp())?;
            if members.has("manifest.json") {
                return docker::images(&members)?.iter().try_for_each(|image| self.one(&tx, image));
            }
            if members.has("oci-layout") {
                return oci::images(&members)?.iter().try_for_each(|image| self.one(&tx, image));
            }
            Err(Error::invalid(
                "it is no archive of images: neither manifest.json nor oci-layout is in it (`import` takes a plain tar)",
            ))
        };
        load().map_err(|e| e.wrap(format!("load {what}")))
    }

    /// An image under all its names, or under none.
    fn one(&self, tx: &Transaction<'_>, image: &dyn Origin) -> Result<()> {
        let names = image.names();
        let first = names.first().map(String::as_str);
        let mut taken = match transfer::load(image, &Platform::host()) {
            Ok(loaded) => {
                let progress = Progress::new(LOAD, &loaded.manifest.layers, self.quiet);
                take(tx, image, loaded, first, &progress)?
            }
            // One for another machine is taken in as it is.
            Err(e) if e.kind() == Kind::NotFound => take_all(tx, image, first, &Quiet)?,
            Err(e) => return Err(e),
        };
        warn(&taken.warnings);
        for (n, name) in names.iter().enumerate() {
            if n > 0 {
                transfer::keep(tx, Some(name), &mut taken.entry)?;
            }
            coracle_sys::say!("Loaded image: {}", harmless(name));
        }
        if names.is_empty() {
            coracle_sys::say!("Loaded image ID: {}", taken.id);
        }
        Ok(())
    }
}
