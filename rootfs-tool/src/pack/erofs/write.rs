//! The order in which an image comes into being: contents, whose places inodes tell; then inodes get their places, which
//! directories tell; then all is written.

use std::collections::BTreeMap;

use coracle_sys::{Context, Error, Result, interrupt, order};

use super::area::{Area, SLOT};
use super::codec::{Codec, DICTIONARY};
use super::data::{self, Place};
use super::xattr::Shared;
use super::{BLOCK, How, directory, inode};
use crate::pack::crc32c::crc32c;
use crate::pack::out::{Out, Target};
use crate::pack::tree::{self, Kind, Tree};
use crate::pack::uuid::{Identity, Uuid};
use crate::pack::{limits, same};

/// Where the superblock begins.
const SUPERBLOCK: usize = 1024;
/// Bytes of an inode's attributes before the first of them.
const ATTRIBUTES_HEAD: u64 = 12;
/// The superblock has a sum, and times are those of the last modification.
const COMPATIBLE: u32 = 1 | 2;
/// Compressed data ends where its block does.
const ZERO_PADDING: u32 = 1;
/// The compressors are told behind the superblock.
const CONFIGURATIONS: u32 = 2;
/// There may be files in chunks.
const CHUNKS: u32 = 4;

pub(super) fn image(tree: &Tree, how: &How, target: &mut dyn Target) -> Result<()> {
    limits::check(tree)?;
    let shared = Shared::of(tree)?;
    let time = usual_time(tree);
    let sizes: Vec<u64> = tree.nodes.iter().enumerate().map(|(n, _)| size(tree, n)).collect();
    for (n, size) in sizes.iter().enumerate() {
        if *size >= (BLOCK as u64) << 32 {
            return Err(limits::refuse(
                tree,
                n,
                &format!("it has {size} bytes, and erofs holds less than 16 TiB"),
            ));
        }
    }
    let own = |n: usize| inode::own(&tree.nodes[n], sizes[n], time);
    let heads: Vec<usize> =
        tree.nodes.iter().enumerate().map(|(n, node)| own(n) + shared.body(node).len()).collect();
    let mut out = Out::after(BLOCK as u64, target)?;
    let mut originals = same::originals(tree)?;
    for n in 0..originals.len() {
        // Where the end of one's content is behind its inode, that of the other is.
        if inode::fits(heads[n], sizes[n]) != inode::fits(heads[originals[n]], sizes[n]) {
            originals[n] = n;
        }
    }
    let mut places = data::write(tree, &originals, &heads, &sizes, how.codec, &mut out)?;

    // Room for the inodes. No inode has the number 0, and that of the root has 16 bits.
    let mut area = Area::new();
    area.take(SLOT);
    let lengths = (0..tree.nodes.len()).map(|n| inode::length(heads[n], sizes[n], &places[n]));
    let mut end = 0;
    let mut take = |length: usize| {
        let nid = area.take(length);
        end = end.max(nid * SLOT as u64 + length as u64);
        nid
    };
    let nids: Vec<u64> = lengths.map(&mut take).collect();
    // fsck.erofs reads the head of attributes behind every inode, also where there are none.
    let blocks = area.blocks.max((end + ATTRIBUTES_HEAD).div_ceil(BLOCK as u64));

    let block = |out: &Out<'_>| {
        let block = u32::try_from(out.at() / BLOCK as u64);
        block.map_err(|_| Error::unsupported("the image has more than the 16 TiB of erofs"))
    };
    for (n, node) in tree.nodes.iter().enumerate() {
        let first = block(&out)?;
        let Place::Flat { block, inline } = &mut places[n] else { continue };
        let bytes = match &node.kind {
            Kind::Dir(names) => directory::bytes(tree, n, names, &nids),
            Kind::Symlink(target) if !*inline => target.clone(),
            _ => continue,
        };
        let tail = if *inline { bytes.len() % BLOCK } else { 0 };
        if bytes.len() > tail {
            *block = first;
            out.write(&bytes[..bytes.len() - tail])?;
            out.fill_block()?;
        }
    }
    let attributes = block(&out)?;
    out.write(&shared.bytes)?;
    out.fill_block()?;
    let inodes = block(&out)?;
    let begin = out.at();
    let mut all: Vec<usize> = (0..tree.nodes.len()).collect();
    order::sort_by(&mut all, |a, b| nids[*a].cmp(&nids[*b]));
    for n in all {
        interrupt::check()?;
        let node = &tree.nodes[n];
        let place = &places[n];
        pad(&mut out, begin + nids[n] * SLOT as u64)?;
        let attributes = shared.body(node);
        out.write(&inode::bytes(node, n as u32 + 1, sizes[n], place, &attributes, own(n), how.codec))?;
        if let Place::Flat { inline: true, .. } = place {
            out.write(&tail(tree, n, &nids).context(|| name(tree, n))?)?;
        }
    }
    pad(&mut out, begin + blocks * BLOCK as u64)?;

    let mut identity = Identity::new("erofs");
    identity.tree(tree);
    identity.number(out.sum().into());
    let uuid = how.uuid.unwrap_or(Uuid::of(&identity.digest()));
    let blocks = block(&out)?;
    let chunks = places.iter().any(|place| matches!(place, Place::Chunks(_)));
    let mut begin = vec![0; BLOCK - SUPERBLOCK];
    let mut put = |at: usize, bytes: &[u8]| begin[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xe0f5_e1e2_u32.to_le_bytes());
    put(8, &COMPATIBLE.to_le_bytes());
    put(12, &[BLOCK.trailing_zeros() as u8]);
    put(14, &(nids[0] as u16).to_le_bytes());
    put(16, &(tree.nodes.len() as u64).to_le_bytes());
    put(24, &time.0.to_le_bytes());
    put(32, &time.1.to_le_bytes());
    put(36, &blocks.to_le_bytes());
    put(40, &inodes.to_le_bytes());
    put(44, &attributes.to_le_bytes());
    put(48, &uuid.0);
    put(64, &how.label);
    let mut needed = if chunks { CHUNKS } else { 0 };
    match how.codec {
        Some(Codec::Lzma(_)) => {
            needed |= ZERO_PADDING | CONFIGURATIONS;
            // Which compressors there are, and of LZMA 14 bytes.
            put(84, &2_u16.to_le_bytes());
            put(128, &14_u16.to_le_bytes());
            put(130, &DICTIONARY.to_le_bytes());
        }
        Some(_) => needed |= ZERO_PADDING,
        None => {}
    }
    put(80, &needed.to_le_bytes());
    let sum = crc32c(!0, &begin);
    begin[4..8].copy_from_slice(&sum.to_le_bytes());
    out.finish(SUPERBLOCK as u64, &begin)
}

/// The time that most have: those need none of their own.
fn usual_time(tree: &Tree) -> (i64, u32) {
    let mut counts: BTreeMap<(i64, u32), usize> = BTreeMap::new();
    tree.nodes.iter().for_each(|node| *counts.entry(node.meta.mtime).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map_or((0, 0), |(time, _)| time)
}

/// Bytes of a node's content.
fn size(tree: &Tree, node: usize) -> u64 {
    match &tree.nodes[node].kind {
        Kind::File(data) => data.size(),
        Kind::Dir(names) => directory::size(tree, node, names) as u64,
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

/// What is behind the last whole block of a node's content.
fn tail(tree: &Tree, node: usize, nids: &[u64]) -> Result<Vec<u8>> {
    let end = |bytes: &[u8]| bytes[bytes.len() / BLOCK * BLOCK..].to_vec();
    match &tree.nodes[node].kind {
        Kind::File(data) => {
            let from = data.size() / BLOCK as u64 * BLOCK as u64;
            let mut bytes = vec![0; (data.size() - from) as usize];
            tree::fill(&mut data.open_at(from)?, &mut bytes, true).context(|| "read its end")?;
            Ok(bytes)
        }
        Kind::Dir(names) => Ok(end(&directory::bytes(tree, node, names, nids))),
        Kind::Symlink(target) => Ok(end(target)),
        _ => Ok(Vec::new()),
    }
}

fn name(tree: &Tree, node: usize) -> String {
    format!("pack {:?}", String::from_utf8_lossy(&tree.path(node)))
}

/// Zeros, up to a place.
fn pad(out: &mut Out<'_>, to: u64) -> Result<()> {
    while out.at() < to {
        out.write(&[0; BLOCK][..(to - out.at()).min(BLOCK as u64) as usize])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use coracle_store::layer::pack::{Archive, Content, Meta};

    use super::*;
    use crate::pack::format;

    #[test]
    fn what_is_small_lies_behind_its_inode() {
        let mut archive = Archive::new();
        for (path, content) in [
            ("dir", Content::Dir),
            ("dir/file", Content::Bytes(vec![b'x'; 1000])),
            ("dir/again", Content::Bytes(vec![b'x'; 1000])),
            ("link", Content::Symlink("dir".into())),
            ("large", Content::Bytes((0..5000).map(|n| n as u8).collect())),
        ] {
            archive.put(path, Meta::new(0o755), content).unwrap();
        }
        let mut out = Cursor::new(Vec::new());
        let how = How::new(format::Codec::None, None, None, "").unwrap();
        image(&Tree::of(archive).unwrap(), &how, &mut out).unwrap();
        // The superblock, the first block of the large file, and the inodes.
        assert_eq!(out.into_inner().len(), 3 * BLOCK);
    }
}
