//! The area of inodes: what is not longer than a block lies in one, where there is room, the tightest first.

use super::BLOCK;

/// Inodes begin at multiples of this, which are their numbers.
pub(super) const SLOT: usize = 32;
const SLOTS: usize = BLOCK / SLOT;

/// What is free.
pub(super) struct Area {
    /// Blocks by how many slots are free at their ends.
    open: Vec<Vec<u64>>,
    /// How many blocks there are.
    pub(super) blocks: u64,
}

impl Area {
    pub(super) fn new() -> Self {
        Self { open: vec![Vec::new(); SLOTS + 1], blocks: 0 }
    }

    /// Room for so many bytes: the number of its first slot.
    pub(super) fn take(&mut self, bytes: usize) -> u64 {
        let slots = bytes.div_ceil(SLOT);
        let tightest = (slots..SLOTS).find(|free| !self.open[*free].is_empty());
        if let Some(free) = tightest
            && let Some(block) = self.open[free].pop()
        {
            self.open[free - slots].push(block);
            return block * SLOTS as u64 + (SLOTS - free) as u64;
        }
        let first = self.blocks * SLOTS as u64;
        self.blocks += slots.div_ceil(SLOTS) as u64;
        let free = slots.next_multiple_of(SLOTS) - slots;
        self.open[free].push(self.blocks - 1);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_a_block_begins_and_ends_in_it_and_nothing_overlaps() {
        let mut area = Area::new();
        let mut taken = std::collections::BTreeSet::new();
        for n in 0..3000 {
            let bytes = [32, 64, 3000, 96, 1500, 9000, 4096, 2000][n % 8] + n % 7;
            let slot = area.take(bytes);
            let end = slot + bytes.div_ceil(SLOT) as u64;
            assert!((slot..end).all(|slot| taken.insert(slot)), "{bytes} bytes at {slot}");
            assert!(end <= area.blocks * SLOTS as u64);
            assert!(bytes > BLOCK || slot / SLOTS as u64 == (end - 1) / SLOTS as u64);
        }
    }
}
