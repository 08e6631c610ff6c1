//! The machine's root: the image unpacked into memory, or as a file system on a disk that is never written, with what is
//! written kept in memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;

use coracle_store::layer::pack::Archive;
use coracle_store::{Image, Store};
use coracle_sys::{Context, Error, Result};

use crate::boot::initrd;
use crate::pack::format::{Codec, Format, Kind};
use crate::pack::{self, cpio, ext4, file_system, tree::Tree};
use crate::replacing::nameless;

/// What it is: all in memory, or one of the formats that a kernel mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(Option<Format>);

impl Root {
    /// All in memory.
    pub(super) const INITRAMFS: Self = Self(None);

    /// By its name. It is read once: what is quickly made will do.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let of = |kind, codec, level| Ok(Self(Some(Format { kind, codec, level })));
        match text {
            "initramfs" => Ok(Self::INITRAMFS),
            "squashfs" => of(Kind::Squashfs, Codec::Zstd, Some(1)),
            "erofs" => of(Kind::Erofs, Codec::Lz4, None),
            "ext4" => of(Kind::Ext4, Codec::None, None),
            _ => Err(Error::usage(format!("--root {text}: it is initramfs, squashfs, erofs or ext4"))),
        }
    }

    /// The kernel's name of the file system; none where there is no disk.
    pub(super) fn kind(self) -> Option<&'static str> {
        Some(self.0?.kind.mounted()?.0)
    }
}

/// What is made of an image.
pub(super) struct Made {
    /// What the kernel unpacks.
    pub(super) initrd: OwnedFd,
    /// Its size in bytes.
    pub(super) size: u64,
    pub(super) disk: Option<OwnedFd>,
}

/// Make it, with what init needs beside it.
pub(super) fn make(
    root: Root,
    store: &Store,
    image: &Image,
    init: &[u8],
    conf: &[u8],
    modules: &[initrd::Module],
) -> Result<Made> {
    let archive: Archive = pack::archive(store, image, None)?;
    super::super::warn(&archive.warnings);
    let dir = store.main().root().join("tmp");
    let fd = nameless(&dir)?;
    let mut out = BufWriter::with_capacity(1 << 20, copy(&fd)?);
    let disk = match root.0 {
        None => {
            let (done, lost) = cpio::write(&Tree::of(archive.clone())?, out)?;
            super::super::warn(lost.as_slice());
            out = done;
            initrd::write(Some(&archive), init, conf, modules, &mut out)?;
            None
        }
        Some(format) => {
            initrd::write(None, init, conf, modules, &mut out)?;
            let disk = nameless(&dir)?;
            let how = ext4::How { spare: true, ..ext4::How::default() };
            file_system::write(&Tree::of(archive)?, &format, &how, &mut copy(&disk)?)
                .context(|| "make the disk with the root")?;
            Some(disk)
        }
    };
    out.flush().context(|| "write what is unpacked")?;
    let size = copy(&fd)?.metadata().context(|| "fstat()")?.len();
    Ok(Made { initrd: fd, size, disk })
}

fn copy(fd: &OwnedFd) -> Result<File> {
    fd.try_clone().map(File::from).context(|| "dup()")
}
