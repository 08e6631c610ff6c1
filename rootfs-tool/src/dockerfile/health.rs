//! HEALTHCHECK: how an image says it is asked whether it is well.

use coracle_store::image::Healthcheck;
use coracle_sys::{Error, Result};

use super::flags::Flags;
use super::instruction::command;

/// Docker's shortest time, a millisecond.
const SHORTEST: i64 = 1_000_000;

pub(super) fn parse(rest: &str, flags: &mut Flags) -> Result<Healthcheck> {
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let mut out = Healthcheck::default();
    match word.to_ascii_uppercase().as_str() {
        "" => return Err(Error::invalid("HEALTHCHECK requires at least one argument")),
        "NONE" if rest.trim().is_empty() => {
            // Docker takes the times of a check that is not there as well.
            for name in ["interval", "timeout", "start-period", "start-interval", "retries"] {
                flags.text(name)?;
            }
            out.test = Some(vec!["NONE".to_owned()]);
            return Ok(out);
        }
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" => {
            let command = command(rest.trim())?;
            if command.words.is_empty() {
                return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
            }
            let kind = if command.shell { "CMD-SHELL" } else { "CMD" };
            out.test = Some([kind.to_owned()].into_iter().chain(command.words).collect());
        }
        other => {
            return Err(Error::invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")));
        }
    }
    let mut time = |name: &'static str| -> Result<Option<i64>> {
        let Some(text) = flags.text(name)? else { return Ok(None) };
        match duration(&text) {
            Some(0) => Ok(None),
            Some(ns) if ns >= SHORTEST => Ok(Some(ns)),
            Some(_) => Err(Error::invalid(format!("Interval {name:?} cannot be less than 1ms"))),
            None => Err(Error::invalid(format!("--{name}={text}: it is a time such as 1m30s or 500ms"))),
        }
    };
    out.interval = time("interval")?;
    out.timeout = time("timeout")?;
    out.start_period = time("start-period")?;
    out.start_interval = time("start-interval")?;
    if let Some(text) = flags.text("retries")? {
        out.retries = match text.parse::<i32>() {
            Ok(n @ 0..) => Some(i64::from(n)).filter(|n| *n > 0),
            Ok(n) => return Err(Error::invalid(format!("--retries cannot be negative ({n})"))),
            Err(_) => return Err(Error::invalid(format!("--retries={text}: it is a whole number"))),
        };
    }
    Ok(out)
}

/// Nanoseconds of a time as Go writes it: `1h2m3.5s`, `100ms`.
fn duration(text: &str) -> Option<i64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut ns = whole.checked_mul(unit)?;
        let mut scale = unit;
        for digit in part.bytes() {
            scale /= 10;
            ns = ns.checked_add(i64::from(digit - b'0') * scale)?;
        }
        total = total.checked_add(ns)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go() {
        for (text, ns) in [
            ("1s", Some(1_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("500ms", Some(500_000_000)),
            (".5s", Some(500_000_000)),
            ("0", Some(0)),
            ("1", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text), ns, "{text:?}");
        }
    }
}
