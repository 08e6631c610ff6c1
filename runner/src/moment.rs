//! Moments as people type them: `--since` and `--until`.

use coracle_sys::{Error, Result, time};

use crate::from_image::units;
use crate::record;

/// A moment as RFC 3339 in UTC with nanoseconds, so that times can be compared as text.
pub(crate) fn moment(text: &str, flag: &str) -> Result<String> {
    let wrong = || {
        Error::usage(format!(
            "{flag} {text:?}: it is RFC 3339, seconds since 1970, or how long ago, such as 10m"
        ))
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let whole = |seconds: i64, fraction: &str| {
        let time = time::rfc3339(seconds);
        format!("{}.{fraction:0<9.9}Z", time.trim_end_matches('Z'))
    };
    let (number, fraction) = text.split_once('.').unwrap_or((text, ""));
    if digits(number) && (fraction.is_empty() || digits(fraction)) {
        return Ok(whole(number.parse().map_err(|_| wrong())?, fraction));
    }
    if let Ok(ago) = ago(text, flag) {
        let then = record::now().saturating_sub(ago);
        return Ok(whole(record::seconds(then).cast_signed(), &format!("{:09}", then % 1_000_000_000)));
    }
    // A day, or a time without a zone, is taken to be of UTC.
    let full = match (text.len(), text.contains('T')) {
        (10, false) => format!("{text}T00:00:00Z"),
        (16, true) => format!("{text}:00Z"),
        (_, true) if text.len() >= 19 && !text[19..].contains(['Z', '+', '-']) => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let seconds = time::parse(&full).ok_or_else(wrong)?;
    let fraction = full.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
    let fraction: String = fraction.chars().take_while(char::is_ascii_digit).collect();
    Ok(whole(seconds, &fraction))
}

/// `1h30m`, as nanoseconds.
fn ago(text: &str, flag: &str) -> Result<u64> {
    if text.is_empty() {
        return Err(Error::usage("no time"));
    }
    let mut sum = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| Error::usage("no unit"))?;
        let unit = rest[number..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |n| number + n);
        let part = units::duration(&rest[..unit], flag)?;
        sum = sum.saturating_add(u64::try_from(part.as_nanos()).unwrap_or(u64::MAX));
        rest = &rest[unit..];
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        for (text, is) in [
            ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000000000Z"),
            ("2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20.500000000Z"),
            ("2023-11-15T00:13:20+02:00", "2023-11-14T22:13:20.000000000Z"),
            ("2023-11-14T22:13:20", "2023-11-14T22:13:20.000000000Z"),
            ("2023-11-14T22:13", "2023-11-14T22:13:00.000000000Z"),
            ("2023-11-14", "2023-11-14T00:00:00.000000000Z"),
            ("1700000000", "2023-11-14T22:13:20.000000000Z"),
            ("1700000000.25", "2023-11-14T22:13:20.250000000Z"),
        ] {
            assert_eq!(moment(text, "--since").unwrap(), is, "{text}");
        }
        assert!(moment("1h30m", "--since").unwrap() < moment("10s", "--since").unwrap());
        for wrong in ["yesterday", "", "10 apples", "2023-99"] {
            assert!(moment(wrong, "--since").is_err(), "{wrong:?}");
        }
    }
}
