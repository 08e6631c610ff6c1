//! `rootfs-tool pack`.

mod machine;

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::Compression;
use coracle_store::layer::compress::Compressor;
use coracle_store::layer::pack::source_date_epoch;
use coracle_sys::{Context, Error, Result, interrupt, quantity};

use super::{find, open, warn};
use crate::pack::format::{Codec, Format, Kind};
use crate::pack::tree::Tree;
use crate::pack::uuid::Uuid;
use crate::pack::{self, cpio, disk, ext4, file_system};
use crate::streams;

/// Write an image as one file that another system unpacks, mounts or boots: the same bytes from run to run.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "pack",
    example = "rootfs-tool pack -o shell.cpio.gz shell
rootfs-tool pack --format cpio:zstd shell >initramfs
rootfs-tool pack --kernel package --cmdline console=ttyS0 -o shell.disk shell",
    note = "Formats: tar and cpio, which is an initramfs (both :none, :gzip or :zstd); squashfs (:gzip, :zstd or :xz); erofs (:none,
:lz4, :lz4hc or :lzma); ext4; disk, which has a boot partition, a root and a partition for data. Levels are those of the tools
of each format, and so are their defaults, but squashfs:xz without one is 1 % larger than with :6, and done in less time. Without
--format the end of FILE decides: .tar, .tar.gz, .tgz, .tar.zst, .cpio, .cpio.gz, .cpio.zst, .squashfs, .erofs, .ext4, .disk,
.img, .raw. Times later than SOURCE_DATE_EPOCH become it."
)]
pub(crate) struct Pack {
    /// the format, as NAME[:COMPRESSION[:LEVEL]]
    #[argh(option, short = 'f', arg_name = "FORMAT")]
    format: Option<String>,
    /// the file, or a disk such as /dev/sdX that has room and is not in use; - is standard output, as is nothing
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<PathBuf>,
    /// how many bytes the file system or the disk is to have (K, M, G, T are powers of 1024), instead of as few as will do
    #[argh(option, arg_name = "SIZE")]
    size: Option<String>,
    /// the label of the file system, on a disk of the root
    #[argh(option, arg_name = "LABEL")]
    label: Option<String>,
    /// the identifier of the file system or the disk, instead of one that is derived from its content
    #[argh(option, arg_name = "UUID")]
    uuid: Option<String>,
    /// of a disk: the format of its root, ext4 if not said
    #[argh(option, arg_name = "FORMAT")]
    root: Option<String>,
    /// of a disk: the size of the root's partition
    #[argh(option, arg_name = "SIZE", long = "root-size")]
    root_size: Option<String>,
    /// of a disk: the kernel: a file, package, host, or bootfs for that of the image bootfs, which is taken where there is one; else host
    #[argh(option, arg_name = "FILE|WORD")]
    kernel: Option<String>,
    /// the image with the kernel, instead of localhost/bootfs:latest
    #[argh(option, arg_name = "IMAGE")]
    bootfs: Option<String>,
    /// of --kernel FILE: the folder of its modules, instead of /lib/modules/VERSION; an empty one where all is in the kernel
    #[argh(option, arg_name = "DIR", long = "modules-dir")]
    modules_dir: Option<PathBuf>,
    /// the loader stub of the unified kernel image, instead of the one that comes with the kernel
    #[argh(option, arg_name = "FILE")]
    stub: Option<PathBuf>,
    /// of a disk: a boot loader for EFI that chooses among kernel images and counts tries, such as systemd-boot
    #[argh(option, arg_name = "FILE")]
    loader: Option<PathBuf>,
    /// names of kernel modules that are loaded besides those by which disks are found, with commas between them
    #[argh(option, arg_name = "NAMES")]
    modules: Vec<String>,
    /// further words of the kernel's command line
    #[argh(option, arg_name = "WORDS")]
    cmdline: Vec<String>,
    /// init's file, instead of the one that the runner carries
    #[argh(option, arg_name = "FILE")]
    init: Option<PathBuf>,
    /// of a disk: a device tree for the kernel
    #[argh(option, arg_name = "FILE")]
    dtb: Option<PathBuf>,
    /// of a disk: a board's loader at a place of the disk, FILE@OFFSET in bytes
    #[argh(option, arg_name = "FILE@OFFSET")]
    blob: Vec<String>,
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
        // A dash is standard output, as of tar.
        let to = self.output.as_deref().filter(|path| *path != Path::new("-"));
        let format = Format::decide(self.format.as_deref(), to)?;
        self.check(format.kind)?;
        let time = source_date_epoch().and_then(|time| time.try_into().ok()).unwrap_or(0);
        let machine = if format.kind == Kind::Disk { Some(machine::Typed::read(&self, time)?) } else { None };
        let ext4 = self.ext4(time)?;
        let mut store = open(self.store.as_deref())?;
        super::enter_user_namespace();
        interrupt::watch()?;
        let image = find(&store, &self.image)?;
        let mut pack = || -> Result<()> {
            let archive = pack::archive(&store, &image, source_date_epoch())?;
            warn(&archive.warnings);
            let scratch = store.main().root().join("tmp");
            if let Some(typed) = &machine {
                let how = typed.how(&self, &mut store, &image, &archive, time)?;
                let tree = Tree::of(archive)?;
                return streams::fill(to, &scratch, |out| {
                    disk::write(
                        &how,
                        &mut |out| file_system::write(&tree, &typed.root, &typed.ext4, out),
                        out,
                    )
                });
            }
            if format.kind.seeks() {
                let tree = Tree::of(archive)?;
                return streams::fill(to, &scratch, |out| file_system::write(&tree, &format, &ext4, out));
            }
            let how = match format.codec {
                Codec::Gzip => Compression::Gzip,
                Codec::Zstd => Compression::Zstd,
                _ => Compression::None,
            };
            streams::write(to, |out| {
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

    /// What was typed has to be for the format.
    fn check(&self, kind: Kind) -> Result<()> {
        let sized = matches!(kind, Kind::Ext4 | Kind::Disk);
        for (flag, typed, fits, whose) in [
            ("size", &self.size, sized, "ext4 and disk"),
            ("label", &self.label, sized || kind == Kind::Erofs, "ext4, erofs and disk"),
            ("uuid", &self.uuid, sized || kind == Kind::Erofs, "ext4, erofs and disk"),
        ] {
            if typed.is_some() && !fits {
                return Err(Error::usage(format!("--{flag} is for {whose}")));
            }
        }
        if let Some(label) = self.label.as_ref().filter(|label| label.contains(char::is_control)) {
            return Err(Error::usage(format!("--label {label:?}: it holds a control character")));
        }
        let of_disk = [
            ("root", self.root.is_some()),
            ("root-size", self.root_size.is_some()),
            ("kernel", self.kernel.is_some()),
            ("bootfs", self.bootfs.is_some()),
            ("modules-dir", self.modules_dir.is_some()),
            ("stub", self.stub.is_some()),
            ("loader", self.loader.is_some()),
            ("modules", !self.modules.is_empty()),
            ("cmdline", !self.cmdline.is_empty()),
            ("init", self.init.is_some()),
            ("dtb", self.dtb.is_some()),
            ("blob", !self.blob.is_empty()),
        ];
        match of_disk.iter().find(|(_, typed)| *typed && kind != Kind::Disk) {
            Some((flag, _)) => Err(Error::usage(format!("--{flag} is for disk"))),
            None => Ok(()),
        }
    }

    /// What was typed of a file system of ext4.
    fn ext4(&self, time: u64) -> Result<ext4::How> {
        Ok(ext4::How {
            size: self.size.as_deref().map(|text| quantity::size(text, "--size")).transpose()?,
            spare: false,
            uuid: self.uuid.as_deref().map(|text| Uuid::parse(text, "--uuid")).transpose()?,
            label: self.label.clone().unwrap_or_default(),
            time,
        })
    }
}
