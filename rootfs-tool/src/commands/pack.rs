//! `rootfs-tool pack`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::Compression;
use coracle_store::layer::compress::Compressor;
use coracle_store::layer::pack::source_date_epoch;
use coracle_sys::{Context, Result, interrupt};

use super::{find, open, warn};
use crate::pack::format::{Codec, Format, Kind};
use crate::pack::tree::Tree;
use crate::pack::{self, cpio};
use crate::streams;

/// Write an image as one file that another system unpacks, mounts or boots: the same bytes from run to run.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "pack",
    example = "rootfs-tool pack -o shell.cpio.gz shell
rootfs-tool pack --format cpio:zstd shell >initramfs",
    note = "Formats: tar and cpio, which is an initramfs (both :none, :gzip or :zstd). Without --format the end of FILE decides:
.tar, .tar.gz, .tgz, .tar.zst, .cpio, .cpio.gz, .cpio.zst. Times later than SOURCE_DATE_EPOCH become it."
)]
pub(crate) struct Pack {
    /// the format, as NAME[:COMPRESSION[:LEVEL]]
    #[argh(option, short = 'f', arg_name = "FORMAT")]
    format: Option<String>,
    /// the file, instead of standard output
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or an id
    #[argh(positional, arg_name = "image")]
    image: String,
}

impl Pack {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let format = Format::decide(self.format.as_deref(), self.output.as_deref())?;
        let store = open(self.store.as_deref())?;
        super::enter_user_namespace();
        interrupt::watch()?;
        let image = find(&store, &self.image)?;
        let pack = || -> Result<()> {
            let archive = pack::archive(&store, &image, source_date_epoch())?;
            warn(&archive.warnings);
            let how = match format.codec {
                Codec::None => Compression::None,
                Codec::Gzip => Compression::Gzip,
                Codec::Zstd => Compression::Zstd,
            };
            streams::write(self.output.as_deref(), |out| {
                let mut out = Compressor::new(out, how, format.level)?;
                match format.kind {
                    Kind::Tar => archive.write(&mut out).map(drop)?,
                    Kind::Cpio => {
                        let (_, lost) = cpio::write(&Tree::of(archive)?, &mut out)?;
                        warn(lost.as_slice());
                    }
                }
                out.finish()
            })
        };
        pack().context(|| format!("pack {}", self.image))
    }
}
