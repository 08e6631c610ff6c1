//! One block as it is made: sequences one after the other, in so much room.

use super::{LITERALS, MIN_MATCH, NO_MATCH};

/// What is copied at once, of literals.
const COPY: usize = 16;

/// The begin of a block.
pub(super) struct Block<'a> {
    input: &'a [u8],
    out: &'a mut [u8],
    room: usize,
    /// How much of the room is used.
    used: usize,
    /// Where the literals begin that have no sequence yet.
    pub(super) anchor: usize,
}

/// A match: where it begins and ends, and how far back its like is.
#[derive(Clone, Copy)]
pub(super) struct Match {
    pub(super) begin: usize,
    pub(super) end: usize,
    pub(super) offset: usize,
}

impl<'a> Block<'a> {
    /// An empty one, for what of the input begins at `from`.
    #[inline(always)]
    pub(super) fn new(input: &'a [u8], from: usize, room: usize, out: &'a mut Vec<u8>) -> Self {
        out.resize(room + COPY, 0);
        Self { input, out, room, used: 0, anchor: from }
    }

    /// The last position where a match may begin: behind it is the end, or the literals before it are too many.
    #[inline(always)]
    pub(super) fn last(&self) -> Option<usize> {
        Some(self.input.len().checked_sub(NO_MATCH)?.min(self.anchor + self.room - self.used))
    }

    /// Where a match that begins here ends at the latest, if there is room for one. Behind it come a token and the last literals,
    /// so many that it begins 12 bytes before the end.
    #[inline(always)]
    pub(super) fn most(&self, begin: usize) -> Option<usize> {
        let run = begin - self.anchor;
        let left = self.room.checked_sub(self.used + 3 + run + extra(run) + 1 + NO_MATCH - MIN_MATCH)?;
        Some((self.input.len() - LITERALS).min(begin + MIN_MATCH + 14 + 255 * left))
    }

    /// The literals up to a match, and the match, which is no longer than [`Self::most`].
    #[inline(always)]
    pub(super) fn put(&mut self, found: &Match) {
        let (input, anchor) = (self.input, self.anchor);
        let run = found.begin - anchor;
        let rest = found.end - found.begin - MIN_MATCH;
        let begin = self.token(run, rest);
        let end = begin + run;
        // What is behind the literals is overwritten, or behind the room.
        if run <= COPY && anchor + COPY <= input.len() {
            self.out[begin..begin + COPY].copy_from_slice(&input[anchor..anchor + COPY]);
        } else {
            self.out[begin..end].copy_from_slice(&input[anchor..found.begin]);
        }
        self.out[end..end + 2].copy_from_slice(&(found.offset as u16).to_le_bytes());
        self.used = if rest < 15 { end + 2 } else { self.long(end + 2, rest - 15) };
        self.anchor = found.end;
    }

    /// The end: the last literals, as many as there is room for. Where the input goes on, and how long the block is.
    pub(super) fn finish(mut self) -> (usize, usize) {
        let room = self.room - self.used - 1;
        let mut run = room.min(self.input.len() - self.anchor);
        while run + extra(run) > room {
            run -= 1;
        }
        let begin = self.token(run, 0);
        let end = self.anchor + run;
        self.out[begin..begin + run].copy_from_slice(&self.input[self.anchor..end]);
        (end, begin + run)
    }

    /// A token, and what its literals' length has no room in it: where the literals begin.
    #[inline(always)]
    fn token(&mut self, run: usize, rest: usize) -> usize {
        self.out[self.used] = (run.min(15) << 4 | rest.min(15)) as u8;
        if run < 15 { self.used + 1 } else { self.long(self.used + 1, run - 15) }
    }

    /// What a token's field has no room for, at `at`: where it ends.
    fn long(&mut self, at: usize, rest: usize) -> usize {
        let full = rest / 255;
        self.out[at..at + full].fill(255);
        self.out[at + full] = (rest % 255) as u8;
        at + full + 1
    }
}

/// Bytes that follow a token for so many literals.
#[inline(always)]
fn extra(run: usize) -> usize {
    if run < 15 { 0 } else { (run - 15) / 255 + 1 }
}
