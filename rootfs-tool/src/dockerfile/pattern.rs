//! The shell's patterns as variables have them in `${x#p}`, `${x%p}` and `${x/p/r}`: `*` and `?`, nothing else.

use coracle_sys::{Error, Result};

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Star,
    Any,
    Char(char),
}

/// A pattern.
pub(crate) struct Pattern(Vec<Part>);

impl Pattern {
    /// Read one; escapes are a backslash's.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Part::Char(c),
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        let why =
                            format!("invalid pattern ({text}) in substitution: invalid escape '\\{shown}'");
                        return Err(Error::invalid(why));
                    }
                },
                c => Part::Char(c),
            });
        }
        Ok(Self(parts))
    }

    /// Without the shortest or longest beginning that matches.
    pub(crate) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let end = ends(&self.0, &chars, longest).unwrap_or(0);
        chars[end..].iter().collect()
    }

    /// Without the shortest or longest end that matches.
    pub(crate) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let mut chars: Vec<char> = value.chars().collect();
        let mut parts = self.0.clone();
        chars.reverse();
        parts.reverse();
        let end = ends(&parts, &chars, longest).unwrap_or(0);
        chars[end..].iter().rev().collect()
    }

    /// With what matches replaced, the first time or every time.
    pub(crate) fn replace(&self, value: &str, by: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut at, mut done, mut matched) = (0, false, false);
        while at <= chars.len() {
            match ends(&self.0, &chars[at..], true).filter(|n| !done && (*n > 0 || !matched)) {
                Some(n) => {
                    out.push_str(by);
                    done = !all;
                    matched = n > 0;
                    at += n;
                    if n > 0 {
                        continue;
                    }
                }
                None => matched = false,
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}

/// Where the shortest or longest match ends that begins at the beginning. All the ways are followed at once.
fn ends(parts: &[Part], value: &[char], longest: bool) -> Option<usize> {
    let mut states = vec![false; parts.len() + 1];
    states[0] = true;
    let mut found = None;
    for at in 0..=value.len() {
        for n in 0..parts.len() {
            states[n + 1] |= states[n] && parts[n] == Part::Star;
        }
        if states[parts.len()] {
            found = Some(at);
            if !longest {
                break;
            }
        }
        let Some(c) = value.get(at) else { break };
        let mut next = vec![false; parts.len() + 1];
        for (n, part) in parts.iter().enumerate().filter(|(n, _)| states[*n]) {
            match part {
                Part::Star => next[n] = true,
                Part::Any => next[n + 1] = true,
                Part::Char(wanted) => next[n + 1] |= wanted == c,
            }
        }
        if !next.contains(&true) {
            break;
        }
        states = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_as_short_or_as_long_as_is_asked_for() {
        let of = |p: &str| Pattern::parse(p).unwrap();
        assert_eq!(of("a*b").without_prefix("axbxbx", false), "xbx");
        assert_eq!(of("a*b").without_prefix("axbxbx", true), "x");
        assert_eq!(of("b*").without_suffix("axbxbx", false), "axbx");
        assert_eq!(of("b*").without_suffix("axbxbx", true), "ax");
        assert_eq!(of("").without_prefix("abc", true), "abc");
        assert_eq!(of("*").without_prefix("abc", false), "abc");
        assert_eq!(of("*").without_prefix("abc", true), "");
        assert_eq!(of("*").replace("abc", "x", true), "x");
        assert_eq!(of("").replace("ab", "-", true), "-a-b-");
        assert_eq!(of("é?").replace("aéßb", "x", false), "axb");
        assert!(Pattern::parse("a\\").is_err());
    }
}
