//! squashfs 4.0, as the kernel's Documentation/filesystems/squashfs.rst and its fs/squashfs/squashfs_fs.h have it:
//!
//! ```text
//! superblock | options | blocks and fragment blocks of files | inodes | directories | fragments | export | ids | xattrs
//! ```
//!
//! Numbers are little-endian. Blocks are compressed by all cores as they are read from the layers, two blocks a core at a
//! time; in memory are besides them the tables, compressed, and 4 bytes for each block of a file. Times are whole
//! seconds from 1970 to 2106, and what is outside becomes the nearest. What the format cannot hold otherwise (an attribute outside
//! `user.`, `trusted.` and `security.`; more than 65536 owners) is refused by name. Not here: reading.

mod codec;
mod data;
mod directory;
mod inode;
mod metadata;
mod xattr;

use std::io::{Seek, Write};

use coracle_sys::{Error, Result};

use codec::Codec;
use directory::Entry;
use metadata::Metadata;

use super::out::{Out, Target};
use super::tree::{Kind, Tree};
use super::{format, limits, same};

/// As mksquashfs(1) has it.
const BLOCK: usize = 128 << 10;
/// Bytes of the superblock.
const SUPERBLOCK: u64 = 96;
/// Equal files are stored once, and inodes are found by their numbers (NFS).
const FLAGS: u16 = 1 << 6 | 1 << 7;
/// The compressor's options follow the superblock.
const WITH_OPTIONS: u16 = 1 << 10;
/// There are no extended attributes.
const WITHOUT_XATTRS: u16 = 1 << 9;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    /// What blocks and tables are compressed with.
    codec: Codec,
}

impl How {
    /// As it was typed; the levels of mksquashfs(1) where none was, but for xz.
    pub(crate) fn new(codec: format::Codec, level: Option<i32>) -> Self {
        let level = level.map(|level| level as u8);
        let codec = match codec {
            format::Codec::Zstd => Codec::Zstd(level.unwrap_or(15)),
            format::Codec::Xz => Codec::Xz(level),
            _ => Codec::Gzip(level.unwrap_or(9)),
        };
        Self { codec }
    }
}

/// Write the tree as an image, from the begin of `out` on, which is empty.
pub(crate) fn write(tree: &Tree, how: &How, out: &mut (impl Write + Seek)) -> Result<()> {
    image(tree, how, out)
}

fn image(tree: &Tree, how: &How, target: &mut dyn Target) -> Result<()> {
    limits::check(tree)?;
    let codec = how.codec;
    let metadata = || Ok::<_, Error>(Metadata::new(codec.compressor(metadata::BLOCK)?));
    let mut out = Out::after(SUPERBLOCK, target)?;
    let options = codec.options();
    if let Some(options) = &options {
        // A metadata block that is not compressed.
        out.write(&(options.len() as u16 | 1 << 15).to_le_bytes())?;
        out.write(options)?;
    }
    let places = data::write(tree, &same::originals(tree)?, codec, BLOCK, &mut out)?;

    let mut inodes = metadata()?;
    let mut directories = metadata()?;
    let mut ids = inode::Ids::default();
    let mut xattrs = xattr::Xattrs::new(codec)?;
    let number = |node: usize| node as u32 + 1;
    let mut at = vec![(0, 0); tree.nodes.len()];
    let of = |e: Error, node: usize| e.wrap(format!("pack {:?}", String::from_utf8_lossy(&tree.path(node))));
    // A directory names where inodes lie, so they are written before it; what is in it has a higher number.
    let is_dir = |node: &usize| matches!(tree.nodes[*node].kind, Kind::Dir(_));
    let files = (0..tree.nodes.len()).filter(|n| !is_dir(n));
    let dirs = (0..tree.nodes.len()).rev().filter(is_dir);
    for n in files.chain(dirs) {
        let node = &tree.nodes[n];
        let set = xattrs.number(&node.meta.xattrs).map_err(|e| of(e, n))?;
        let bytes = match &node.kind {
            Kind::Dir(names) => {
                let mut entries = Vec::with_capacity(names.len());
                for (name, child) in names {
                    let kind = inode::kind(&tree.nodes[*child]);
                    entries.push(Entry { name, inode: at[*child], number: number(*child), kind });
                }
                let listing = directory::write(&entries, &mut directories)?;
                // The root's parent is a number that no inode has.
                let parent = if n == 0 { number(tree.nodes.len()) } else { number(node.parent) };
                inode::of_dir(node, number(n), parent, &listing, set, &mut ids)
            }
            _ => inode::of_file(node, number(n), &places.files[n], set, &mut ids),
        };
        let begin = inodes.len();
        inodes.write(&bytes.map_err(|e| of(e, n))?)?;
        at[n] = inodes.locate(begin);
    }
    let named = |(block, offset): (u32, u16)| u64::from(block) << 16 | u64::from(offset);

    let inode_table = out.at();
    out.write(&inodes.finish()?.0)?;
    let directory_table = out.at();
    out.write(&directories.finish()?.0)?;
    let mut table = metadata()?;
    for (start, length) in &places.fragments {
        table.write(&start.to_le_bytes())?;
        table.write(&u64::from(*length).to_le_bytes())?;
    }
    let fragment_table = table.write_with_places(&mut out)?;
    let mut table = metadata()?;
    for place in &at {
        table.write(&named(*place).to_le_bytes())?;
    }
    let export_table = table.write_with_places(&mut out)?;
    let mut table = metadata()?;
    for id in &ids.all {
        table.write(&id.to_le_bytes())?;
    }
    let id_table = table.write_with_places(&mut out)?;
    let xattr_table = xattrs.write(codec, &mut out)?;

    let latest = tree.nodes.iter().map(|node| inode::time(node.meta.mtime.0)).max().unwrap_or(0);
    let has_options = if options.is_some() { WITH_OPTIONS } else { 0 };
    let has_xattrs = if xattr_table == u64::MAX { WITHOUT_XATTRS } else { 0 };
    let mut superblock = b"hsqs".to_vec();
    for field in [number(tree.nodes.len()) - 1, latest, BLOCK as u32, places.fragments.len() as u32] {
        superblock.extend_from_slice(&field.to_le_bytes());
    }
    let flags = FLAGS | has_options | has_xattrs;
    for field in [codec.id(), BLOCK.trailing_zeros() as u16, flags, ids.all.len() as u16, 4, 0] {
        superblock.extend_from_slice(&field.to_le_bytes());
    }
    let tables = [id_table, xattr_table, inode_table, directory_table, fragment_table, export_table];
    for field in [named(at[0]), out.at()].into_iter().chain(tables) {
        superblock.extend_from_slice(&field.to_le_bytes());
    }
    out.fill_block()?;
    out.finish(0, &superblock)
}
