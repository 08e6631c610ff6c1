//! Where an ext4 file system keeps its tables.
//!
//! ```text
//! group 0       | superblock | descriptors | room for more | bitmaps and inode tables of groups 0 to 15 | data
//! group 1       | superblock | descriptors | room for more | data           (a copy: groups 1, 3^n, 5^n, 7^n)
//! group 2       | data
//! group 16      | bitmaps and inode tables of groups 16 to 31 | data
//! ```
//!
//! So in every group what is reserved stands at its beginning, and everything after it is for data.

/// Bytes in a block.
pub(super) const BLOCK: usize = 4096;
/// Blocks in a group: as many as a bitmap of one block has bits.
pub(super) const GROUP: u64 = 8 * BLOCK as u64;
/// Bytes of an inode.
pub(super) const INODE: usize = 256;
/// Bytes of a group's descriptor.
pub(super) const DESCRIPTOR: usize = 64;
/// Groups whose tables stand together (2 to the power of 4).
pub(super) const FLEX: u32 = 16;
/// The first block that a file system may not have: so that each is numbered by 32 bits.
pub(super) const MOST_BLOCKS: u64 = u32::MAX as u64;
/// Inodes of a group, as mke2fs has them by default: one for 16 KiB.
const INODES: u32 = (GROUP as usize * BLOCK / 16384) as u32;
/// More than this and the tables of 16 groups would not fit into one.
const MOST_INODES: u32 = 3 * INODES;
const DESCRIPTORS_A_BLOCK: u32 = (BLOCK / DESCRIPTOR) as u32;
/// Groups that there is room to grow to without moving anything, whatever the size: 256 GiB.
const ROOM: u64 = 2048;

/// The sizes of a file system's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u32,
    pub(super) inodes_per_group: u32,
    /// Blocks of descriptors.
    pub(super) descriptors: u32,
    /// Blocks that are kept for more descriptors.
    pub(super) room: u32,
}

impl Geometry {
    /// Of a file system of at most so many blocks with at least so many inodes; none where the inodes have no room in it.
    /// A last group that would hold little but tables is left away.
    pub(super) fn new(blocks: u64, inodes: u64) -> Option<Self> {
        let groups = blocks.div_ceil(GROUP) as u32;
        // Of each group 8 or more, in whole blocks.
        let wanted = inodes.div_ceil(u64::from(groups).max(1)).next_multiple_of(16).max(INODES.into());
        if wanted > MOST_INODES.into() || groups == 0 {
            return None;
        }
        let descriptors = groups.div_ceil(DESCRIPTORS_A_BLOCK);
        // Growth to 1,024 times the size, as mke2fs leaves room for it, and for as much as one block of pointers can tell of.
        let most = (u64::from(groups) * 1024).clamp(ROOM, MOST_BLOCKS / GROUP);
        let room =
            (most as u32).div_ceil(DESCRIPTORS_A_BLOCK).saturating_sub(descriptors).min(BLOCK as u32 / 4);
        let new = Self { blocks, groups, inodes_per_group: wanted as u32, descriptors, room };
        let last = groups - 1;
        let in_last = blocks - u64::from(last) * GROUP;
        if in_last < new.reserved(last) + 64 {
            return Self::new(u64::from(last) * GROUP, inodes);
        }
        Some(new)
    }

    /// So many blocks are too few for so many inodes.
    pub(super) fn too_few(inodes: u64) -> u64 {
        (inodes.div_ceil(MOST_INODES.into()) - 1) * GROUP
    }

    /// Does a group begin with a copy of the superblock?
    pub(super) fn has_super(group: u32) -> bool {
        let power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }

    /// Blocks of the superblock and the descriptors at a group's beginning.
    fn head(&self, group: u32) -> u64 {
        if Self::has_super(group) { 1 + u64::from(self.descriptors) + u64::from(self.room) } else { 0 }
    }

    /// Blocks at a group's beginning that are for no data.
    pub(super) fn reserved(&self, group: u32) -> u64 {
        let tables = match group.is_multiple_of(FLEX) {
            true => u64::from(self.together(group)) * (2 + self.table_blocks()),
            false => 0,
        };
        self.head(group) + tables
    }

    /// Groups whose tables stand at the beginning of this one.
    fn together(&self, group: u32) -> u32 {
        self.groups.saturating_sub(group).min(FLEX)
    }

    /// Blocks of a group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        (self.inodes_per_group as usize * INODE / BLOCK) as u64
    }

    /// Where a group's block bitmap, inode bitmap and inode table are.
    pub(super) fn tables(&self, group: u32) -> [u64; 3] {
        let first = group - group % FLEX;
        let (n, at) = (u64::from(self.together(first)), u64::from(group % FLEX));
        let start = u64::from(first) * GROUP + self.head(first);
        [start + at, start + n + at, start + 2 * n + at * self.table_blocks()]
    }

    /// Blocks of a group: fewer in the last one.
    pub(super) fn size(&self, group: u32) -> u64 {
        (self.blocks - u64::from(group) * GROUP).min(GROUP)
    }

    /// Of all inodes.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(self.groups) * u64::from(self.inodes_per_group)
    }

    /// The byte at which an inode is.
    pub(super) fn inode_at(&self, number: u32) -> u64 {
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        self.tables(group)[2] * BLOCK as u64 + u64::from(index) * INODE as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock_are_in_the_groups_of_sparse_super() {
        let with: Vec<u32> = (0..130).filter(|group| Geometry::has_super(*group)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn a_last_group_of_tables_alone_is_left_away() {
        let whole = Geometry::new(GROUP, 20).expect("one group");
        assert_eq!(Geometry::new(GROUP + 40, 20).expect("one group and a bit").blocks, GROUP);
        assert_eq!(Geometry::new(GROUP + 4000, 20).expect("two groups").groups, whole.groups + 1);
    }

    #[test]
    fn tables_never_reach_into_the_next_group() {
        for inodes in [20, 1 << 20, 1 << 30] {
            let geometry = Geometry::new(MOST_BLOCKS, inodes).expect("room for the inodes");
            for group in 0..geometry.groups {
                assert!(geometry.reserved(group) < geometry.size(group), "{group} of {geometry:?}");
            }
        }
        assert_eq!(Geometry::new(GROUP, 30_000), None);
        assert_eq!(Geometry::new(Geometry::too_few(30_000), 30_000), None);
        assert!(Geometry::new(Geometry::too_few(30_000) + GROUP, 30_000).is_some());
    }
}
