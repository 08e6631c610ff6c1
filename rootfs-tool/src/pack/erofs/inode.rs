//! Inodes: of 32 bytes where ids have 16 bits and the time is that of the image, of 64 otherwise. Behind them are their
//! attributes, and then what leads to the content, or its end.

use super::codec::Codec;
use super::data::Place;
use super::{BLOCK, index};
use crate::pack::limits;
use crate::pack::tree::{Kind, Node};

/// How the content is found, in the inode's format.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;
const COMPACT: u16 = 3;
const CHUNKS: u16 = 4;

/// Bytes of an inode's own.
pub(super) fn own(node: &Node, size: u64, time: (i64, u32)) -> usize {
    let meta = &node.meta;
    let large = meta.uid > 0xffff || meta.gid > 0xffff || node.links > 0xffff || size > u32::MAX.into();
    if large || meta.mtime != time { 64 } else { 32 }
}

/// Does the end of a content of this size lie behind an inode that has `head` bytes with its attributes?
pub(super) fn fits(head: usize, size: u64) -> bool {
    let tail = (size % BLOCK as u64) as usize;
    tail > 0 && head + tail <= BLOCK
}

/// Bytes of an inode with all that lies behind it.
pub(super) fn length(head: usize, size: u64, place: &Place) -> usize {
    match place {
        Place::Flat { inline: true, .. } => head + (size % BLOCK as u64) as usize,
        Place::Flat { .. } => head,
        Place::Chunks(blocks) => head + 4 * blocks.len(),
        Place::Packed { .. } => head + index::size(head, size),
    }
}

/// An inode and its attributes, and what leads to its content; the end of the content is not in it.
pub(super) fn bytes(
    node: &Node,
    number: u32,
    size: u64,
    place: &Place,
    attributes: &[u8],
    own: usize,
    codec: Option<Codec>,
) -> Vec<u8> {
    let (layout, word) = match (place, &node.kind) {
        (_, Kind::Char(major, minor) | Kind::Block(major, minor)) => (PLAIN, limits::device(*major, *minor)),
        (Place::Flat { block, inline }, _) => (if *inline { INLINE } else { PLAIN }, *block),
        // A chunk is one block, and four bytes tell which.
        (Place::Chunks(_), _) => (CHUNKS, 0),
        (Place::Packed { blocks, .. }, _) => (COMPACT, *blocks),
    };
    let meta = &node.meta;
    let extended = own == 64;
    let count = if attributes.is_empty() { 0 } else { (attributes.len() - 12) / 4 + 1 };
    let mode = node.kind.numbers().0 | meta.mode & 0o7777;
    let mut out = Vec::with_capacity(own + attributes.len());
    for field in [layout << 1 | u16::from(extended), count as u16, mode as u16] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    if extended {
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&size.to_le_bytes());
        for field in [word, number, meta.uid, meta.gid] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&meta.mtime.0.to_le_bytes());
        out.extend_from_slice(&meta.mtime.1.to_le_bytes());
        out.extend_from_slice(&node.links.to_le_bytes());
    } else {
        out.extend_from_slice(&(node.links as u16).to_le_bytes());
        for field in [size as u32, 0, word, number] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&(meta.uid as u16).to_le_bytes());
        out.extend_from_slice(&(meta.gid as u16).to_le_bytes());
    }
    out.resize(own, 0);
    out.extend_from_slice(attributes);
    match place {
        Place::Chunks(blocks) => blocks.iter().for_each(|block| out.extend_from_slice(&block.to_le_bytes())),
        Place::Packed { block, lengths, .. } => {
            let algorithm = codec.map_or(0, Codec::number);
            out.extend_from_slice(&index::bytes(out.len(), lengths, *block, algorithm));
        }
        Place::Flat { .. } => {}
    }
    out
}
