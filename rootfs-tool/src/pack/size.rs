//! Sizes and places in bytes, as they are typed.

use coracle_sys::{Error, Result};

/// A number, with K, M, G or T behind it for powers of 1024. `flag` is who asked for it.
pub(crate) fn parse(text: &str, flag: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..].to_ascii_lowercase()[..] {
        "" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let bytes = || digits.parse::<u64>().ok()?.checked_mul(1 << shift?).filter(|n| *n <= i64::MAX as u64);
    bytes()
        .filter(|_| plain)
        .ok_or_else(|| Error::usage(format!("{flag} {text}: a size is 4096, 64K, 32M or 1G")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("512", 512), ("64k", 65536), ("32MiB", 32 << 20), ("2T", 2 << 40)] {
            assert_eq!(parse(text, "--size").expect(text), bytes);
        }
        for text in ["", "M", "1.5G", "-1", "+1", "1X", "1 M", "9999999999T", "18446744073709551616"] {
            let error = parse(text, "--size").expect_err(text).to_string();
            assert!(error.starts_with(&format!("--size {text}: ")), "{error}");
        }
    }
}
