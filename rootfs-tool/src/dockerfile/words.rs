//! Words of a Dockerfile: variables with their modifiers, quotes and escapes. Which variables there are, and which
//! instruction has its words expanded, is the callers' business.

use coracle_sys::{Error, Result};

use super::pattern::Pattern;

/// The value of a variable, where it is set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value may grow from line to line; beyond this it is refused.
const MAX_VALUE: usize = 1 << 20;

/// `${a:-${b:-${c}}}` is nested three deep.
const MAX_DEPTH: usize = 64;

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer {
    /// The character that takes the meaning from the next one.
    pub(crate) escape: char,
    /// Quotes are characters like others, as they are in a heredoc.
    pub(crate) plain_quotes: bool,
}

impl Lexer {
    /// With quotes.
    pub(crate) fn new(escape: char) -> Self {
        Self { escape, plain_quotes: false }
    }

    /// One word, expanded, its quotes and escapes taken away.
    pub(crate) fn word(&self, text: &str, lookup: Lookup<'_>) -> Result<String> {
        self.run(text, lookup).map(|scan| scan.0)
    }

    /// Words, expanded, and split at spaces that are neither quoted nor escaped.
    pub(crate) fn words(&self, text: &str, lookup: Lookup<'_>) -> Result<Vec<String>> {
        self.run(text, lookup).map(|scan| scan.1.finish())
    }

    fn run(&self, text: &str, lookup: Lookup<'_>) -> Result<(String, Words)> {
        let mut scan = Scan { lexer: *self, chars: text.chars().collect(), at: 0, lookup, depth: 0 };
        scan.until(None, false).map_err(|e| e.wrap(format!("expand {text:?}")))
    }
}

/// Words as they come.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    fn char(&mut self, c: char) {
        match c.is_whitespace() {
            true if self.word.is_empty() => {}
            true => self.done.push(std::mem::take(&mut self.word)),
            false => self.word.push(c),
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Scan<'a> {
    lexer: Lexer,
    chars: Vec<char>,
    at: usize,
    lookup: Lookup<'a>,
    depth: usize,
}

fn syntax(what: &str) -> Error {
    Error::invalid(format!("syntax error: {what}"))
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Up to a character, which is taken as well, or to the end. With `raw` escapes stay in the text.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(String, Words)> {
        let (mut out, mut words) = (String::new(), Words::default());
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok((out, words));
            }
            match c {
                '\'' | '"' if !self.lexer.plain_quotes => {
                    let text = if c == '"' { self.double_quoted(raw)? } else { self.single_quoted()? };
                    out.push_str(&text);
                    words.word.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    out.push_str(&text);
                    text.chars().for_each(|c| words.char(c));
                }
                c if c == self.lexer.escape => {
                    if raw {
                        out.push(c);
                        words.word.push(c);
                    }
                    let Some(c) = self.next() else { break };
                    out.push(c);
                    words.word.push(c);
                }
                c => {
                    out.push(c);
                    words.char(c);
                }
            }
            if out.len() > MAX_VALUE {
                return Err(Error::invalid(format!("it is longer than {MAX_VALUE} bytes")));
            }
        }
        match stop {
            Some('}') => Err(syntax("missing '}'")),
            Some(c) => Err(syntax(&format!("missing '{c}' in ${{}}"))),
            None => Ok((out, words)),
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(out),
                Some(c) => out.push(c),
                None => return Err(unmatched("single-quote")),
            }
        }
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.next() {
                None => return Err(unmatched("double-quote")),
                Some('"') => return Ok(out),
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    if raw {
                        out.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == c => {
                            self.at += 1;
                            out.push(next);
                        }
                        Some(_) if raw => {}
                        Some(_) => out.push(c),
                    }
                }
                Some(c) => out.push(c),
            }
            if out.len() > MAX_VALUE {
                return Err(Error::invalid(format!("it is longer than {MAX_VALUE} bytes")));
            }
        }
    }

    /// What stands behind a dollar.
    fn dollar(&mut self) -> Result<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.lookup)(&name).unwrap_or_default()
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(syntax("missing '}'")),
            Some('{' | '}' | ':') => return Err(syntax("bad substitution")),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::invalid(format!("substitutions are nested deeper than {MAX_DEPTH}")));
        }
        let value = self.braces();
        self.depth -= 1;
        value
    }

    fn braces(&mut self) -> Result<String> {
        let name = self.name();
        let Some(first) = self.next() else { return Err(syntax("missing '}'")) };
        let null_is_unset = first == ':';
        let operator = if null_is_unset { self.next() } else { Some(first) };
        let unsupported = || {
            let text: String =
                [Some(first), operator.filter(|_| null_is_unset)].into_iter().flatten().collect();
            Error::invalid(format!("unsupported modifier ({text}) in substitution"))
        };
        let value = |scan: &Self| (scan.lookup)(&name);
        Ok(match operator {
            Some('}') if !null_is_unset => value(self).unwrap_or_default(),
            Some('-') => {
                let word = self.until(Some('}'), false)?.0;
                value(self).filter(|v| !(null_is_unset && v.is_empty())).unwrap_or(word)
            }
            Some('+') => {
                let word = self.until(Some('}'), false)?.0;
                value(self).filter(|v| !(null_is_unset && v.is_empty())).map(|_| word).unwrap_or_default()
            }
            Some('?') => {
                let word = self.until(Some('}'), false)?.0;
                let complain = |otherwise: &str| {
                    let why = if word.is_empty() { otherwise } else { &word };
                    Error::invalid(format!("{name}: {why}"))
                };
                let value = value(self).ok_or_else(|| complain("is not allowed to be unset"))?;
                if null_is_unset && value.is_empty() {
                    return Err(complain("is not allowed to be empty"));
                }
                value
            }
            Some(end @ ('#' | '%')) if !null_is_unset => {
                let word = self.until(Some('}'), true)?.0;
                let (longest, pattern) = match word.strip_prefix(end) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(pattern)?;
                let value = value(self).unwrap_or_default();
                match end {
                    '#' => pattern.without_prefix(&value, longest),
                    _ => pattern.without_suffix(&value, longest),
                }
            }
            Some('/') if !null_is_unset => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.until(Some('/'), true)?.0;
                let replacement = self.until(Some('}'), true)?.0;
                Pattern::parse(&pattern)?.replace(&value(self).unwrap_or_default(), &replacement, all)
            }
            None => return Err(syntax("missing '}'")),
            Some(_) => return Err(unsupported()),
        })
    }

    /// A name, a number, or one of the shell's own.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let digits = name.starts_with(|c: char| c.is_ascii_digit());
            let part = match name.is_empty() {
                true if "@*#?-$!".contains(c) => {
                    self.at += 1;
                    return c.to_string();
                }
                true => c.is_alphanumeric() || c == '_',
                false if digits => c.is_ascii_digit(),
                false => c.is_alphanumeric() || c == '_',
            };
            if !part {
                break;
            }
            self.at += 1;
            name.push(c);
        }
        name
    }
}

fn unmatched(quote: &str) -> Error {
    Error::invalid(format!("unexpected end of statement while looking for matching {quote}"))
}

#[cfg(test)]
mod tests;
