//! Of all ways to encode a block, the one that takes most of the input along: the cheapest way to each position is noted, by a
//! literal or by a match, and the block ends where the room does.

use super::{LITERALS, MIN_MATCH, NO_MATCH, NONE, WINDOW, common, extra, sequence};

/// Of a hash of four bytes.
const HASH_BITS: u32 = 15;
/// Matches that are looked at for one position.
const DEPTH: usize = 32;
/// A match of this length is taken without looking for a better one inside of it.
const ENOUGH: usize = 32;
/// A match that is longer than this is taken for the longest from the byte after its begin on as well.
const LONG: usize = 8;
/// How long before a block's end the last match may end, at most: earlier ones are not looked at.
const NEAR: usize = 1024;

/// What is known of the piece.
pub(super) struct Smallest {
    /// The last position with a hash.
    heads: Vec<u32>,
    /// The position before with the same hash, for each.
    chain: Vec<u32>,
    /// What leads to a position, from the begin of a block.
    paths: Vec<Path>,
}

/// The cheapest way to a position.
#[derive(Clone, Copy)]
struct Path {
    /// Bytes that it takes.
    cost: u32,
    /// Literals since the last match.
    run: u32,
    /// The match that ends here; none when 0.
    length: u32,
    offset: u32,
}

const UNREACHED: Path = Path { cost: u32::MAX, run: 0, length: 0, offset: 0 };

impl Smallest {
    pub(super) fn new() -> Self {
        Self { heads: vec![NONE; 1 << HASH_BITS], chain: Vec::new(), paths: Vec::new() }
    }

    /// Chain all positions, once: a block that begins anew sees those before it as well.
    pub(super) fn start(&mut self, input: &[u8]) {
        self.heads.fill(NONE);
        self.chain.clear();
        self.chain.reserve(input.len());
        for (at, word) in
            input.windows(MIN_MATCH).take((input.len() + 1).saturating_sub(NO_MATCH)).enumerate()
        {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let hash = word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS);
            self.chain.push(std::mem::replace(&mut self.heads[hash as usize], at as u32));
        }
    }

    /// The longest match for a position, of those that do not reach behind `from`.
    fn longest(&self, input: &[u8], from: usize, at: usize, end: usize) -> (usize, usize) {
        let (mut length, mut offset) = (MIN_MATCH - 1, 0);
        let mut candidate = self.chain[at] as usize;
        let ours = &input[at..end];
        for _ in 0..DEPTH {
            if candidate == NONE as usize || candidate < from || at - candidate > WINDOW {
                break;
            }
            // The byte that would make it longer is looked at first.
            if ours.len() > length && input[candidate + length] == ours[length] {
                let same = common(&input[candidate..], ours);
                if same > length {
                    (length, offset) = (same, at - candidate);
                    if same == ours.len() {
                        break;
                    }
                }
            }
            candidate = self.chain[candidate] as usize;
        }
        if offset == 0 { (0, 0) } else { (length, offset) }
    }

    /// Of all ways to encode, find that which takes most of the input along.
    pub(super) fn block(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
        let left = input.len() - from;
        // The token of the last literals.
        let most = room as u32 - 1;
        let mut paths = std::mem::take(&mut self.paths);
        paths.clear();
        paths.push(Path { cost: 0, ..UNREACHED });
        // The last match that was found: its length, its offset, and the position behind its begin.
        let mut found = (0, 0, 0);
        let mut at = 0;
        while at < paths.len() && at < left {
            let here = paths[at];
            if here.cost > most {
                at += 1;
                continue;
            }
            if left - at >= NO_MATCH {
                // What its length takes is not more than there is.
                let longest = MIN_MATCH + 14 + 255 * (most - here.cost) as usize;
                let end = (input.len() - LITERALS).min(from + at + longest);
                // The rest of a long one that began a byte before is not looked for again.
                found = match found {
                    (length, offset, end) if length > LONG && end == at => (length - 1, offset, at + 1),
                    _ => {
                        let (length, offset) = self.longest(input, from, from + at, end);
                        (length, offset, at + 1)
                    }
                };
                let (length, offset, _) = found;
                if length >= MIN_MATCH {
                    if paths.len() <= at + length {
                        paths.resize(at + length + 1, UNREACHED);
                    }
                    let shortest = if length >= ENOUGH { length } else { MIN_MATCH };
                    for (length, path) in (shortest..).zip(&mut paths[at + shortest..=at + length]) {
                        let cost = match length < ENOUGH {
                            // One byte more, of those that are tried one by one.
                            true => here.cost + 3 + u32::from(length >= MIN_MATCH + 15),
                            false => here.cost + 3 + extra(length - MIN_MATCH, 15) as u32,
                        };
                        if cost < path.cost {
                            *path = Path { cost, run: 0, length: length as u32, offset: offset as u32 };
                        }
                    }
                    if length >= ENOUGH {
                        at += length;
                        continue;
                    }
                }
            }
            at += 1;
            if paths.len() == at {
                paths.push(UNREACHED);
            }
            let run = here.run + 1;
            let cost = here.cost + 1 + u32::from(run >= 15 && (run - 15).is_multiple_of(255));
            if cost < paths[at].cost {
                paths[at] = Path { cost, run, length: 0, offset: 0 };
            }
        }
        // Where the block ends, and the position after which it has literals alone: as many as fit. The later that
        // is, the more it takes along, but for the last few bytes.
        let (mut best, mut stop) = (0, 0);
        for (at, here) in paths.iter().enumerate().rev() {
            if here.cost > most || at + (most - here.cost) as usize <= best {
                continue;
            }
            let run = here.run as usize;
            let before = extra(run, 15);
            let spare = (most - here.cost) as usize;
            let mut more = spare.min(left - at);
            while more + extra(run + more, 15) - before > spare {
                more -= 1;
            }
            let last = paths[at - run].length as usize;
            let valid = last == 0 || (run + more >= LITERALS && last + run + more >= NO_MATCH);
            if valid && at + more > best {
                (best, stop) = (at + more, at);
            }
            if best == left || best > at + NEAR {
                break;
            }
        }
        // Back from there: the matches.
        let mut matches = Vec::new();
        let mut at = stop;
        while at > 0 {
            let path = paths[at];
            if path.length == 0 {
                at -= path.run as usize;
            } else {
                at -= path.length as usize;
                matches.push((at, path));
            }
        }
        let mut anchor = 0;
        for (at, path) in matches.iter().rev() {
            let literals = &input[from + anchor..from + at];
            sequence(out, literals, path.length as usize, path.offset as usize);
            anchor = at + path.length as usize;
        }
        sequence(out, &input[from + anchor..from + best], 0, 0);
        self.paths = paths;
        best
    }
}
