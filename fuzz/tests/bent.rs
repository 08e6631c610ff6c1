//! Every target with bent seeds: bytes changed, cut, doubled and spliced. CORACLE_FUZZ_ROUNDS sets how often.

use coracle_fuzz::TARGETS;

/// A small generator, the same every time (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

fn bend(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut data = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(6) {
        if data.is_empty() {
            break;
        }
        let at = chance.below(data.len());
        match chance.below(6) {
            0 => data[at] = chance.below(256) as u8,
            1 => data[at] ^= 1 << chance.below(8),
            2 => data.truncate(at),
            3 => drop(data.remove(at)),
            4 => data.insert(at, b"{}[]\",:0@/=\\\0\xff"[chance.below(14)]),
            _ => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
        }
    }
    data
}

#[test]
fn bent_input_is_answered_and_breaks_no_promise() {
    let rounds = std::env::var("CORACLE_FUZZ_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5_000);
    for (name, target, seeds) in TARGETS {
        let seeds = seeds();
        let mut chance = Chance(name.len() as u64);
        seeds.iter().for_each(|seed| target(seed));
        for _ in 0..rounds {
            target(&bend(&seeds, &mut chance));
        }
    }
}
