//! The superblock, and the descriptors of groups behind it; both have copies.

use super::geometry::{BLOCK, DESCRIPTOR, FLEX, GROUP, Geometry, INODE};
use super::inode::FIELDS;
use crate::pack::crc32c::crc32c;
use crate::pack::uuid::Uuid;

/// A journal, extended attributes, room for more descriptors, indexes of directories.
const COMPATIBLE: u32 = 0x04 | 0x08 | 0x10 | 0x20;
/// Kinds in directories, extents, numbers of 64 bits, tables of several groups together.
const INCOMPATIBLE: u32 = 0x02 | 0x40 | 0x80 | 0x200;
/// Copies in some groups alone, files above 2 GiB and above 2 TiB, uncounted links of directories, larger inodes,
/// checksums.
const READ_ONLY: u32 = 0x01 | 0x02 | 0x08 | 0x20 | 0x40 | 0x400;
/// The first inode that is nobody's.
pub(super) const FIRST_INODE: u32 = 11;
/// The journal's.
pub(super) const JOURNAL: u32 = 8;

/// What a superblock tells that the geometry does not.
pub(super) struct Superblock<'a> {
    pub(super) uuid: Uuid,
    pub(super) label: &'a str,
    pub(super) hash_seed: [u32; 4],
    /// When it was made, in seconds after 1970.
    pub(super) time: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    /// The journal's extent tree and its size, kept here as well.
    pub(super) journal: [u8; 60],
    pub(super) journal_size: u64,
}

impl Superblock<'_> {
    /// The bytes of the copy in a group.
    pub(super) fn encode(&self, geometry: &Geometry, group: u32) -> [u8; 1024] {
        let mut out = [0; 1024];
        let mut set = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let low = |n: u64| (n as u32).to_le_bytes();
        let high = |n: u64| ((n >> 32) as u32).to_le_bytes();
        let words = [
            (0x00, geometry.inodes()),
            (0x04, geometry.blocks),
            (0x0c, self.free_blocks),
            (0x10, self.free_inodes),
            // Blocks and clusters are 2 to the power of 10 and 2.
            (0x18, 2),
            (0x1c, 2),
            (0x20, GROUP),
            (0x24, GROUP),
            (0x28, geometry.inodes_per_group.into()),
            (0x30, self.time),
            // No number of mounts makes a check due.
            (0x34, 0xffff_0000),
            (0x40, self.time),
            (0x4c, 1),
            (0x54, FIRST_INODE.into()),
            (0x58, INODE as u64 | u64::from(group & 0xffff) << 16),
            (0x5c, COMPATIBLE.into()),
            (0x60, INCOMPATIBLE.into()),
            (0x64, READ_ONLY.into()),
            (0xe0, JOURNAL.into()),
            // Half MD4; the journal's place is kept in 0x10c; the size of a descriptor.
            (0xfc, 0x0000_0101 | (DESCRIPTOR as u64) << 16),
            // Mounted with user_xattr and acl.
            (0x100, 0x0c),
            (0x108, self.time),
            (0x148, self.journal_size >> 32),
            (0x14c, self.journal_size),
            // Hashes are of bytes without sign.
            (0x160, 2),
        ];
        for (at, n) in words {
            set(at, &low(n));
        }
        // The magic, clean, and go on after an error.
        set(0x38, &[0x53, 0xef, 1, 0, 1, 0]);
        set(0x68, &self.uuid.0);
        set(0x78, self.label.as_bytes());
        set(0xce, &(geometry.room as u16).to_le_bytes());
        for (n, word) in self.hash_seed.iter().enumerate() {
            set(0xec + 4 * n, &word.to_le_bytes());
        }
        set(0x10c, &self.journal);
        set(0x150, &high(geometry.blocks));
        set(0x158, &high(self.free_blocks));
        // Inodes have these fields, and new ones want them.
        let extra = (FIELDS as u16 - 128).to_le_bytes();
        set(0x15c, &extra);
        set(0x15e, &extra);
        // The logarithm of the groups together, and CRC-32C.
        set(0x174, &[FLEX.ilog2() as u8, 1]);
        // The bits of the times above 32: written, made, checked.
        let later = (self.time >> 32) as u8;
        set(0x274, &[later]);
        set(0x276, &[later, later]);
        let sum = crc32c(!0, &out[..0x3fc]);
        out[0x3fc..].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

/// What a group's descriptor tells.
pub(super) struct Group {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Inodes at the table's end that were never used.
    pub(super) unused_inodes: u32,
    /// The bitmaps, where they say more than what follows from the geometry.
    pub(super) block_bitmap: Option<Vec<u8>>,
    pub(super) inode_bitmap: Option<Vec<u8>>,
}

impl Group {
    /// The bytes of the descriptor of the group with this number.
    pub(super) fn encode(&self, geometry: &Geometry, group: u32, seed: u32) -> [u8; DESCRIPTOR] {
        let mut out = [0; DESCRIPTOR];
        for (n, at) in geometry.tables(group).into_iter().enumerate() {
            out[4 * n..4 * n + 4].copy_from_slice(&(at as u32).to_le_bytes());
            out[0x20 + 4 * n..0x24 + 4 * n].copy_from_slice(&((at >> 32) as u32).to_le_bytes());
        }
        let mut set = |at: usize, n: u32| out[at..at + 2].copy_from_slice(&(n as u16).to_le_bytes());
        set(0x0c, self.free_blocks as u32);
        set(0x0e, self.free_inodes);
        set(0x10, self.directories);
        // The table is all zero behind what is used; bitmaps are there or not.
        let uninit = |bitmap: &Option<Vec<u8>>, flag| if bitmap.is_none() { flag } else { 0 };
        set(0x12, 4 | uninit(&self.inode_bitmap, 1) | uninit(&self.block_bitmap, 2));
        set(0x1c, self.unused_inodes);
        if let Some(bitmap) = &self.block_bitmap {
            let sum = crc32c(seed, bitmap);
            set(0x18, sum);
            set(0x38, sum >> 16);
        }
        if let Some(bitmap) = &self.inode_bitmap {
            let sum = crc32c(seed, &bitmap[..geometry.inodes_per_group as usize / 8]);
            set(0x1a, sum);
            set(0x3a, sum >> 16);
        }
        let sum = crc32c(crc32c(seed, &group.to_le_bytes()), &out);
        out[0x1e..0x20].copy_from_slice(&(sum as u16).to_le_bytes());
        out
    }
}

/// A bitmap of one block whose bits from `from` to before `to` are not set, and all others are.
pub(super) fn bitmap(from: u64, to: u64) -> Vec<u8> {
    let mut out = vec![0xff; BLOCK];
    for bit in from..to {
        out[bit as usize / 8] &= !(1 << (bit % 8));
    }
    out
}
