//! `rootfs-tool pack`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::Compression;
use coracle_store::layer::compress::Compressor;
use coracle_store::layer::pack::source_date_epoch;
use coracle_sys::{Context, Error, Result, interrupt};

use super::{find, open, warn};
use crate::pack::format::{Codec, Format, Kind};
use crate::pack::tree::Tree;
use crate::pack::uuid::Uuid;
use crate::pack::{self, cpio, erofs, ext4, size, squashfs};
use crate::streams;

/// Write an image as one file that another system unpacks, mounts or boots: the same bytes from run to run.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "pack",
    example = "rootfs-tool pack -o shell.cpio.gz shell
rootfs-tool pack --format cpio:zstd shell >initramfs",
    note = "Formats: tar and cpio, which is an initramfs (both :none, :gzip or :zstd); squashfs (:gzip, :zstd or :xz); erofs (:none,
:lz4, :lz4hc or :lzma); ext4. Without --format the end of FILE decides: .tar, .tar.gz, .tgz, .tar.zst, .cpio, .cpio.gz, .cpio.zst, .squashfs,
.erofs, .ext4. Times later than SOURCE_DATE_EPOCH become it."
)]
pub(crate) struct Pack {
    /// the format, as NAME[:COMPRESSION[:LEVEL]]
    #[argh(option, short = 'f', arg_name = "FORMAT")]
    format: Option<String>,
    /// the file, instead of standard output
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
    /// how many bytes the file system is to have (K, M, G and T are powers of 1024), instead of as few as will do
    #[argh(option, arg_name = "SIZE")]
    size: Option<String>,
    /// the label of the file system
    #[argh(option, arg_name = "LABEL")]
    label: Option<String>,
    /// the identifier of the file system, instead of one that is derived from its content
    #[argh(option, arg_name = "UUID")]
    uuid: Option<String>,
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
        let ext4 = self.ext4(format.kind)?;
        let store = open(self.store.as_deref())?;
        super::enter_user_namespace();
        interrupt::watch()?;
        let image = find(&store, &self.image)?;
        let pack = || -> Result<()> {
            let archive = pack::archive(&store, &image, source_date_epoch())?;
            warn(&archive.warnings);
            if format.kind.seeks() {
                let tree = Tree::of(archive)?;
                return streams::fill(self.output.as_deref(), |out| match format.kind {
                    Kind::Squashfs => {
                        squashfs::write(&tree, &squashfs::How::new(format.codec, format.level), out)
                    }
                    Kind::Erofs => {
                        let how = erofs::How::new(format.codec, format.level, ext4.uuid, &ext4.label)?;
                        erofs::write(&tree, &how, out)
                    }
                    _ => ext4::write(&tree, &ext4, out),
                });
            }
            let how = match format.codec {
                Codec::Gzip => Compression::Gzip,
                Codec::Zstd => Compression::Zstd,
                _ => Compression::None,
            };
            streams::write(self.output.as_deref(), |out| {
                let mut out = Compressor::new(out, how, format.level)?;
                if format.kind == Kind::Tar {
                    archive.write(&mut out)?;
                } else {
                    let (_, lost) = cpio::write(&Tree::of(archive)?, &mut out)?;
                    warn(lost.as_slice());
                }
                out.finish()
            })
        };
        pack().context(|| format!("pack {}", self.image))
    }

    /// What was typed of the file system.
    fn ext4(&self, kind: Kind) -> Result<ext4::How> {
        let both = matches!(kind, Kind::Ext4 | Kind::Erofs);
        for (flag, typed, fits, whose) in [
            ("size", &self.size, kind == Kind::Ext4, "ext4"),
            ("label", &self.label, both, "ext4 and erofs"),
            ("uuid", &self.uuid, both, "ext4 and erofs"),
        ] {
            if typed.is_some() && !fits {
                return Err(Error::usage(format!("--{flag} is for {whose}")));
            }
        }
        Ok(ext4::How {
            size: self.size.as_deref().map(|text| size::parse(text, "--size")).transpose()?,
            uuid: self.uuid.as_deref().map(|text| Uuid::parse(text, "--uuid")).transpose()?,
            label: self.label.clone().unwrap_or_default(),
            time: source_date_epoch().and_then(|time| time.try_into().ok()).unwrap_or(0),
        })
    }
}
