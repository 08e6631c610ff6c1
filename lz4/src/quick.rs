//! The first match that is found is taken, and what seems to have none is passed over the more quickly the longer it lasts.

use super::block::{Block, Match};
use super::{MIN_MATCH, NO_MATCH, WINDOW, common, word};

/// Of a hash of five bytes. The table stays in the processor's first cache.
const HASH_BITS: u32 = 12;
/// After 2^this positions without a match the next ones are passed over by a byte more.
const PATIENCE: u32 = 6;

/// The last position with a hash. It begins empty for each block: what is before the block would be loaded for nothing.
pub(super) struct Quick(Box<[u32; 1 << HASH_BITS]>);

impl Quick {
    pub(super) fn new() -> Self {
        Self(Box::new([0; 1 << HASH_BITS]))
    }

    /// How much of the input is taken, and how long the block is.
    pub(super) fn block(&mut self, input: &[u8], room: usize, out: &mut Vec<u8>) -> (usize, usize) {
        let heads = &mut *self.0;
        heads.fill(0);
        let mut block = Block::new(input, 0, room, out);
        let mut at = 0;
        'sequences: while let Some(last) = block.last() {
            let mut tries = 1 << PATIENCE;
            let mut candidate = loop {
                if at > last {
                    break 'sequences;
                }
                let candidate = std::mem::replace(&mut heads[hash(input, at)], at as u32) as usize;
                if at.wrapping_sub(candidate).wrapping_sub(1) < WINDOW
                    && word(input, candidate) == word(input, at)
                {
                    break candidate;
                }
                at += tries >> PATIENCE;
                tries += 1;
            };
            let known = at + MIN_MATCH;
            while at > block.anchor && candidate > 0 && input[at - 1] == input[candidate - 1] {
                (at, candidate) = (at - 1, candidate - 1);
            }
            let Some(most) = block.most(at) else { break };
            let end = match known < most {
                true => known + common(&input[candidate + (known - at)..], &input[known..most]),
                false => most,
            };
            block.put(&Match { begin: at, end, offset: at - candidate });
            at = end;
            if at + NO_MATCH <= input.len() {
                heads[hash(input, at - 2)] = at as u32 - 2;
            }
        }
        block.finish()
    }
}

#[inline(always)]
fn hash(input: &[u8], at: usize) -> usize {
    let mut word = [0; 8];
    word.copy_from_slice(&input[at..at + 8]);
    ((u64::from_le_bytes(word) << 24).wrapping_mul(889_523_592_379) >> (64 - HASH_BITS)) as usize
}
