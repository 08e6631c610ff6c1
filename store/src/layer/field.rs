//! The fields of tar headers and PAX records: numbers, times, names.

use coracle_sys::{Error, Result};

/// A field: octal digits between blanks and NULs, or GNU's base 256, which may be negative.
pub(super) fn number(field: &[u8], what: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("read the archive: a header's {what} is no number"));
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let fill = if negative { 0xff } else { 0 };
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let mut value: u64 = if negative { u64::MAX } else { 0 };
        let first = if negative { field[0] } else { field[0] & 0x7f };
        for (n, b) in low.iter().enumerate() {
            let b = if high.is_empty() && n == 0 { first } else { *b };
            value = value << 8 | u64::from(b);
        }
        if high.iter().enumerate().any(|(n, b)| (if n == 0 { first } else { *b }) != fill) {
            return Err(bad());
        }
        let value = value as i64;
        return if (value < 0) == negative { Ok(value) } else { Err(bad()) };
    }
    let text = until_nul(field).trim_ascii();
    let mut value: i64 = 0;
    for b in text {
        let digit = b.checked_sub(b'0').filter(|d| *d < 8).ok_or_else(bad)?;
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit))).ok_or_else(bad)?;
    }
    Ok(value)
}

/// A device's numbers: Linux has 12 bits for the one and 20 for the other.
pub(super) fn device(major: &[u8], minor: &[u8]) -> Result<(u32, u32)> {
    let part = |field, bits: u32, what| {
        let part = u32::try_from(number(field, what)?).ok().filter(|n| *n < 1 << bits);
        part.ok_or_else(|| Error::invalid(format!("read the archive: a header's {what} is out of range")))
    };
    Ok((part(major, 12, "major number")?, part(minor, 20, "minor number")?))
}

pub(super) fn positive(n: i64, what: &str) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::invalid(format!("read the archive: a header's {what} is negative")))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time: decimal seconds with a fraction, perhaps negative.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.');
    let (whole, fraction) = (&text[..dot.unwrap_or(text.len())], dot.map_or(&b""[..], |d| &text[d + 1..]));
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0, |n, i| n * 10 + u32::from(fraction.get(i).map_or(0, |b| b - b'0')));
    Some(match (negative, nanos) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}
