//! `--chmod`: an octal mode, or changes in words as chmod(1) has them (`u=rwX,go-w`).

use coracle_sys::{Error, Result};

/// What is done to a mode.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Chmod {
    To(u32),
    Changes(Vec<Change>),
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The bits of those that it is for.
    who: u32,
    operator: char,
    bits: u32,
    /// `X`: x, of a directory, or where somebody has it.
    execute: bool,
}

impl Chmod {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "--chmod={text}: it is an octal mode up to 7777, or u=rwX,go=rX and the like"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
            return if mode <= 0o7777 { Ok(Self::To(mode)) } else { Err(bad()) };
        }
        let change = |part: &str| {
            let end = part.find(['+', '-', '='])?;
            let mut who = 0;
            for c in part[..end].chars() {
                who |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return None,
                };
            }
            let who = if who == 0 { 0o7777 } else { who };
            let operator = part[end..].chars().next()?;
            let (mut bits, mut execute) = (0, false);
            for c in part[end + 1..].chars() {
                match c {
                    'r' => bits |= 0o444,
                    'w' => bits |= 0o222,
                    'x' => bits |= 0o111,
                    's' => bits |= 0o6000,
                    't' => bits |= 0o1000,
                    'X' => execute = true,
                    _ => return None,
                }
            }
            Some(Change { who, operator, bits: bits & who, execute })
        };
        let all: Option<Vec<Change>> = text.split(',').map(change).collect();
        all.filter(|all| !all.is_empty()).map(Self::Changes).ok_or_else(bad)
    }

    /// The mode that becomes of a mode.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let changes = match self {
            Self::To(mode) => return *mode,
            Self::Changes(changes) => changes,
        };
        changes.iter().fold(mode, |mode, change| {
            let x = change.execute && (is_dir || mode & 0o111 != 0);
            let bits = change.bits | if x { 0o111 & change.who } else { 0 };
            match change.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(change.who & 0o777) | bits,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_given_in_octal_and_in_words() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o600, false, 0o755),
            ("4711", 0o600, true, 0o4711),
            ("0644", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g+s", 0o755, true, 0o2755),
            ("o=", 0o777, false, 0o770),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, is_dir), expected, "{text}");
        }
        for bad in ["", "8", "77777", "x", "u=z", "q+x", "u=r,"] {
            assert!(Chmod::parse(bad).is_err(), "{bad:?}");
        }
    }
}
