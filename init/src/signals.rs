//! Signals by name and number, as the command line and the messages have them.

use crate::text::parts;

/// The highest signal number of Linux.
pub(crate) const MAX: u8 = 64;
/// The first real-time signal that a C library leaves to programs.
const RTMIN: u8 = 34;

/// The names of signals 1 to 31, in order.
const NAMES: &[u8] =
    b"HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
    TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// The name without `SIG`; nothing for real-time signals.
pub(crate) fn name(signal: u8) -> Option<&'static [u8]> {
    parts(NAMES, b' ').nth(usize::from(signal).checked_sub(1)?)
}

/// A signal as a user types it: `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`; case is ignored.
pub(crate) fn parse(text: &[u8]) -> Option<u8> {
    if text.first()?.is_ascii_digit() {
        return number(text).filter(|n| (1..=MAX).contains(n));
    }
    let text = strip(text, b"SIG").unwrap_or(text);
    if let Some(offset) = strip(text, b"RTMIN") {
        return real_time(offset, b'+').and_then(|n| RTMIN.checked_add(n)).filter(|n| *n <= MAX);
    }
    if let Some(offset) = strip(text, b"RTMAX") {
        return real_time(offset, b'-').and_then(|n| MAX.checked_sub(n)).filter(|n| *n >= RTMIN);
    }
    let known = parts(NAMES, b' ').position(|name| same(name, text));
    known.map(|at| at as u8 + 1).or(match text {
        b"POLL" => Some(29),
        b"IOT" => Some(6),
        _ => None,
    })
}

/// A number from 0 to 255, all digits.
pub(crate) fn number(text: &[u8]) -> Option<u8> {
    crate::text::number(text)?.try_into().ok()
}

fn real_time(offset: &[u8], sign: u8) -> Option<u8> {
    match offset.split_first() {
        None => Some(0),
        Some((first, digits)) if *first == sign => number(digits),
        Some(_) => None,
    }
}

fn strip<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    same(head, prefix).then_some(tail)
}

/// Whether two texts are the same but for their case. The library's own is five times as large.
#[expect(clippy::manual_ignore_case_cmp, reason = "for its size")]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_ascii_uppercase() == b.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_signal_is_read() {
        for (text, signal) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("HUP", 1),
            ("SYS", 31),
            ("POLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-30", 34),
            ("64", 64),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(signal), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "", "SIG", "0", "65", "-1", "+1", "TERMS", "RTMIN-1", "RTMIN+31", "RTMAX-31", "RTMIN+", "1x",
            "256", " 9",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_and_numbers_agree() {
        assert!((1..=31).all(|signal| name(signal).and_then(parse) == Some(signal)));
        assert_eq!((name(0), name(32)), (None, None));
    }
}
