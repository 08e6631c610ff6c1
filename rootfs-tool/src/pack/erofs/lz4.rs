//! LZ4's block format (doc/lz4_Block_format.md of lz4), as much input as fits into a block: sequences of literals and one
//! match, the last one without a match. A match may begin 12 bytes before the end at the latest, and the last 5 bytes are literals.

/// The shortest match.
const MIN_MATCH: usize = 4;
/// How far back a match may reach.
const WINDOW: usize = 65535;
/// Bytes at the end in which no match begins.
const NO_MATCH: usize = 12;
/// Bytes at the end that are literals.
const LITERALS: usize = 5;
/// Of a hash of four bytes.
const HASH_BITS: u32 = 15;
/// No position.
const NONE: u32 = u32::MAX;
/// Matches that are looked at for one position.
const DEPTH: usize = 32;
/// A match of this length is taken without looking for a better one inside of it.
const ENOUGH: usize = 32;
/// A match that is longer than this is taken for the longest from the byte after its begin on as well.
const LONG: usize = 8;
/// How long before a block's end the last match may end, at most: earlier ones are not looked at.
const NEAR: usize = 1024;

/// An encoder for independent blocks of one piece of input.
pub(super) struct Lz4 {
    /// Look for the smallest, rather than take what is found first.
    thorough: bool,
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

/// Bytes that follow a token for a length whose field holds less than `field`.
fn extra(length: usize, field: usize) -> usize {
    if length < field { 0 } else { (length - field) / 255 + 1 }
}

impl Lz4 {
    pub(super) fn new(thorough: bool) -> Self {
        Self { thorough, heads: vec![NONE; 1 << HASH_BITS], chain: Vec::new(), paths: Vec::new() }
    }

    fn hash(input: &[u8], at: usize) -> usize {
        let word = u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
        (word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize
    }

    /// Begin with a piece of input.
    pub(super) fn start(&mut self, input: &[u8]) {
        self.heads.fill(NONE);
        self.chain.clear();
        if self.thorough {
            // All positions, once: a block that begins anew sees those before it as well.
            for at in 0..input.len().saturating_sub(NO_MATCH - 1) {
                let head = &mut self.heads[Self::hash(input, at)];
                self.chain.push(std::mem::replace(head, at as u32));
            }
        }
    }

    /// Encode from `from` on, into `out`, which is emptied first and gets at most `room` bytes: how much of the input that was.
    pub(super) fn block(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
        out.clear();
        match self.thorough {
            true => self.smallest(input, from, room, out),
            false => self.greedy(input, from, room, out),
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
    fn smallest(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
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

    /// Take the first match that is found, the later quicker where none is.
    fn greedy(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
        let (mut anchor, mut at, mut missed) = (from, from, 0);
        while at + NO_MATCH <= input.len() {
            let head = &mut self.heads[Self::hash(input, at)];
            let candidate = std::mem::replace(head, at as u32) as usize;
            let fits = candidate >= from && candidate < at && at - candidate <= WINDOW;
            let end = (input.len() - LITERALS).min(at + MIN_MATCH + 14 + 255 * room);
            let mut length = match fits {
                true => common(&input[candidate..], &input[at..end]),
                false => 0,
            };
            if length < MIN_MATCH {
                missed += 1;
                at += 1 + (missed >> 6);
                continue;
            }
            missed = 0;
            let run = at - anchor;
            // Behind it come a token and the last literals at least.
            let used = out.len() + 3 + run + extra(run, 15) + 1 + LITERALS + 3;
            if used > room {
                break;
            }
            length = length.min(MIN_MATCH + 14 + 255 * (room - used));
            sequence(out, &input[anchor..at], length, at - candidate);
            at += length;
            anchor = at;
        }
        let left = input.len() - anchor;
        let mut more = (room - out.len() - 1).min(left);
        while out.len() + 1 + more + extra(more, 15) > room {
            more -= 1;
        }
        sequence(out, &input[anchor..anchor + more], 0, 0);
        anchor + more - from
    }
}

/// How many bytes both have in common at their begin.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return same + differ.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    while same < a.len() && same < b.len() && a[same] == b[same] {
        same += 1;
    }
    same
}

/// One sequence; the last one when `length` is 0.
fn sequence(out: &mut Vec<u8>, literals: &[u8], length: usize, offset: usize) {
    let rest = length.saturating_sub(MIN_MATCH);
    out.push((literals.len().min(15) << 4 | rest.min(15)) as u8);
    long(out, literals.len());
    out.extend_from_slice(literals);
    if length > 0 {
        out.extend_from_slice(&(offset as u16).to_le_bytes());
        long(out, rest);
    }
}

/// What a token's field has no room for.
fn long(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(15) else { return };
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the format says, and nothing more.
    fn decode(mut block: &[u8]) -> Vec<u8> {
        fn long(block: &mut &[u8], field: usize) -> usize {
            let mut length = field;
            while length >= 15 {
                let byte = block[0];
                *block = &block[1..];
                length += usize::from(byte);
                if byte < 255 {
                    break;
                }
            }
            length
        }
        let mut out = Vec::new();
        loop {
            let token = usize::from(block[0]);
            block = &block[1..];
            let run = long(&mut block, token >> 4);
            out.extend_from_slice(&block[..run]);
            block = &block[run..];
            if block.is_empty() {
                return out;
            }
            let offset = usize::from(u16::from_le_bytes([block[0], block[1]]));
            block = &block[2..];
            let length = long(&mut block, token & 15) + MIN_MATCH;
            assert!(offset > 0 && offset <= out.len());
            (0..length).for_each(|_| out.push(out[out.len() - offset]));
        }
    }

    #[test]
    fn what_is_encoded_block_by_block_is_the_input() {
        let mut noise = 1u32;
        let mut random = move || {
            noise = noise.wrapping_mul(1_103_515_245).wrapping_add(12345);
            (noise >> 16) as u8
        };
        let text: Vec<u8> = (0..30000).map(|n| b"lazy dogs jump "[(n * n / 31) % 15]).collect();
        let mixed: Vec<u8> = (0..40000).map(|n| if n % 900 < 500 { b'x' } else { random() }).collect();
        let noise: Vec<u8> = (0..20000).map(|_| random()).collect();
        for input in [vec![], vec![7], vec![0; 12], vec![0; 13], vec![0; 300_000], text, mixed, noise] {
            for (thorough, room) in [(true, 4096), (false, 4096), (true, 64), (false, 64)] {
                let mut lz4 = Lz4::new(thorough);
                lz4.start(&input);
                let (mut out, mut from) = (Vec::new(), 0);
                while from < input.len() {
                    let taken = lz4.block(&input, from, room, &mut out);
                    assert!(out.len() <= room && taken > 0, "{} of {room}, {taken} taken", out.len());
                    assert!(decode(&out) == input[from..from + taken], "{thorough} {room} {from}");
                    from += taken;
                }
            }
        }
    }
}
