//! The flags of one instruction: taken by name, and what is left over refused.

use coracle_sys::{Error, Result};

use super::suggest::suggest;

/// Flags as they were typed, `--name` or `--name=value`.
pub(crate) struct Flags {
    left: Vec<(String, Option<String>)>,
    known: Vec<&'static str>,
}

impl Flags {
    pub(crate) fn new(words: &[String]) -> Self {
        let split = |word: &String| {
            let word = word.strip_prefix("--").unwrap_or(word);
            match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }
        };
        Self { left: words.iter().map(split).collect(), known: Vec::new() }
    }

    /// Every value of a flag.
    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Vec<String>> {
        self.known.push(name);
        let mine: Vec<_> = self.left.extract_if(.., |(n, _)| n == name).collect();
        let value = |(_, value): (String, Option<String>)| {
            value.ok_or_else(|| Error::invalid(format!("missing a value on flag: --{name}")))
        };
        mine.into_iter().map(value).collect()
    }

    /// The one value of a flag.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        let mut all = self.texts(name)?;
        match all.len() {
            0 | 1 => Ok(all.pop()),
            _ => Err(Error::invalid(format!("duplicate flag specified: {name}"))),
        }
    }

    /// One of these words.
    pub(crate) fn choice(&mut self, name: &'static str, words: &[&str]) -> Result<Option<String>> {
        let said = self.text(name)?;
        match &said {
            Some(word) if !words.contains(&word.as_str()) => {
                Err(Error::invalid(format!("--{name}={word}: there are {}", words.join(", "))))
            }
            _ => Ok(said),
        }
    }

    /// A flag that is on where it has no value.
    pub(crate) fn switch(&mut self, name: &'static str) -> Result<Option<bool>> {
        self.known.push(name);
        let mine: Vec<_> = self.left.extract_if(.., |(n, _)| n == name).collect();
        match &mine[..] {
            [] => Ok(None),
            [(_, value)] => match value.as_deref() {
                None | Some("" | "true") => Ok(Some(true)),
                Some("false") => Ok(Some(false)),
                Some(other) => {
                    Err(Error::invalid(format!("expecting boolean value for flag {name}, not: {other}")))
                }
            },
            _ => Err(Error::invalid(format!("duplicate flag specified: {name}"))),
        }
    }

    /// Nothing is left that nobody has asked for.
    pub(crate) fn finish(self) -> Result<()> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let near = suggest(name, &self.known).map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
        Err(Error::invalid(format!("unknown flag: --{name}{near}")))
    }
}
