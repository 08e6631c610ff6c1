//! Patterns of paths: those of .dockerignore, where `**` is any number of directories, and those of COPY, where it is
//! not. All the ways that a pattern can match are followed at once, so that none takes long.

use coracle_sys::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Char(char),
    /// One character that is no slash.
    Any,
    /// `[a-z]`, `[^a-z]`.
    Class(bool, Vec<(char, char)>),
    /// Any characters but slashes.
    Star,
    /// Any characters.
    Everything,
    /// Nothing, or directories with the slash behind them: the part after next is reached at once, or after one of
    /// the slashes that [`Part::Within`] meets.
    Directories,
    Within,
}

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Glob(Vec<Part>);

impl Glob {
    /// Read one. With `deep`, `**` has its meaning.
    pub(crate) fn parse(text: &str, deep: bool) -> Result<Self> {
        let bad = || Error::invalid(format!("the pattern {text:?}: syntax error in pattern"));
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if deep && chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    match chars.peek() {
                        None => parts.push(Part::Everything),
                        Some(_) => parts.extend([Part::Directories, Part::Within]),
                    }
                }
                '*' => parts.push(Part::Star),
                '?' => parts.push(Part::Any),
                '\\' => parts.push(Part::Char(chars.next().ok_or_else(bad)?)),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut one = || match chars.next() {
                            Some('\\') => chars.next(),
                            other => other,
                        };
                        let first = match one() {
                            Some(']') if !ranges.is_empty() => break,
                            Some(']' | '-') | None => return Err(bad()),
                            Some(c) => c,
                        };
                        let last = match chars.next_if_eq(&'-') {
                            None => first,
                            Some(_) => match chars.next() {
                                Some('\\') => chars.next().ok_or_else(bad)?,
                                Some(']') | None => return Err(bad()),
                                Some(c) => c,
                            },
                        };
                        ranges.push((first, last));
                    }
                    parts.push(Part::Class(negated, ranges));
                }
                c => parts.push(Part::Char(c)),
            }
        }
        Ok(Self(parts))
    }

    /// Does the whole of it match?
    pub(crate) fn matches(&self, text: &str) -> bool {
        let parts = &self.0;
        let mut states = vec![false; parts.len() + 1];
        states[0] = true;
        reach(parts, &mut states);
        for c in text.chars() {
            let mut next = vec![false; parts.len() + 1];
            for (n, part) in parts.iter().enumerate().filter(|(n, _)| states[*n]) {
                match part {
                    Part::Char(wanted) => next[n + 1] |= *wanted == c,
                    Part::Any => next[n + 1] |= c != '/',
                    Part::Class(negated, ranges) => {
                        let within = ranges.iter().any(|(a, b)| (*a..=*b).contains(&c));
                        next[n + 1] |= within != *negated && c != '/';
                    }
                    Part::Star => next[n] |= c != '/',
                    Part::Everything => next[n] = true,
                    Part::Directories => {}
                    Part::Within => {
                        next[n] = true;
                        next[n + 1] |= c == '/';
                    }
                }
            }
            reach(parts, &mut next);
            if !next.contains(&true) {
                return false;
            }
            states = next;
        }
        states[parts.len()]
    }
}

/// What is reached without a character.
fn reach(parts: &[Part], states: &mut [bool]) {
    for (n, part) in parts.iter().enumerate() {
        if states[n] {
            match part {
                Part::Star | Part::Everything => states[n + 1] = true,
                Part::Directories => {
                    states[n + 1] = true;
                    states[n + 2] = true;
                }
                _ => {}
            }
        }
    }
}

/// Is it a pattern, rather than a path?
pub(crate) fn is_pattern(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// A path without `.`, `..` and empty parts, as Go's Clean has it; `.` where nothing is left.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_go_has_them() {
        for (pattern, path, deep, matches) in [
            ("*.go", "a.go", true, true),
            ("*.go", "d/a.go", true, false),
            ("**/*.go", "d/e/a.go", true, true),
            ("**/*.go", "a.go", true, true),
            ("**", "a/b", true, true),
            ("a/**", "a/b/c", true, true),
            ("a/**", "a", true, false),
            ("a/**/b", "a/b", true, true),
            ("a/**/b", "a/x/y/b", true, true),
            ("a/**/b", "a/xb", true, false),
            ("**foo", "xfoo", true, false),
            ("**foo", "x/foo", true, true),
            ("a**b", "axb", true, false),
            ("**/**/x", "x", true, true),
            ("a?c", "abc", true, true),
            ("a?c", "a/c", true, false),
            ("[a-c]x", "bx", true, true),
            ("[^a-c]x", "bx", true, false),
            ("[^a-c]x", "/x", false, false),
            ("\\*", "*", true, true),
            ("\\*", "a", true, false),
            ("a.b", "axb", true, false),
            ("**/x", "a/b", false, false),
            ("*/x", "a/x", false, true),
            ("ö*", "öü", false, true),
        ] {
            let glob = Glob::parse(pattern, deep).unwrap();
            assert_eq!(glob.matches(path), matches, "{pattern} {path}");
        }
        for bad in ["[", "[]", "[a", "[-]", "[a-", "\\", "[a-]"] {
            assert!(Glob::parse(bad, true).is_err(), "{bad}");
        }
        let slow = Glob::parse(&"*a".repeat(200), true).unwrap();
        assert!(!slow.matches(&"a".repeat(5000).replace("aaaaa", "aaaab")));
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, clean_path) in [
            ("", "."),
            ("a//b/", "a/b"),
            ("./a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("/", "/"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(clean(path), clean_path, "{path}");
        }
    }
}
