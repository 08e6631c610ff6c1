//! Any of the formats that a kernel mounts, by its name.

use coracle_sys::{Error, Result};

use super::format::{Format, Kind};
use super::tree::Tree;
use super::{Target, erofs, ext4, squashfs};

/// Write a tree as a file system. What `how` says beyond label and identifier is for ext4.
pub(crate) fn write(tree: &Tree, format: &Format, how: &ext4::How, mut out: &mut dyn Target) -> Result<()> {
    match format.kind {
        Kind::Ext4 => ext4::write(tree, how, &mut out),
        Kind::Erofs => {
            let how = erofs::How::new(format.codec, format.level, how.uuid, &how.label)?;
            erofs::write(tree, &how, &mut out)
        }
        Kind::Squashfs => squashfs::write(tree, &squashfs::How::new(format.codec, format.level), &mut out),
        Kind::Tar | Kind::Cpio | Kind::Disk => Err(Error::usage("it is no file system")),
    }
}
