//! D-Bus messages as bytes, written and read: as much of the form as systemd's manager uses, little-endian.

use std::io::Read;

use coracle_sys::{Context, Error, Result};

use super::value::{Value, width};

/// No message of the manager's is near this many bytes.
const MOST: usize = 1 << 20;

/// A message that has come.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Which call it answers.
    pub(super) answers: u32,
    pub(super) member: String,
    pub(super) error: String,
    /// Whose connection it came from.
    pub(super) sender: String,
    pub(super) body: Vec<u8>,
}

/// A whole message. A field of its header is a code, a type and a text; `answers` is one that is a number.
pub(super) fn message(
    kind: u8,
    serial: u32,
    answers: u32,
    header: &[(u8, &str, &str)],
    body: &Body,
) -> Vec<u8> {
    let mut all = Body(vec![b'l', kind, 0, 1]);
    all.number(body.0.len() as u32);
    all.number(serial);
    let mut fields = Body::default();
    for (code, kind, text) in header.iter().filter(|(_, _, text)| !text.is_empty()) {
        fields.align(8);
        fields.0.push(*code);
        fields.signature(kind);
        match *kind {
            "g" => fields.signature(text),
            _ => fields.text(text),
        }
    }
    if answers != 0 {
        fields.align(8);
        fields.0.push(5);
        fields.signature("u");
        fields.number(answers);
    }
    all.number(fields.0.len() as u32);
    // The header is 16 bytes long here: what is aligned within the fields stays so.
    all.0.extend(&fields.0);
    all.align(8);
    all.0.extend(&body.0);
    all.0
}

/// What a message holds, as it is written.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// `a(sv)`
    pub(super) fn properties<'a>(&mut self, list: impl Iterator<Item = &'a (String, Value)>) {
        let length = self.length();
        self.align(8);
        let start = self.0.len();
        for (name, value) in list {
            self.align(8);
            self.text(name);
            self.signature(&value.signature());
            self.value(value);
        }
        self.fill(length, start);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Flag(on) => self.number(u32::from(*on)),
            Value::Number(code, n) => {
                self.align(width(*code));
                self.0.extend(&n.to_le_bytes()[..width(*code)]);
            }
            Value::Text('g', text) => self.signature(text),
            Value::Text(_, text) => self.text(text),
            Value::List(of, items) => {
                let length = self.length();
                self.align(of.chars().next().map_or(1, width));
                let start = self.0.len();
                items.iter().for_each(|item| self.value(item));
                self.fill(length, start);
            }
            Value::Tuple(items) => {
                self.align(8);
                items.iter().for_each(|item| self.value(item));
            }
        }
    }

    /// The place of an array's length, which is known later.
    fn length(&mut self) -> usize {
        self.number(0);
        self.0.len() - 4
    }

    fn fill(&mut self, at: usize, start: usize) {
        let length = (self.0.len() - start) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

impl Message {
    pub(super) fn read(from: &mut impl Read) -> Result<Self> {
        let mut head = [0; 16];
        let mut take = |bytes: &mut [u8]| from.read_exact(bytes).context(|| "read(systemd's bus)");
        take(&mut head)?;
        if head[0] != b'l' {
            return Err(Error::invalid("systemd's bus speaks in another order of bytes"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (body, fields) = (number(4) as usize, number(12) as usize);
        if body > MOST || fields > MOST {
            return Err(Error::invalid("a message of systemd's bus is too long"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        take(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        let mut message = Self { kind: head[1], body, ..Self::default() };
        let mut read = Reader::of(&rest[..fields]);
        while read.at < fields {
            read.align(8);
            let code = read.byte()?;
            match (code, read.signature()?.as_str()) {
                (3, "s") => message.member = read.text()?,
                (4, "s") => message.error = read.text()?,
                (5, "u") => message.answers = read.number()?,
                (7, "s") => message.sender = read.text()?,
                (_, "s" | "o") => drop(read.text()?),
                (_, "u") => drop(read.number()?),
                (_, "g") => drop(read.signature()?),
                _ => return Err(Error::invalid("a message of systemd's bus has an unknown field")),
            }
        }
        Ok(message)
    }
}

/// A message's bytes, as they are read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.saturating_add(length);
        let part = self.bytes.get(self.at..end);
        self.at = end;
        part.ok_or_else(|| Error::invalid("a message of systemd's bus ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        self.align(4);
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }

    pub(super) fn signature(&mut self) -> Result<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }
}
