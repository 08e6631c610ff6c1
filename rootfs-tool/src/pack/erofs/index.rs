//! Where a compressed file's extents begin, by its logical clusters of 4 KiB: packs of two entries in 8 bytes, or of
//! sixteen in 32, each with the block of its first extent at the end (the kernel's fs/erofs/zmap.c).

use super::BLOCK;

/// In an extent's length: its block holds it as it is.
pub(super) const PLAIN: u32 = 1 << 31;
/// The header before the entries: packs of sixteen are used, and there are clusters of 4 KiB.
const COMPACTED_2B: u16 = 1;
/// What a cluster is: the begin of an extent, or of one that is not compressed, or the midst of one.
const KINDS: [u16; 3] = [1, 0, 2];

/// An entry: its kind, and what its 12 bits say, unless it is a pack's last one.
#[derive(Clone, Copy)]
struct Entry {
    kind: u16,
    low: u16,
    low_of_last: u16,
}

/// How many entries packs of two have at first, until 32 bytes are aligned, and then those of sixteen, of `count`.
fn split(at: usize, count: usize) -> (usize, usize) {
    let first = (at.next_multiple_of(32) - at) / 4;
    (first, count.saturating_sub(first) / 16 * 16)
}

/// Bytes of header and entries of a file of this size, at `at`, which is where its inode's attributes end.
pub(super) fn size(at: usize, size: u64) -> usize {
    let count = size.div_ceil(BLOCK as u64) as usize;
    let begin = at.next_multiple_of(8) + 8;
    let sixteens = split(begin, count).1;
    begin - at + sixteens * 2 + (count - sixteens).next_multiple_of(2) * 4
}

/// Header and entries. `lengths` are those of the extents, whose blocks begin at `block`.
pub(super) fn bytes(at: usize, lengths: &[u32], block: u32, algorithm: u8) -> Vec<u8> {
    let begin = at.next_multiple_of(8);
    let mut out = vec![0; begin - at + 4];
    out.extend_from_slice(&COMPACTED_2B.to_le_bytes());
    out.extend_from_slice(&[algorithm, 0]);
    let entries = entries(lengths);
    let (first, sixteens) = split(begin + 8, entries.len());
    let first = first.min(entries.len());
    let mut next = block;
    let mut pack = |out: &mut Vec<u8>, entries: &[Entry], count: usize, bits: usize| {
        let mut packed = vec![0; count * bits / 8];
        for (n, entry) in entries.iter().enumerate() {
            let low = if n + 1 == count { entry.low_of_last } else { entry.low };
            let value = u32::from(low | entry.kind << 12) << (n * bits % 8);
            for (byte, part) in packed[n * bits / 8..].iter_mut().zip(value.to_le_bytes()) {
                *byte |= part;
            }
        }
        out.extend_from_slice(&packed);
        // The first extent that begins here is the first block after this one.
        out.extend_from_slice(&next.wrapping_sub(1).to_le_bytes());
        next += entries.iter().filter(|entry| entry.kind != KINDS[2]).count() as u32;
    };
    entries[..first].chunks(2).for_each(|two| pack(&mut out, two, 2, 16));
    entries[first..first + sixteens].chunks(16).for_each(|sixteen| pack(&mut out, sixteen, 16, 14));
    entries[first + sixteens..].chunks(2).for_each(|two| pack(&mut out, two, 2, 16));
    out
}

fn entries(lengths: &[u32]) -> Vec<Entry> {
    let size: u64 = lengths.iter().map(|length| u64::from(length & !PLAIN)).sum();
    let count = size.div_ceil(BLOCK as u64) as usize;
    let mut out = Vec::with_capacity(count);
    let mut at = 0;
    for length in lengths {
        let offset = (at % BLOCK as u64) as u16;
        let kind = KINDS[usize::from(length & PLAIN != 0)];
        out.push(Entry { kind, low: offset, low_of_last: offset });
        let head = out.len() - 1;
        at += u64::from(length & !PLAIN);
        // The next extent begins in a cluster of its own, since this one is longer than a cluster, or the last.
        let next = (at / BLOCK as u64) as usize;
        for cluster in head + 1..next {
            let low = (cluster - head) as u16;
            out.push(Entry { kind: KINDS[2], low, low_of_last: (next - cluster) as u16 });
        }
    }
    // Where the content ends in the midst of a cluster in which no extent begins, one of nothing does: the last extent would
    // be taken to reach up to the cluster's end, and one that is not compressed to be longer than its block.
    if out.len() < count {
        let end = (size % BLOCK as u64) as u16;
        out.push(Entry { kind: KINDS[1], low: end, low_of_last: end });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extent that this place is in: where it begins, its block, and how much of it is mapped (z_erofs_map_blocks_iter() and
    /// unpack_compacted_index() of fs/erofs/zmap.c).
    fn find(index: &[u8], at: usize, count: usize, place: usize) -> (usize, u32, usize) {
        let begin = at.next_multiple_of(8) - at + 8;
        let (first, sixteens) = split(at + begin, count);
        let entry = |cluster: usize| {
            let (start, size, bits, n) = if cluster >= first && cluster < first + sixteens {
                let pack = (cluster - first) / 16;
                (begin + first * 4 + pack * 32, 16, 14, (cluster - first) % 16)
            } else {
                let skip = if cluster < first { 0 } else { sixteens };
                (begin + (cluster - skip) / 2 * 8 + skip * 2, 2, 16, (cluster - skip) % 2)
            };
            let part = |n: usize| {
                let mut word = [0; 4];
                let from = start + n * bits / 8;
                word[..3].copy_from_slice(&index[from..from + 3]);
                let value = u32::from_le_bytes(word) >> (n * bits % 8);
                ((value >> 12 & 3) as u16, (value & 0xfff) as usize)
            };
            let (kind, low) = part(n);
            if kind == KINDS[2] {
                let back = match n + 1 == size {
                    false => low,
                    true if part(n - 1).0 == KINDS[2] => part(n - 1).1 + 1,
                    true => 1,
                };
                return Err(back);
            }
            let heads = (0..=n).filter(|n| part(*n).0 != KINDS[2]).count() as u32;
            let base = start + size * bits / 8;
            Ok((low, u32::from_le_bytes(index[base..base + 4].try_into().unwrap()) + heads))
        };
        let cluster = place / BLOCK;
        let (mut back, mut end) = (0, (cluster + 1) * BLOCK);
        match entry(cluster) {
            Ok((low, _)) if place % BLOCK >= low => {}
            Ok((low, _)) => (back, end) = (1, cluster * BLOCK + low),
            Err(low) => back = low,
        }
        let mut cluster = cluster - back;
        loop {
            match entry(cluster) {
                Ok((low, block)) => return (cluster * BLOCK + low, block, end - (cluster * BLOCK + low)),
                Err(back) => cluster -= back,
            }
        }
    }

    #[test]
    fn every_place_leads_to_its_extent() {
        let mut noise = 5u32;
        for round in 0..200 {
            let mut lengths = Vec::new();
            for _ in 0..round % 50 + 1 {
                noise = noise.wrapping_mul(1_103_515_245).wrapping_add(12345);
                let plain = noise >> 30 == 0;
                lengths.push(if plain { BLOCK as u32 | PLAIN } else { 4097 + (noise >> 8) % 50000 });
            }
            // The last one may end anywhere.
            lengths.push(((noise >> 9) % BLOCK as u32 + 1) | if round % 3 == 0 { 0 } else { PLAIN });
            let size: u64 = lengths.iter().map(|length| u64::from(length & !PLAIN)).sum();
            let count = size.div_ceil(BLOCK as u64) as usize;
            for at in [32, 64, 76, 108] {
                let index = bytes(at, &lengths, 1000, 0);
                assert_eq!(index.len(), super::size(at, size));
                let mut begins = Vec::new();
                let mut from = 0;
                for (n, length) in lengths.iter().enumerate() {
                    begins.push((from, 1000 + n as u32));
                    from += (length & !PLAIN) as usize;
                }
                for place in (0..size as usize).step_by(511).chain([size as usize - 1]) {
                    let n = begins.iter().rposition(|(from, _)| *from <= place).unwrap();
                    let (from, block, mapped) = find(&index, at, count, place);
                    assert_eq!((from, block), begins[n], "{round} {at} {place}");
                    assert!(mapped <= BLOCK || lengths[n] & PLAIN == 0, "{round} {at} {place}: {mapped}");
                }
            }
        }
    }
}
