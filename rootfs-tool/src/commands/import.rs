//! `rootfs-tool import`.

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{CREATED, History, ImageConfig, ProcessConfig, RootFs};
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Result, interrupt};

use super::{enter_user_namespace, new_name, platform, warn};
use crate::archive::packed;
use crate::change::apply_all;
use crate::streams;
use coracle_sys::time;

/// Make an image of one layer from a tar of a root file system, compressed (gzip, zstd, xz, bzip2) or not.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "import",
    example = "rootfs-tool import rootfs.tar.gz my/base
tar -C tree -c . | rootfs-tool import -c 'CMD [\"/bin/sh\"]' - my/base"
)]
pub(crate) struct Import {
    /// an instruction of a Dockerfile for the image's config: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD
    /// STOPSIGNAL USER VOLUME WORKDIR
    #[argh(option, short = 'c', arg_name = "CHANGE")]
    change: Vec<String>,
    /// a remark for the image's history
    #[argh(option, short = 'm', arg_name = "TEXT")]
    message: Option<String>,
    /// the machine that it is for: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// the tar, or - for standard input
    #[argh(positional, arg_name = "file")]
    file: PathBuf,
    /// the image's name
    #[argh(positional, arg_name = "name")]
    name: Option<String>,
}

impl Import {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let platform = platform(self.platform.as_deref())?;
        let mut process = ProcessConfig::default();
        apply_all(&self.change, &mut process)?;
        let name = self.name.as_deref().map(new_name).transpose()?;
        let text = self.file.to_string_lossy();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(Error::usage("import takes a file: fetch it first, and name -"));
        }
        let at = Locations::from_env(self.store.as_deref())?;
        let input = streams::input((self.file != Path::new("-")).then_some(&*self.file))?;
        enter_user_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let put = tx
            .put_layer_from_tar(packed::open(&input)?, &[])
            .map_err(|e| e.wrap(format!("import {text}")))?;
        warn(&put.warnings);
        let now = time::rfc3339(time::now());
        let config = ImageConfig {
            created: Some(now.clone()),
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: Some(process),
            rootfs: RootFs { diff_ids: vec![put.diff_id], ..RootFs::default() },
            history: Some(vec![History {
                created: Some(now.clone()),
                comment: Some(self.message.unwrap_or_else(|| format!("Imported from {text}"))),
                ..History::default()
            }]),
            ..ImageConfig::default()
        };
        let mut entry = tx.put_image(&config, vec![put.descriptor])?;
        entry.annotations.get_or_insert_default().insert(CREATED.to_owned(), now);
        match name {
            Some(name) => drop(tx.tag(&name.local().to_string(), &entry)?),
            None => tx.add(&entry)?,
        }
        let id = tx.store().load(None, entry, &coracle_store::image::Platform::host())?.id();
        coracle_sys::say!("{id}");
        Ok(())
    }
}
