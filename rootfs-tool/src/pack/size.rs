//! Sizes and places in bytes, as they are typed.

use coracle_sys::{Error, Result};

/// A number, with K, M, G or T behind it for powers of 1024, of which it may be a fraction. `flag` is who asked for it.
pub(crate) fn parse(text: &str, flag: &str) -> Result<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[number.len()..].to_ascii_lowercase()[..] {
        "" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        "t" | "tib" => Some(40),
        _ => None,
    };
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(a, b)| (a, Some(b)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let bytes = || {
        let unit = 1_u64 << shift?;
        let part = match fraction {
            // Nine digits of the largest unit are less than 2^70.
            Some(text) if unit > 1 && text.len() < 10 => {
                let tens = 10_u128.pow(text.len() as u32);
                (u128::from(digits(text)?) * u128::from(unit) / tens) as u64
            }
            Some(_) => return None,
            None => 0,
        };
        digits(whole)?.checked_mul(unit)?.checked_add(part).filter(|n| *n <= i64::MAX as u64)
    };
    bytes().ok_or_else(|| {
        Error::usage(format!(
            "{flag} {text}: a size is 4096, 64K, 512M or 1.5G: K, M, G and T are powers of 1024"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65536),
            ("32MiB", 32 << 20),
            ("2T", 2 << 40),
            ("1.5G", 3 << 29),
            ("0.25k", 256),
            ("1.1M", 1_153_433),
        ] {
            assert_eq!(parse(text, "--size").expect(text), bytes);
        }
        for text in [
            "",
            "M",
            "1.5",
            "1.G",
            ".5G",
            "1.-5G",
            "1.5.5G",
            "1.0123456789G",
            "1,5G",
            "512MB",
            "-1",
            "+1",
            "1X",
            "1 M",
            "9999999999T",
            "18446744073709551616",
        ] {
            let error = parse(text, "--size").expect_err(text).to_string();
            assert!(error.starts_with(&format!("--size {text}: ")), "{error}");
        }
    }
}
