//! `.dockerignore`, and the other lists of patterns of which the last that matches counts: `--exclude`.

use coracle_sys::{Error, Result};

use super::glob::{Glob, clean};

/// A file of patterns is refused beyond this size.
pub(crate) const MAX_SIZE: u64 = 1 << 20;

/// One pattern.
#[derive(Clone, Debug)]
struct Rule {
    text: String,
    glob: Glob,
    /// `!`: what matches is not ignored after all.
    back: bool,
}

/// Patterns, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore(Vec<Rule>);

impl Ignore {
    /// The patterns of a file.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = if line.starts_with('#') { "" } else { line.trim() };
            let (back, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                if back {
                    return Err(Error::invalid(format!("line {}: illegal exclusion pattern: \"!\"", n + 1)));
                }
                continue;
            }
            let path = clean(line);
            let path = path.strip_prefix('/').filter(|p| !p.is_empty()).unwrap_or(&path);
            patterns.push(format!("{}{path}", if back { "!" } else { "" }));
        }
        Self::of(&patterns)
    }

    /// Patterns that were given one by one.
    pub(crate) fn of(patterns: &[String]) -> Result<Self> {
        let mut rules = Vec::new();
        for pattern in patterns {
            let (back, text) = match pattern.trim().strip_prefix('!') {
                Some("") => return Err(Error::invalid("illegal exclusion pattern: \"!\"")),
                Some(rest) => (true, rest),
                None => (false, pattern.trim()),
            };
            if !text.is_empty() {
                let text = clean(text);
                rules.push(Rule { glob: Glob::parse(&text, true)?, text, back });
            }
        }
        Ok(Self(rules))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is a path ignored, by itself or with a directory that it is in? As BuildKit has it, what holds of a directory
    /// holds of all in it, and a rule that would have changed nothing does not hold of it.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut above = vec![false; self.0.len()];
        let mut ignored = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            ignored = false;
            for (rule, holds) in self.0.iter().zip(&mut above) {
                *holds = *holds || rule.back == ignored && rule.glob.matches(&path[..end]);
                if *holds {
                    ignored = !rule.back;
                }
            }
        }
        ignored
    }

    /// May something in an ignored directory not be ignored?
    pub(crate) fn may_take_back(&self, dir: &str) -> bool {
        let beneath = format!("{dir}/");
        self.0.iter().filter(|rule| rule.back).any(|rule| {
            let wild = rule.text.find(['*', '?', '[', '\\']);
            let fixed = &rule.text[..wild.unwrap_or(rule.text.len())];
            match wild {
                Some(_) => fixed.starts_with(&beneath) || beneath.starts_with(fixed),
                None => fixed.starts_with(&beneath) || format!("{fixed}/") == beneath,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_counts() {
        for (file, path, ignored) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/", "a", true),
            ("  a  ", "a", true),
            ("# a", "a", false),
            (" # a", "# a", true),
            ("\u{feff}a", "a", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "x.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("a\n!a/b", "a/b/c", false),
            ("a/**/x\n!a/b", "a/b/x", true),
            ("a/**/x\n!a/b/x", "a/b/x", false),
            ("a/b\n!a/b/c\na/b/c/d", "a/b/c/d/e", true),
            ("a\n! a/b ", "a/b", false),
            ("a\n!a/b", "a/c", true),
            ("**/x", "d/e/x/f", true),
            ("**\n!keep", "keep", false),
            ("*\n!d/**/*.go", "d/e/x.go", false),
            ("*/temp*", "d/temporary", true),
            ("*/*/temp*", "d/temporary", false),
            ("temp?", "tempa", true),
            (".", "a", false),
            ("a/../b", "b", true),
            ("d/**", "d", false),
            ("d/**", "d/x", true),
            ("", "a", false),
        ] {
            assert_eq!(Ignore::read(file).unwrap().matches(path), ignored, "{file:?} {path:?}");
        }
        assert!(Ignore::read("!").is_err());
        assert!(Ignore::read("[").unwrap_err().to_string().contains("syntax error in pattern"));
    }

    #[test]
    fn an_ignored_directory_is_entered_where_something_may_be_taken_back() {
        for (file, dir, enter) in [
            ("a\n!a/b/c", "a", true),
            ("a\n!a/b/c", "a/b", true),
            ("a\n!a/b/c", "a/x", false),
            ("a\n!ab", "a", false),
            ("a\n!**/*.go", "a", true),
            ("a\n!a", "a", true),
            ("a", "a", false),
        ] {
            assert_eq!(Ignore::read(file).unwrap().may_take_back(dir), enter, "{file:?} {dir:?}");
        }
    }
}
