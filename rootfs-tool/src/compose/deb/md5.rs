//! MD5 (RFC 1321), by which dpkg's database knows configuration files. It guards against nothing here.

/// Of these bytes.
pub(crate) fn of(bytes: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    // The table of the RFC is made of sines.
    let table: Vec<u32> = (1..=64).map(|n| (f64::from(n).sin().abs() * 4_294_967_296.0) as u32).collect();
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - bytes.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(bytes.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let words: Vec<u32> =
            block.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for n in 0..64 {
            let (f, word) = match n / 16 {
                0 => ((b & c) | (!b & d), n),
                1 => ((d & b) | (!d & c), (5 * n + 1) % 16),
                2 => (b ^ c ^ d, (3 * n + 5) % 16),
                _ => (c ^ (b | !d), (7 * n) % 16),
            };
            let sum = a.wrapping_add(f).wrapping_add(table[n]).wrapping_add(words[word]);
            let next = b.wrapping_add(sum.rotate_left(SHIFTS[n / 16][n % 4]));
            (a, d, c, b) = (d, c, b, next);
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d]) {
            *s = s.wrapping_add(v);
        }
    }
    let mut out = [0; 16];
    out.chunks_exact_mut(4).zip(state).for_each(|(o, s)| o.copy_from_slice(&s.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sums_are_those_of_the_rfc() {
        let long = "1234567890".repeat(8);
        for (text, sum) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (&long, "57edf4a22be3c955ac49da2e2107b67a"),
            (&"x".repeat(55), "04364420e25c512fd958a70738aa8f72"),
            (&"x".repeat(56), "668a72d5ba17f08e62dabcafad6db14b"),
            (&"x".repeat(64), "c1bb4f81d892b2d57947682aeb252456"),
        ] {
            assert_eq!(crate::compose::deb::hex(&super::of(text.as_bytes())), sum, "{text}");
        }
    }
}
