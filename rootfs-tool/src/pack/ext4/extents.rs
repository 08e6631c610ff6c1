//! Extent trees: which blocks of a file are which blocks of the disk.

use super::geometry::BLOCK;
use crate::pack::crc32c::crc32c;

/// Entries in an inode, and in a block of the tree.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = (BLOCK - 12 - 4) / 12;
/// Blocks that one extent can tell of.
const LONGEST: u64 = 1 << 15;

/// Blocks of a file that stand one after another on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first one's number in the file.
    pub(super) logical: u64,
    /// Its number on the disk.
    pub(super) physical: u64,
    pub(super) blocks: u64,
}

/// As the tree tells them: none longer than it can be.
pub(super) fn split(extents: &[Extent]) -> Vec<Extent> {
    let mut out = Vec::new();
    for extent in extents {
        for done in (0..extent.blocks).step_by(LONGEST as usize) {
            out.push(Extent {
                logical: extent.logical + done,
                physical: extent.physical + done,
                blocks: (extent.blocks - done).min(LONGEST),
            });
        }
    }
    out
}

/// How many blocks the tree of so many extents takes, the inode aside.
pub(super) fn tree_blocks(extents: usize) -> usize {
    let (mut level, mut all) = (extents, 0);
    while level > IN_INODE {
        level = level.div_ceil(IN_BLOCK);
        all += level;
    }
    all
}

/// The tree: what stands in the inode, and the content of each of its blocks, which are `places`.
pub(super) fn tree(extents: &[Extent], places: &[u64], inode: u32, seed: u32) -> ([u8; 60], Vec<Vec<u8>>) {
    let mut places = places.iter().copied();
    let mut level: Vec<(u64, [u8; 12])> = extents.iter().map(|e| (e.logical, leaf(e))).collect();
    let (mut depth, mut blocks) = (0, Vec::new());
    while level.len() > IN_INODE {
        let mut above = Vec::new();
        for chunk in level.chunks(IN_BLOCK) {
            let mut block = node(chunk, IN_BLOCK, depth);
            block.resize(BLOCK - 4, 0);
            let sum = crc32c(crc32c(crc32c(seed, &inode.to_le_bytes()), &[0; 4]), &block);
            block.extend_from_slice(&sum.to_le_bytes());
            blocks.push(block);
            // There are as many as `tree_blocks` said.
            let place = places.next().unwrap_or_default();
            above.push((chunk[0].0, index(chunk[0].0, place)));
        }
        level = above;
        depth += 1;
    }
    let mut root = [0; 60];
    let head = node(&level, IN_INODE, depth);
    root[..head.len()].copy_from_slice(&head);
    (root, blocks)
}

fn node(entries: &[(u64, [u8; 12])], most: usize, depth: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for n in [0xf30a, entries.len() as u16, most as u16, depth, 0, 0] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for (_, entry) in entries {
        out.extend_from_slice(entry);
    }
    out
}

fn leaf(extent: &Extent) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&(extent.logical as u32).to_le_bytes());
    out[4..6].copy_from_slice(&(extent.blocks as u16).to_le_bytes());
    out[6..8].copy_from_slice(&((extent.physical >> 32) as u16).to_le_bytes());
    out[8..].copy_from_slice(&(extent.physical as u32).to_le_bytes());
    out
}

fn index(logical: u64, place: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&(logical as u32).to_le_bytes());
    out[4..8].copy_from_slice(&(place as u32).to_le_bytes());
    out[8..10].copy_from_slice(&((place >> 32) as u16).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_blocks_that_it_was_said_to_take() {
        for many in [0, 1, 4, 5, 340, 341, 1360, 1361, 500_000] {
            let extents: Vec<Extent> =
                (0..many).map(|n| Extent { logical: 2 * n, physical: 3 * n, blocks: 1 }).collect();
            let places: Vec<u64> = (0..tree_blocks(extents.len()) as u64).collect();
            let (root, blocks) = tree(&extents, &places, 12, 7);
            assert_eq!(blocks.len(), places.len(), "{many}");
            assert!(blocks.iter().all(|block| block.len() == BLOCK));
            assert!(root[2] <= 4 && root[..2] == [0x0a, 0xf3], "{many}");
        }
    }

    #[test]
    fn an_extent_is_no_longer_than_it_can_be() {
        let pieces = split(&[Extent { logical: 5, physical: 9, blocks: LONGEST + 1 }]);
        assert_eq!(pieces[1], Extent { logical: 5 + LONGEST, physical: 9 + LONGEST, blocks: 1 });
    }
}
