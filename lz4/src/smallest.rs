//! The longest match is taken, unless a longer one overlaps its end: then as much of it as is before that.

use super::block::{Block, Match};
use super::{LITERALS, MIN_MATCH, NO_MATCH, WINDOW, common, word};

/// Of a hash of four bytes.
const HASH_BITS: u32 = 15;
/// Matches that are looked at for one position.
const DEPTH: usize = 64;

/// What is known of the piece.
pub(super) struct Smallest {
    /// The last position with a hash.
    heads: Box<[u32; 1 << HASH_BITS]>,
    /// How far before each position the one with the same hash is, of as many positions as a match reaches.
    chain: Box<[u16; WINDOW + 1]>,
    /// The first position that is in neither.
    next: usize,
}

impl Smallest {
    pub(super) fn new() -> Self {
        Self { heads: Box::new([0; 1 << HASH_BITS]), chain: Box::new([0; WINDOW + 1]), next: 0 }
    }

    pub(super) fn start(&mut self) {
        self.heads.fill(0);
        self.next = 0;
    }

    /// How much of the input from `from` on is taken, and how long the block is.
    pub(super) fn block(
        &mut self,
        input: &[u8],
        from: usize,
        room: usize,
        out: &mut Vec<u8>,
    ) -> (usize, usize) {
        let mut block = Block::new(input, from, room, out);
        let mut at = from;
        'sequences: while let Some(last) = block.last()
            && at <= last
        {
            let place = Place { from, low: at, at, longest: MIN_MATCH - 1 };
            let Some(mut first) = self.longest(input, &place) else {
                at += 1;
                continue;
            };
            while first.end + NO_MATCH - 2 <= input.len() {
                let longest = first.end - first.begin;
                let place = Place { from, low: first.begin, at: first.end - 2, longest };
                let Some(longer) = self.longest(input, &place) else { break };
                // What is left of the first one may be too short to be told.
                if longer.begin - first.begin >= MIN_MATCH {
                    first.end = first.end.min(longer.begin);
                    if !put(&mut block, &first) {
                        break 'sequences;
                    }
                }
                first = longer;
            }
            if !put(&mut block, &first) {
                break;
            }
            at = first.end;
        }
        block.finish()
    }

    /// Chain all positions up to this one, which is so far from the input's end that it has a hash.
    #[inline(always)]
    fn learn(&mut self, input: &[u8], at: usize) {
        for next in self.next..=at {
            let hash = u32::from_le_bytes(word(input, next)).wrapping_mul(2_654_435_761) >> (32 - HASH_BITS);
            let before = std::mem::replace(&mut self.heads[hash as usize], next as u32) as usize;
            self.chain[next & WINDOW] = (next - before).min(WINDOW) as u16;
        }
        self.next = self.next.max(at + 1);
    }

    /// The longest match over a position.
    #[inline(always)]
    fn longest(&mut self, input: &[u8], place: &Place) -> Option<Match> {
        let Place { from, low, at, mut longest } = *place;
        self.learn(input, at);
        let end = input.len() - LITERALS;
        let ours = word(input, at);
        let (mut found, mut candidate) = (None, at);
        for _ in 0..DEPTH {
            let back = usize::from(self.chain[candidate & WINDOW]);
            if back == 0 || candidate < from + back || at + back - candidate > WINDOW {
                break;
            }
            candidate -= back;
            // The byte that would make it longer is looked at before all the others.
            let more = low + longest;
            if word(input, candidate) != ours
                || (at < more && more < end && input[more - (at - candidate)] != input[more])
            {
                continue;
            }
            let (mut begin, stop) = (at, at + MIN_MATCH);
            let stop = stop + common(&input[candidate + MIN_MATCH..], &input[stop..end]);
            let offset = at - candidate;
            while begin > low && begin - offset > from && input[begin - 1] == input[begin - 1 - offset] {
                begin -= 1;
            }
            if stop - begin > longest {
                longest = stop - begin;
                found = Some(Match { begin, end: stop, offset });
            }
            if stop == end {
                break;
            }
        }
        found
    }
}

/// Where a match is looked for.
struct Place {
    /// What it repeats begins here at the earliest.
    from: usize,
    /// It begins here at the earliest,
    low: usize,
    /// and has this position in it.
    at: usize,
    /// It is longer than this.
    longest: usize,
}

/// Whether there was room for the whole of it. Otherwise it is as long as there is.
#[inline(always)]
fn put(block: &mut Block<'_>, found: &Match) -> bool {
    let Some(most) = block.most(found.begin) else { return false };
    block.put(&Match { end: found.end.min(most), ..*found });
    found.end <= most
}
