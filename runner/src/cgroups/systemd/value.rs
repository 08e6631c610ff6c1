//! Values of D-Bus: those of a unit's properties, and how people write them, which is GVariant's text form:
//! `true`, `'text'`, `uint64 5`, `['a', 'b']`, `[('/dev/null', 'rw')]`.

use coracle_sys::{Error, Result};

/// A value. Where it has a code, that is the letter of its type in a signature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `b`
    Flag(bool),
    /// `y n q i u x t d`, and its bits.
    Number(char, u64),
    /// `s o g`
    Text(char, String),
    /// `a`, and the signature of what is in it.
    List(String, Vec<Value>),
    /// `( )`
    Tuple(Vec<Value>),
}

/// Types of numbers: code, name, bytes, least and greatest.
const NUMBERS: [(char, &str, usize, i128, i128); 8] = [
    ('y', "byte", 1, 0, u8::MAX as i128),
    ('n', "int16", 2, i16::MIN as i128, i16::MAX as i128),
    ('q', "uint16", 2, 0, u16::MAX as i128),
    ('i', "int32", 4, i32::MIN as i128, i32::MAX as i128),
    ('u', "uint32", 4, 0, u32::MAX as i128),
    ('x', "int64", 8, i64::MIN as i128, i64::MAX as i128),
    ('t', "uint64", 8, 0, u64::MAX as i128),
    ('d', "double", 8, 0, 0),
];

/// Other types that can be named.
const NAMES: [(char, &str); 4] = [('b', "boolean"), ('s', "string"), ('o', "objectpath"), ('g', "signature")];

impl Value {
    /// A string.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text('s', text.into())
    }

    /// An unsigned number of 64 bits.
    pub(super) fn number(n: u64) -> Self {
        Self::Number('t', n)
    }

    /// Its type.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Flag(_) => "b".into(),
            Self::Number(code, _) | Self::Text(code, _) => code.to_string(),
            Self::List(of, _) => format!("a{of}"),
            Self::Tuple(of) => format!("({})", of.iter().map(Self::signature).collect::<String>()),
        }
    }

    /// Read GVariant's text form.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut rest = Text { rest: text.trim(), depth: 0 };
        let read = rest.value("").filter(|_| rest.rest.is_empty());
        read.ok_or_else(|| Error::invalid(format!("{text:?} is no value as GVariant's text form has it")))
    }

    /// A span of seconds in microseconds.
    pub(super) fn microseconds(&self) -> Option<Self> {
        let Self::Number(code, n) = *self else { return None };
        let us = match code {
            'd' => Some((f64::from_bits(n) * 1e6) as u64),
            _ => n.checked_mul(1_000_000),
        };
        us.map(Self::number)
    }
}

/// Bytes that a value's beginning is aligned to, and that a number has.
pub(super) fn width(code: char) -> usize {
    match NUMBERS.iter().find(|n| n.0 == code) {
        Some(number) => number.2,
        None if code == '(' => 8,
        None if code == 'g' => 1,
        None => 4,
    }
}

/// What is left to be read.
struct Text<'a> {
    rest: &'a str,
    /// In how many values the next one is.
    depth: usize,
}

/// As deep as D-Bus lets lists and tuples be together.
const DEEPEST: usize = 64;

impl<'a> Text<'a> {
    /// Take what `is` in front, and the space behind it.
    fn take(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn next_is(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    /// A value of a type, where that is known: an empty signature leaves it open.
    fn value(&mut self, of: &str) -> Option<Value> {
        if self.depth == DEEPEST {
            return None;
        }
        self.depth += 1;
        let value = self.one(of);
        self.depth -= 1;
        value
    }

    fn one(&mut self, of: &str) -> Option<Value> {
        let code = of.chars().next();
        match self.rest.chars().next()? {
            '@' => {
                let of = self.take(|c| !c.is_whitespace()).get(1..)?;
                self.value(of).filter(|value| value.signature() == of)
            }
            quote @ ('\'' | '"') => {
                let code = Some(code.unwrap_or('s')).filter(|code| "sog".contains(*code))?;
                Some(Value::Text(code, self.quoted(quote)?))
            }
            '[' => {
                let mut of = of.get(1..).unwrap_or_default().to_owned();
                let mut items: Vec<Value> = Vec::new();
                while let Some(place) = self.place(items.len(), ']')? {
                    let item = self.value(&of)?;
                    // What the first one is, all are.
                    if place == 0 {
                        of = item.signature();
                    }
                    items.push(item);
                }
                let alike = !of.is_empty() && items.iter().all(|item| item.signature() == of);
                alike.then_some(Value::List(of, items))
            }
            '(' => {
                let mut items = Vec::new();
                while self.place(items.len(), ')')?.is_some() {
                    items.push(self.value("")?);
                }
                Some(Value::Tuple(items))
            }
            c if c.is_ascii_alphabetic() => {
                let word = self.take(|c| c.is_ascii_alphanumeric());
                if matches!(word, "true" | "false") {
                    return Some(Value::Flag(word == "true"));
                }
                let names = NAMES.iter().copied().chain(NUMBERS.iter().map(|n| (n.0, n.1)));
                let code = names.into_iter().find(|(_, name)| *name == word)?.0;
                self.value(&code.to_string())
            }
            _ => number(self.take(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)), code),
        }
    }

    /// Go on to the next item of a list or tuple, of which `n` have been read, if there is one.
    fn place(&mut self, n: usize, close: char) -> Option<Option<usize>> {
        if n == 0 {
            self.rest = self.rest.get(1..)?.trim_start();
        }
        if self.next_is(close) {
            return Some(None);
        }
        (n == 0 || self.next_is(',')).then_some(Some(n))
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                c if c == quote => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }
}

fn number(text: &str, code: Option<char>) -> Option<Value> {
    let code = code.unwrap_or(if text.contains('.') { 'd' } else { 'i' });
    if code == 'd' {
        // Reading every number to its last bit takes the standard library 15 kB.
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let n = format!("{whole}{part}").parse::<i64>().ok()? as f64;
        let n = n / 10_f64.powi(part.len().try_into().ok()?);
        return Some(Value::Number(code, n.to_bits()));
    }
    let (_, _, _, least, greatest) = *NUMBERS.iter().find(|n| n.0 == code)?;
    let n = match text.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let n = n.ok().filter(|n| (least..=greatest).contains(n))?;
    Some(Value::Number(code, n as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_gvariant_writes_them() {
        let text = |s: &str| Value::text(s);
        for (typed, value) in [
            ("true", Value::Flag(true)),
            (" 'it\\'s' ", text("it's")),
            ("\"a b\"", text("a b")),
            ("5", Value::Number('i', 5)),
            ("-5", Value::Number('i', -5_i64 as u64)),
            ("uint64 18446744073709551615", Value::number(u64::MAX)),
            ("@t 0x10", Value::number(16)),
            ("byte 7", Value::Number('y', 7)),
            ("1.5", Value::Number('d', 1.5_f64.to_bits())),
            ("['a', 'b']", Value::List("s".into(), vec![text("a"), text("b")])),
            ("@as []", Value::List("s".into(), vec![])),
            ("[uint64 1, 2]", Value::List("t".into(), vec![Value::number(1), Value::number(2)])),
            (
                "[('/dev/null', 'rw')]",
                Value::List("(ss)".into(), vec![Value::Tuple(vec![text("/dev/null"), text("rw")])]),
            ),
            ("objectpath '/a'", Value::Text('o', "/a".into())),
        ] {
            assert_eq!(Value::parse(typed).ok(), Some(value), "{typed}");
        }
        for bad in [
            "",
            "maybe",
            "'open",
            "[]",
            "['a'",
            "5 6",
            "byte 256",
            "@t 'x'",
            "uint32 -1",
            "[1,,2]",
            "[1, 'a']",
            "(",
            "@",
        ] {
            assert!(Value::parse(bad).is_err(), "{bad}");
        }
        for deep in ["[", "(", "byte ", "@s"] {
            assert!(Value::parse(&deep.repeat(1 << 20)).is_err(), "{deep}");
        }
        assert_eq!(Value::parse("1.5").unwrap().microseconds(), Some(Value::number(1_500_000)));
        assert_eq!(Value::parse("uint64 3").unwrap().microseconds(), Some(Value::number(3_000_000)));
        assert_eq!(text("3").microseconds(), None);
    }
}
