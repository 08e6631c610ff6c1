//! erofs, as the kernel's Documentation/filesystems/erofs.rst and its fs/erofs/erofs_fs.h have it:
//!
//! ```text
//! superblock | blocks of files | blocks of directories and long links | shared attributes | inodes
//! ```
//!
//! Blocks have 4 KiB. Numbers are little-endian; the number of an inode is where it lies in its area. What mounts it is
//! Linux 5.15 or later, for LZMA 5.16 with CONFIG_EROFS_FS_ZIP_LZMA. Contents are compressed by all cores as they are
//! read from the layers, two MiB a core at a time; in memory are besides them the names, some 64 bytes for each inode, 4 bytes for
//! each extent of a compressed file, and for each block of a file with many blocks of zeros. Not here: reading.

mod area;
mod codec;
mod data;
mod directory;
mod index;
mod inode;
mod write;
mod xattr;

use std::io::{Seek, Write};

use coracle_sys::{Error, Result};

use super::format;
use super::tree::Tree;
use super::uuid::Uuid;
use codec::Codec;

/// Bytes of a block, and of a logical cluster.
const BLOCK: usize = 4096;
/// Bytes of a label.
const LABEL: usize = 16;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    /// What files are compressed with, if they are.
    codec: Option<Codec>,
    /// Derived from the content when none.
    uuid: Option<Uuid>,
    /// The volume's name, filled up with zeros.
    label: [u8; LABEL],
}

impl How {
    /// As it was typed; the level of mkfs.erofs(1) where none was.
    pub(crate) fn new(
        codec: format::Codec,
        level: Option<i32>,
        uuid: Option<Uuid>,
        label: &str,
    ) -> Result<Self> {
        let mut bytes = [0; LABEL];
        match bytes.get_mut(..label.len()) {
            Some(begin) => begin.copy_from_slice(label.as_bytes()),
            None => return Err(Error::usage(format!("--label {label}: it has more than {LABEL} bytes"))),
        }
        let codec = match codec {
            format::Codec::Lz4 => Some(Codec::Lz4),
            format::Codec::Lz4hc => Some(Codec::Lz4hc),
            format::Codec::Lzma => Some(Codec::Lzma(level.map_or(6, |level| level as u8))),
            _ => None,
        };
        Ok(Self { codec, uuid, label: bytes })
    }
}

/// Write the tree as an image, from the begin of `out` on, which is empty.
pub(crate) fn write(tree: &Tree, how: &How, out: &mut (impl Write + Seek)) -> Result<()> {
    write::image(tree, how, out)
}
