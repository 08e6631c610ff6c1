//! `rootfs-tool save`.

use std::io::Write;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::Reference;
use coracle_store::image::Platform;
use coracle_sys::{Error, Result, interrupt};

use super::{missing, open, platform};
use crate::archive::write::Writer;
use crate::progress::SAVE;
use crate::streams;
use crate::transfer::{Sending, Stored, load, relay};

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
    /// docker-archive (the default), or oci-archive, which keeps layers as they are, compressed or not
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
        // All are found before a byte is written: half an archive is worse than none.
        let find = |typed: &str| {
            let stored = Stored::find(&store, typed).map_err(|e| missing(e, typed))?;
            if !oci {
                load(&stored, &platform)?;
            }
            Ok(stored)
        };
        let all = self.images.iter().map(|t| find(t).map_err(|e: Error| e.wrap(format!("save {t}"))));
        let all = all.collect::<Result<Vec<_>>>()?;
        streams::write(self.output.as_deref(), |out| {
            let writer = Writer::new(out);
            for (typed, stored) in self.images.iter().zip(&all) {
                one(&writer, stored, typed, oci, &platform).map_err(|e| e.wrap(format!("save {typed}")))?;
            }
            writer.finish()
        })
    }
}

fn one<W: Write>(
    writer: &Writer<W>,
    stored: &Stored<'_>,
    typed: &str,
    oci: bool,
    platform: &Platform,
) -> Result<()> {
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
        let how = Sending { quiet: true, ..Sending::default() };
        return relay(stored, writer, SAVE, how).map(drop);
    }
    writer.put_docker(stored, platform, &names)
}
