//! `rootfs-tool load`.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Locations, Store, Transaction};
use coracle_sys::print::harmless;
use coracle_sys::terminal;
use coracle_sys::{Context, Error, Result, interrupt};

use super::enter_user_namespace;
use crate::archive::members::Members;
use crate::archive::{docker, oci};
use crate::progress::{LOAD, Progress};
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
        let input = input(self.input.as_deref())?;
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
        let platform = coracle_store::image::Platform::host();
        let take = |name: Option<&str>| {
            // One for another machine is taken in as it is.
            let Ok(loaded) = transfer::load(image, &platform) else {
                return take_all(tx, image, name, &coracle_store::ingest::Quiet);
            };
            let progress = Progress::new(LOAD, &loaded.manifest.layers, self.quiet);
            take(tx, image, loaded, name, &progress)
        };
        for name in &names {
            let taken = take(Some(name))?;
            taken.warnings.iter().for_each(|w| coracle_sys::warn!("rootfs-tool: {}", harmless(w)));
            coracle_sys::say!("Loaded image: {}", harmless(name));
        }
        if names.is_empty() {
            coracle_sys::say!("Loaded image ID: {}", take(None)?.id);
        }
        Ok(())
    }
}

/// A file, or standard input, which is not to be a terminal.
pub(super) fn input(path: Option<&Path>) -> Result<File> {
    match path {
        Some(path) => File::open(path).context(|| format!("open({path:?})")),
        None if std::io::stdin().is_terminal() => {
            Err(Error::usage("an archive is not read from a terminal: name a file, or use a pipe"))
        }
        None => {
            let fd = terminal::standard_input().try_clone_to_owned().context(|| "dup(0)")?;
            Ok(File::from(fd))
        }
    }
}
