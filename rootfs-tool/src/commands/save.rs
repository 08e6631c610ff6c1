//! `rootfs-tool save`.

use std::io::Write;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::{Reference, Store};
use coracle_sys::{Error, Result, interrupt};

use super::{missing, open, platform};
use crate::archive::write::Writer;
use crate::progress::SAVE;
use crate::streams;
use crate::transfer::{Stored, relay};

/// Write images to an archive, for `load` here and in docker, podman and skopeo.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "save",
    example = "rootfs-tool save -o shell.tar shell
rootfs-tool save shell | ssh host docker load"
)]
pub(crate) struct Save {
    /// the file, instead of standard output
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive (the default), or oci-archive, which keeps layers compressed and all digests
    #[argh(option, arg_name = "FORMAT")]
    format: Option<String>,
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

impl Save {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.images.is_empty() {
            return Err(Error::usage("save needs an image"));
        }
        let oci = match self.format.as_deref() {
            None | Some("docker-archive") => false,
            Some("oci-archive") => true,
            Some(other) => {
                return Err(Error::usage(format!(
                    "--format {other:?}: there are docker-archive and oci-archive"
                )));
            }
        };
        let platform = platform(self.platform.as_deref())?;
        let store = open(self.store.as_deref())?;
        interrupt::watch()?;
        streams::write(self.output.as_deref(), |out| {
            let writer = Writer::new(out);
            for typed in &self.images {
                one(&writer, &store, typed, oci, &platform).map_err(|e| e.wrap(format!("save {typed}")))?;
            }
            writer.finish()
        })
    }
}

fn one<W: Write>(
    writer: &Writer<W>,
    store: &Store,
    typed: &str,
    oci: bool,
    platform: &Platform,
) -> Result<()> {
    let stored = Stored::find(store, typed).map_err(|e| missing(e, typed))?;
    // By its id an image is saved without a name.
    let names: Vec<String> = match typed.parse::<Reference>() {
        Ok(r) if r.candidates().iter().any(|c| Some(c.to_string()) == stored.name) => {
            stored.name.iter().cloned().collect()
        }
        _ if stored.name.as_deref() == Some(typed) => vec![typed.to_owned()],
        _ => Vec::new(),
    };
    if oci {
        writer.name(names.first().map(String::as_str));
        return relay(&stored, writer, None, SAVE, true).map(drop);
    }
    writer.put_docker(&stored, platform, &names)
}
