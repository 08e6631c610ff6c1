//! Slimming: which paths stay out, by patterns as dpkg's `path-exclude` and `path-include` have them (dpkg(1)): `*` and
//! `?` stand for slashes too. What is included stays, whatever excludes it.

/// The patterns of a layer.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// What stays out.
    pub exclude: Vec<String>,
    /// What stays all the same.
    pub include: Vec<String>,
}

impl Paths {
    /// Does a path, with a slash before it, stay out?
    pub fn leaves_out(&self, path: &str) -> bool {
        any(&self.exclude, path) && !any(&self.include, path)
    }
}

/// Does any of the patterns stand for a path?
pub fn any(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|p| matches(p.as_bytes(), path.as_bytes()))
}

/// fnmatch(3) without flags. One star is remembered at a time, so that no pattern takes long.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        match text.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            Some(used) => (p, t) = (p + used, t + 1),
            None => match star {
                Some((after, from)) if from < text.len() => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// How much of the pattern stands for one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => {
            let not = matches!(pattern.get(1), Some(b'!' | b'^'));
            let from = if not { 2 } else { 1 };
            // A bracket that comes first is one of the set.
            let Some(end) = pattern.iter().skip(from + 1).position(|b| *b == b']').map(|n| n + from + 1)
            else {
                return (byte == b'[').then_some(1);
            };
            let set = &pattern[from..end];
            let mut found = false;
            let mut n = 0;
            while n < set.len() {
                if n + 2 < set.len() && set[n + 1] == b'-' {
                    found |= (set[n]..=set[n + 2]).contains(&byte);
                    n += 3;
                } else {
                    found |= set[n] == byte;
                    n += 1;
                }
            }
            (found != not).then_some(end + 1)
        }
        other => (other == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_dpkg() {
        for (pattern, path, hit) in [
            ("/usr/share/doc/*", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/*", "/usr/share/doc", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true),
            ("/usr/share/man/??/*", "/usr/share/man/de/x", true),
            ("/usr/share/locale/[a-df]*", "/usr/share/locale/de", true),
            ("/usr/share/locale/[a-df]*", "/usr/share/locale/es", false),
            ("/usr/share/locale/[!a-d]*", "/usr/share/locale/es", true),
            ("*/__pycache__/*", "/usr/lib/a/__pycache__/b.pyc", true),
            ("/a[", "/a[", true),
            ("/a[]]", "/a]", true),
            ("/a\\*", "/a*", true),
            ("/a\\*", "/ab", false),
            ("", "/a", false),
            ("*a*a*a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), path.as_bytes()), hit, "{pattern} {path}");
        }
        let paths = Paths {
            exclude: vec!["/usr/share/doc/*".into()],
            include: vec!["/usr/share/doc/*/copyright".into()],
        };
        assert!(
            paths.leaves_out("/usr/share/doc/a/README") && !paths.leaves_out("/usr/share/doc/a/copyright")
        );
    }
}
