//! `rootfs-tool save`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::{Reference, Store};
use coracle_sys::terminal;
use coracle_sys::{Context, Error, Result, interrupt};

use super::{missing, open, platform};
use crate::archive::write::Writer;
use crate::progress::SAVE;
use crate::transfer::{Replacing, Stored, relay};

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
        write(self.output.as_deref(), |out| {
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

/// Write to a file, which is whole in the end or not there, or to standard output.
pub(super) fn write(
    to: Option<&Path>,
    fill: impl FnOnce(BufWriter<File>) -> Result<BufWriter<File>>,
) -> Result<()> {
    let buffered = |file| BufWriter::with_capacity(256 << 10, file);
    let Some(path) = to else {
        if std::io::stdout().is_terminal() {
            return Err(Error::usage("an archive is not written to a terminal: use -o FILE, or a pipe"));
        }
        let out = terminal::standard_output().try_clone_to_owned().context(|| "dup(1)")?;
        return fill(buffered(File::from(out))).map(drop);
    };
    let (file, replacing) = Replacing::begin(path)?;
    let out = fill(buffered(file))?;
    let file = out.into_inner().map_err(|e| e.into_error()).context(|| format!("write({path:?})"))?;
    replacing.keep(&file)
}
