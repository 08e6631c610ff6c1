//! The first match that is found is taken, and what seems to have none is passed over the more quickly the longer it lasts.

use super::{LITERALS, MIN_MATCH, NO_MATCH, NONE, WINDOW, common, extra, sequence};

/// Of a hash of five bytes. The table stays in the processor's first cache.
const HASH_BITS: u32 = 12;
/// After 2^this positions without a match the next ones are passed over by a byte more.
const PATIENCE: u32 = 6;
/// What is copied at once, of literals.
const COPY: usize = 16;

/// What is known of the piece.
pub(super) struct Quick {
    /// The last position with a hash.
    heads: Box<[u32; 1 << HASH_BITS]>,
}

impl Quick {
    pub(super) fn new() -> Self {
        Self { heads: Box::new([NONE; 1 << HASH_BITS]) }
    }

    pub(super) fn start(&mut self) {
        self.heads.fill(NONE);
    }

    pub(super) fn block(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
        out.resize(room + COPY, 0);
        let heads = &mut *self.heads;
        let (mut anchor, mut at, mut used) = (from, from, 0);
        'sequences: while input.len() >= NO_MATCH {
            // After this no match begins: it is the end, or the literals before it are too many.
            let last = (input.len() - NO_MATCH).min(anchor + room - used);
            let mut tries = 1 << PATIENCE;
            let mut candidate = loop {
                if at > last {
                    break 'sequences;
                }
                let candidate = std::mem::replace(&mut heads[hash(input, at)], at as u32) as usize;
                let near = at.wrapping_sub(candidate).wrapping_sub(1) < WINDOW;
                if near && candidate >= from && word(input, candidate) == word(input, at) {
                    break candidate;
                }
                at += tries >> PATIENCE;
                tries += 1;
            };
            let found = at;
            while at > anchor && candidate > from && input[at - 1] == input[candidate - 1] {
                (at, candidate) = (at - 1, candidate - 1);
            }
            let run = at - anchor;
            // Behind it come a token and the last literals, so many that it begins 12 bytes before the end.
            let needed = used + 3 + run + extra(run, 15) + 1 + NO_MATCH - MIN_MATCH;
            if needed > room {
                break;
            }
            let known = at + (found - at) + MIN_MATCH;
            let most = (input.len() - LITERALS).min(at + MIN_MATCH + 14 + 255 * (room - needed));
            let end = match known < most {
                true => known + common(&input[candidate + (known - at)..], &input[known..most]),
                false => most,
            };
            used = put(out, used, input, anchor, run, end - at, at - candidate);
            (at, anchor) = (end, end);
            if at + NO_MATCH <= input.len() {
                heads[hash(input, at - 2)] = at as u32 - 2;
            }
        }
        out.truncate(used);
        let left = input.len() - anchor;
        let mut more = (room - used - 1).min(left);
        while used + 1 + more + extra(more, 15) > room {
            more -= 1;
        }
        sequence(out, &input[anchor..anchor + more], 0, 0);
        anchor + more - from
    }
}

#[inline(always)]
fn word(input: &[u8], at: usize) -> [u8; 4] {
    let mut word = [0; 4];
    word.copy_from_slice(&input[at..at + 4]);
    word
}

#[inline(always)]
fn hash(input: &[u8], at: usize) -> usize {
    let mut word = [0; 8];
    word.copy_from_slice(&input[at..at + 8]);
    ((u64::from_le_bytes(word) << 24).wrapping_mul(889_523_592_379) >> (64 - HASH_BITS)) as usize
}

/// One sequence, at `at` of what is encoded: where it ends. Behind it [`COPY`] bytes may be written to as well.
#[inline(always)]
fn put(
    out: &mut [u8],
    at: usize,
    input: &[u8],
    anchor: usize,
    run: usize,
    length: usize,
    offset: usize,
) -> usize {
    let rest = length - MIN_MATCH;
    out[at] = (run.min(15) << 4 | rest.min(15)) as u8;
    let begin = if run < 15 { at + 1 } else { long(out, at + 1, run - 15) };
    let end = begin + run;
    if run <= COPY && anchor + COPY <= input.len() {
        out[begin..begin + COPY].copy_from_slice(&input[anchor..anchor + COPY]);
    } else {
        out[begin..end].copy_from_slice(&input[anchor..anchor + run]);
    }
    out[end..end + 2].copy_from_slice(&(offset as u16).to_le_bytes());
    if rest < 15 { end + 2 } else { long(out, end + 2, rest - 15) }
}

/// What a token's field has no room for, at `at`: where it ends.
fn long(out: &mut [u8], at: usize, rest: usize) -> usize {
    let full = rest / 255;
    out[at..at + full].fill(255);
    out[at + full] = (rest % 255) as u8;
    at + full + 1
}
