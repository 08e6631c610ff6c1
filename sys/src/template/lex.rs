//! The words of an action: what stands between `{{` and `}}`.

use serde_json::Value;

use crate::{Error, Result};

/// One word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.A`; whether it follows the word before it without a blank.
    Field(String, bool),
    /// `$x`, or `$` alone, without its dollar.
    Variable(String),
    /// A keyword or a function.
    Word(String),
    /// A string, a number, true, false or nil.
    Literal(Value),
    /// `(`, `)`, `|`, `,`, `=`, and `:` for `:=`.
    Mark(char),
}

/// A part of a template.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// Cut a template into text and actions. Comments are left out; `{{-` and `-}}` take the blanks beside them away.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>> {
    let mut out = Vec::new();
    let mut rest = template;
    let mut trim = false;
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = if trim { text.trim_start() } else { text };
        let ends_in_trim = |a: &str| a.starts_with("- ") || a.starts_with("-\n");
        let text = if action.is_some_and(ends_in_trim) { text.trim_end() } else { text };
        if !text.is_empty() {
            out.push(Piece::Text(text.to_owned()));
        }
        let Some(action) = action else { return Ok(out) };
        let action = if ends_in_trim(action) { &action[1..] } else { action };
        let comment = action.trim_start().strip_prefix("/*");
        let (tokens, after) = match comment {
            Some(comment) => {
                let end = comment.split_once("*/").map(|(_, end)| end.trim_start());
                (None, end.ok_or_else(|| Error::usage("a comment has no end"))?)
            }
            None => {
                let (tokens, after) = tokens(action)?;
                (Some(tokens), after)
            }
        };
        out.extend(tokens.map(Piece::Action));
        trim = after.starts_with('-');
        let after = after.strip_prefix('-').unwrap_or(after);
        rest = after.strip_prefix("}}").ok_or_else(|| Error::usage("an action has no end: }} is missing"))?;
    }
}

/// The words of one action, and the template from its `}}` or `-}}` on.
fn tokens(action: &str) -> Result<(Vec<Token>, &str)> {
    let mut out = Vec::new();
    let mut rest = action;
    loop {
        let word = rest.trim_start();
        let touching = word.len() == rest.len() && !out.is_empty();
        let Some(first) = word.chars().next() else {
            return Err(Error::usage("an action has no end: }} is missing"));
        };
        if word.starts_with("}}") || word.starts_with("-}}") {
            return Ok((out, word));
        }
        let name = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (token, length) = match first {
            '"' => string(word)?,
            '`' => {
                let end = word[1..].find('`').ok_or_else(|| Error::usage("a string has no end"))?;
                (Token::Literal(word[1..=end].into()), end + 2)
            }
            '.' => match name(&word[1..]) {
                0 => (Token::Dot, 1),
                n => (Token::Field(word[1..=n].to_owned(), touching), n + 1),
            },
            '$' => {
                let n = name(&word[1..]);
                (Token::Variable(word[1..=n].to_owned()), n + 1)
            }
            ':' if word.starts_with(":=") => (Token::Mark(':'), 2),
            '(' | ')' | '|' | ',' | '=' => (Token::Mark(first), 1),
            c if c.is_ascii_digit() || c == '-' => {
                let end =
                    word[1..].find(|c: char| !(c.is_ascii_digit() || c == '.')).map_or(word.len(), |n| n + 1);
                let number: Option<serde_json::Number> = word[..end].parse().ok();
                (Token::Literal(number.ok_or_else(|| unknown(&word[..end]))?.into()), end)
            }
            _ => match name(word) {
                0 => return Err(unknown(&first.to_string())),
                n => (named(&word[..n]), n),
            },
        };
        out.push(token);
        rest = &word[length..];
    }
}

fn named(word: &str) -> Token {
    match word {
        "true" => Token::Literal(true.into()),
        "false" => Token::Literal(false.into()),
        "nil" => Token::Literal(Value::Null),
        word => Token::Word(word.to_owned()),
    }
}

/// A string in double quotes, with Go's common escapes.
fn string(word: &str) -> Result<(Token, usize)> {
    let mut out = String::new();
    let mut chars = word.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Literal(out.into()), at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('"' | '\\' | '\'')) => out.push(c),
                other => return Err(unknown(&format!("\\{}", other.unwrap_or(' ')))),
            },
            c => out.push(c),
        }
    }
    Err(Error::usage("a string has no end"))
}

fn unknown(word: &str) -> Error {
    Error::usage(format!("{word:?} is not understood"))
}
