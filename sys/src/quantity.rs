//! Quantities as they are typed.

use crate::{Error, Result};

/// A size in bytes as docker takes it: a number, which may have a fraction, and a power of 1024: `512`, `64k`, `32MB`, `1.5GiB`.
/// `flag` is who asked for it.
pub fn size(text: &str, flag: &str) -> Result<u64> {
    let wrong = || {
        Error::flag(format!(
            "{flag} {text}: a size is 512, 64k, 512M or 1.5g: k, m, g and t are powers of 1024"
        ))
    };
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let millionths = millionths(number).ok_or_else(wrong)?;
    let bytes = (u128::from(millionths) << shift) / 1_000_000;
    u64::try_from(bytes).ok().filter(|b| *b <= i64::MAX as u64).ok_or_else(wrong)
}

/// A number with a fraction, in millionths: `1.5` is 1500000. What is finer is cut off.
pub fn millionths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let padded = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let fraction = padded.fold(0, |sum, b| sum * 10 + u64::from(b - b'0'));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole.checked_mul(1_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65536),
            ("32M", 32 << 20),
            ("1.5g", 3 << 29),
            ("1.1M", 1_153_433),
            ("0.25k", 256),
            ("1GiB", 1 << 30),
            ("512MB", 512 << 20),
            ("2kb", 2048),
            ("7b", 7),
            ("2T", 2 << 40),
        ] {
            assert_eq!(size(text, "-m").unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            ".",
            "m",
            "-1",
            "+1",
            "1x",
            "1mm",
            "1ib",
            "1bb",
            "1.5.5g",
            "1.-5g",
            "1,5g",
            "99999999999t",
            "18446744073709551616",
            "1e3",
            "0x10",
            "1 g",
            "nan",
            "inf",
        ] {
            let error = size(text, "-m").expect_err(text).to_string();
            assert!(error.starts_with(&format!("-m {text}: a size is")), "{error}");
        }
    }
}
