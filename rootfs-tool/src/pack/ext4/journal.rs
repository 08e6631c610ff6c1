//! What the file system keeps for itself: the journal, and the inode of the blocks that descriptors may grow into.

use super::geometry::{BLOCK, GROUP, Geometry};
use crate::pack::uuid::Uuid;

/// Addresses in a block.
const ADDRESSES: u64 = BLOCK as u64 / 4;

/// Blocks of the journal of a file system of so many, as mke2fs has it.
pub(super) fn blocks(all: u64) -> u64 {
    match all {
        0..0x8000 => 1024,
        0x8000..0x4_0000 => 4096,
        0x4_0000..0x8_0000 => 8192,
        0x8_0000..0x40_0000 => 16384,
        0x40_0000..0x80_0000 => 32768,
        0x80_0000..0x100_0000 => 65536,
        0x100_0000..0x200_0000 => 131_072,
        _ => 262_144,
    }
}

/// The journal's first block: version 2, empty. It is big-endian.
pub(super) fn superblock(blocks: u64, uuid: Uuid) -> [u8; 1024] {
    let mut out = [0; 1024];
    // The magic and the kind of block; no number. Then the size of a block, how many there are, where the log begins,
    // and the first transaction.
    let words = [0xc03b_3998, 4, 0, BLOCK as u32, blocks as u32, 1, 1];
    for (n, word) in words.into_iter().enumerate() {
        out[4 * n..4 * n + 4].copy_from_slice(&word.to_be_bytes());
    }
    out[0x30..0x40].copy_from_slice(&uuid.0);
    // File systems that use it.
    out[0x43] = 1;
    out
}

/// The size that the inode of the kept blocks has: all that can be told of by its doubly indirect block.
pub(super) const RESIZE_SIZE: u64 = (ADDRESSES * ADDRESSES + ADDRESSES + 12) * BLOCK as u64;

/// What the inode of the kept blocks consists of: the block with their addresses (the one of which is told by the inode),
/// and each of them with the addresses of its copies, which the other groups keep.
pub(super) fn kept(geometry: &Geometry) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let groups: Vec<u64> =
        (1..geometry.groups).filter(|group| Geometry::has_super(*group)).map(u64::from).collect();
    let (mut addresses, mut kept) = (vec![0; BLOCK], Vec::new());
    for n in geometry.descriptors..geometry.descriptors + geometry.room {
        let block = 1 + u64::from(n);
        let at = 4 * (u64::from(n) % ADDRESSES) as usize;
        addresses[at..at + 4].copy_from_slice(&(block as u32).to_le_bytes());
        let copies: Vec<u8> =
            groups.iter().flat_map(|group| ((block + group * GROUP) as u32).to_le_bytes()).collect();
        kept.push((block, copies));
    }
    (addresses, kept)
}
