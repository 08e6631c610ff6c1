//! The hash of names by which a directory's index is sorted: half MD4, of bytes without sign.

/// Where a directory ends, for the kernel's readdir: no name has this hash.
const END: u32 = 0xffff_fffe;

/// The hash of a name under the file system's seed, and the minor hash after it. The lowest bit is free: in an index
/// it says that a block goes on with the hash that the one before it ended with.
pub(super) fn half_md4(name: &[u8], seed: &[u32; 4]) -> (u32, u32) {
    let mut state = *seed;
    let mut rest = name;
    while !rest.is_empty() {
        transform(&mut state, &words(rest));
        rest = &rest[rest.len().min(32)..];
    }
    match state[1] & !1 {
        END => (END - 2, state[2]),
        hash => (hash, state[2]),
    }
}

/// Up to 32 bytes as eight numbers; what is missing is the length of what is left of the name, in each byte.
fn words(bytes: &[u8]) -> [u32; 8] {
    let pad = (bytes.len() as u32 & 0xff) * 0x0101_0101;
    let mut words = [pad; 8];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = chunk.iter().fold(pad, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}

fn transform(state: &mut [u32; 4], words: &[u32; 8]) {
    type Round = (fn(u32, u32, u32) -> u32, u32, [usize; 8], [u32; 4]);
    const ROUNDS: [Round; 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, turns) in ROUNDS {
        for (n, at) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[at]).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(turns[n % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `debugfs -R 'dx_hash -h half_md4 -s 01020304-0506-0708-090a-0b0c0d0e0f10 NAME'` tells them; it knows bytes with sign alone,
    /// so these names have none above 127.
    #[test]
    fn hashes_are_those_that_debugfs_tells() {
        let seed = [0x0403_0201, 0x0807_0605, 0x0c0b_0a09, 0x100f_0e0d];
        let table: [(&[u8], (u32, u32)); 4] = [
            (b"a", (0x8d08_ec4c, 0x2fbc_cd78)),
            (b"hello", (0xe2dd_f968, 0xc8bc_0924)),
            (b"a-name-of-exactly-thirty-two-byte", (0xd319_0d02, 0x01e6_b529)),
            (b"a-name-that-is-longer-than-thirty-two-bytes-by-some", (0x3b12_79ea, 0x2254_247d)),
        ];
        for (name, wanted) in table {
            assert_eq!(half_md4(name, &seed), wanted, "{}", String::from_utf8_lossy(name));
        }
    }
}
