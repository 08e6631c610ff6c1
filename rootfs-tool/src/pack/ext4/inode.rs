//! Inodes: 256 bytes, with nanoseconds and with years until 2446.

use coracle_store::layer::pack::Meta;

use super::geometry::INODE;
use crate::pack::crc32c::crc32c;
use crate::pack::limits;

/// Bytes of an inode's fields; what is behind them is for extended attributes.
pub(super) const FIELDS: usize = 160;
/// The seconds that an inode's times can have: 32 bits with sign, and two more for later epochs.
pub(super) const TIMES: std::ops::RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - (1 << 31) - 1;
/// More links than this, and a directory says 1: nobody counts them.
pub(super) const MOST_LINKS: u32 = 65_000;
/// Its blocks are told by an extent tree.
pub(super) const EXTENTS: u32 = 0x8_0000;
/// It is a directory with an index.
pub(super) const INDEX: u32 = 0x1000;

/// An inode, but for its checksum.
pub(super) struct Inode<'a> {
    pub(super) meta: &'a Meta,
    /// The kind of file, as S_IFMT has it.
    pub(super) kind: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Sectors of 512 bytes that it takes in all.
    pub(super) sectors: u64,
    pub(super) flags: u32,
    /// The extent tree's root, a short link's target, a device's number.
    pub(super) block: [u8; 60],
    /// Extended attributes behind the fields.
    pub(super) xattrs: &'a [u8],
    /// The block with more of them, or 0.
    pub(super) xattr_block: u64,
}

impl Inode<'_> {
    /// The bytes of the inode with this number.
    pub(super) fn encode(&self, number: u32, seed: u32) -> [u8; INODE] {
        let mut out = [0; INODE];
        let mut set = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let low = |n: u32| (n as u16).to_le_bytes();
        let high = |n: u32| ((n >> 16) as u16).to_le_bytes();
        let Meta { mode, uid, gid, mtime: (seconds, nanoseconds), .. } = self.meta;
        set(0x00, &low(self.kind | mode & 0o7777));
        set(0x02, &low(*uid));
        set(0x04, &(self.size as u32).to_le_bytes());
        // Times of access, change and modification; and after the first 128 bytes what is more of them, and the birth.
        let epoch = (seconds - i64::from(*seconds as i32)) >> 32;
        let more = (nanoseconds << 2 | epoch as u32 & 3).to_le_bytes();
        for at in [0x08, 0x0c, 0x10, 0x90] {
            set(at, &(*seconds as u32).to_le_bytes());
        }
        for at in [0x84, 0x88, 0x8c, 0x94] {
            set(at, &more);
        }
        set(0x18, &low(*gid));
        set(0x1a, &low(self.links));
        set(0x1c, &(self.sectors as u32).to_le_bytes());
        set(0x20, &self.flags.to_le_bytes());
        set(0x28, &self.block);
        set(0x68, &(self.xattr_block as u32).to_le_bytes());
        set(0x6c, &((self.size >> 32) as u32).to_le_bytes());
        set(0x74, &((self.sectors >> 32) as u16).to_le_bytes());
        set(0x76, &((self.xattr_block >> 32) as u16).to_le_bytes());
        set(0x78, &high(*uid));
        set(0x7a, &high(*gid));
        set(0x80, &((FIELDS - 128) as u16).to_le_bytes());
        set(FIELDS, self.xattrs);
        let sum = crc32c(crc32c(crc32c(seed, &number.to_le_bytes()), &[0; 4]), &out);
        out[0x7c..0x7e].copy_from_slice(&low(sum));
        out[0x82..0x84].copy_from_slice(&high(sum));
        out
    }
}

/// A device's number, in the place of blocks: as it was before Linux 2.6 where that can hold it.
pub(super) fn device(major: u32, minor: u32) -> [u8; 60] {
    let mut block = [0; 60];
    if major < 256 && minor < 256 {
        block[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        block[4..8].copy_from_slice(&limits::device(major, minor).to_le_bytes());
    }
    block
}
