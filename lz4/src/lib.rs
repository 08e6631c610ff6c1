//! LZ4's block format (doc/lz4_Block_format.md of lz4), as much input as fits into a block: sequences of literals and one
//! match, the last one without a match. A match may begin 12 bytes before the end at the latest, and the last 5 bytes are literals.
//!
//! It is a crate of its own to be compiled for speed, in a workspace that is compiled for size. Not here: frames, decoding.

#![forbid(unsafe_code)]

mod block;
mod quick;
mod smallest;

/// The shortest match.
const MIN_MATCH: usize = 4;
/// How far back a match may reach.
const WINDOW: usize = 65535;
/// Bytes at the end in which no match begins.
const NO_MATCH: usize = 12;
/// Bytes at the end that are literals.
const LITERALS: usize = 5;

/// An encoder for independent blocks of one piece of input after the other.
pub struct Encoder(Way);

enum Way {
    Quick(quick::Quick),
    Smallest(smallest::Smallest),
}

impl Encoder {
    /// One that takes what matches it finds first, as LZ4's own default does.
    pub fn quick() -> Self {
        Self(Way::Quick(quick::Quick::new()))
    }

    /// One that looks for the blocks that take most input along: LZ4's high compression.
    pub fn smallest() -> Self {
        Self(Way::Smallest(smallest::Smallest::new()))
    }

    /// Begin with a piece of input of less than 4 GiB.
    pub fn start(&mut self, _input: &[u8]) {
        if let Way::Smallest(smallest) = &mut self.0 {
            smallest.start();
        }
    }

    /// Encode the piece from `from` on, into `out`, of which it takes at most `room` bytes (16 or more): how much of the input that
    /// was.
    pub fn block(&mut self, input: &[u8], from: usize, room: usize, out: &mut Vec<u8>) -> usize {
        let (end, size) = match &mut self.0 {
            Way::Quick(quick) => {
                let (taken, size) = quick.block(&input[from..], room, out);
                (from + taken, size)
            }
            Way::Smallest(smallest) => smallest.block(input, from, room, out),
        };
        out.truncate(size);
        end - from
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

#[inline(always)]
fn word(input: &[u8], at: usize) -> [u8; 4] {
    let mut word = [0; 4];
    word.copy_from_slice(&input[at..at + 4]);
    word
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
        // Again at the end of what a match reaches, and just behind it.
        let [near, far] = [WINDOW, WINDOW + 1].map(|distance| {
            let once: Vec<u8> = (0..distance).map(|_| random()).collect();
            once.repeat(2)
        });
        let all =
            [vec![], vec![7], vec![0; 12], vec![0; 13], vec![0; 300_000], text, mixed, noise, near, far];
        for (input, smallest) in all.into_iter().flat_map(|input| [(input.clone(), true), (input, false)]) {
            for room in [64, 4096, 100_000] {
                let mut lz4 = if smallest { Encoder::smallest() } else { Encoder::quick() };
                lz4.start(&input);
                let (mut out, mut from) = (Vec::new(), 0);
                while from < input.len() {
                    let taken = lz4.block(&input, from, room, &mut out);
                    assert!(out.len() <= room && taken > 0, "{} of {room}, {taken} taken", out.len());
                    assert!(decode(&out) == input[from..from + taken], "{smallest} {room} {from}");
                    from += taken;
                }
            }
        }
    }
}
