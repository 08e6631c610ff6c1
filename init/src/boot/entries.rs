//! `key=value` entries: lines of boot.conf and of a service's file, words of the kernel's command line. Pure.
//!
//! Text is read in place: what is left of it are entries one after the other, each ended by a NUL, so that every value
//! can go to the kernel as it lies there.

/// Why a line is none.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    /// Of the line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) why: &'static [u8],
}

/// Entries that have been read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// None.
    pub(crate) const NONE: Self = Self(&[]);

    /// Entries that were written so: each ends with a NUL.
    pub(crate) const fn of(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The first key and value, and what is behind them is left. A word without `=` has the empty value; the NUL is the
    /// value's last byte.
    #[inline(never)]
    pub(crate) fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (entry, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        let equals = entry.iter().position(|byte| *byte == b'=').unwrap_or(end);
        Some((entry.get(..equals)?, entry.get((equals + 1).min(end)..)?))
    }

    /// The bytes that they lie in.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes that are read and written in the same place; what is written never overtakes what is read.
struct InPlace<'a> {
    text: &'a mut [u8],
    at: usize,
    put: usize,
}

impl<'a> InPlace<'a> {
    fn new(text: &'a mut [u8]) -> Self {
        Self { text, at: 0, put: 0 }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn put(&mut self, byte: u8) {
        if let Some(slot) = self.text.get_mut(self.put) {
            *slot = byte;
            self.put += 1;
        }
    }

    fn entries(self) -> Entries<'a> {
        Entries(self.text.get(..self.put).unwrap_or_default())
    }
}

/// Read lines `key=value`, in which `\\` is a backslash and `\n` a newline; `#` begins a comment where a line does. The
/// last byte of `text` is not read: it is room for a NUL.
pub(crate) fn lines(text: &mut [u8]) -> Result<Entries<'_>, Refusal> {
    let end = text.len().saturating_sub(1);
    let mut place = InPlace::new(text);
    let mut line = 0;
    while place.at < end {
        line += 1;
        let (first, mut key) = (place.at, true);
        let begin = place.put;
        let comment = matches!(place.text.get(first), Some(b'#'));
        loop {
            let byte = if place.at < end { place.next().unwrap_or(b'\n') } else { b'\n' };
            let byte = match byte {
                b'\n' => break,
                _ if comment => continue,
                0 => return Err(Refusal { line, why: b"holds a NUL" }),
                b'\\' if !key => match (place.at < end).then(|| place.next()).flatten() {
                    Some(b'\\') => b'\\',
                    Some(b'n') => b'\n',
                    _ => {
                        return Err(Refusal {
                            line,
                            why: b"\\ is written \\\\, a newline \\n; nothing else",
                        });
                    }
                },
                byte => byte,
            };
            key &= byte != b'=';
            place.put(byte);
        }
        match place.put - begin {
            0 => {}
            _ if key => return Err(Refusal { line, why: b"is no key=value" }),
            _ => place.put(0),
        }
    }
    Ok(place.entries())
}

/// Read the words of a kernel's command line that begin with `prefix`, which is taken off: they are parted by blanks,
/// and `"` holds blanks together. The last byte of `text` is not read. The word that does not end is the error.
pub(crate) fn words<'a>(text: &'a mut [u8], prefix: &[u8]) -> Result<Entries<'a>, &'a [u8]> {
    let end = text.len().saturating_sub(1);
    let mut place = InPlace::new(text);
    while place.at < end {
        let begin = place.put;
        let mut quoted = false;
        while place.at < end {
            match place.next() {
                Some(0 | b'\n') => break,
                Some(b' ' | b'\t') if !quoted => break,
                Some(b'"') => quoted = !quoted,
                Some(byte) => place.put(byte),
                None => break,
            }
        }
        if quoted {
            return Err(place.text.get(begin..place.put).unwrap_or_default());
        }
        let word = place.text.get(begin..place.put).unwrap_or_default();
        let keep = word.starts_with(prefix) && word.len() > prefix.len();
        if keep {
            place.text.copy_within(begin + prefix.len()..place.put, begin);
            place.put -= prefix.len();
            place.put(0);
        } else {
            place.put = begin;
        }
    }
    Ok(place.entries())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: Entries<'_>) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut entries = entries;
        std::iter::from_fn(|| entries.next())
            .map(|(key, value)| (text(key), text(&value[..value.len() - 1])))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn read(text: &str) -> Result<Vec<(String, String)>, Refusal> {
        let mut text = format!("{text}\0").into_bytes();
        lines(&mut text).map(shown)
    }

    #[test]
    fn a_line_is_a_key_and_any_value() {
        for (text, expected) in [
            ("", &[][..]),
            ("a=b", &[("a", "b")]),
            ("a=b\n\n# c=d\nenv=X=y z\n", &[("a", "b"), ("env", "X=y z")]),
            ("arg=\narg=\\\\n\\n#\n", &[("arg", ""), ("arg", "\\n\n#")]),
            ("a=\u{e9}\n", &[("a", "\u{e9}")]),
            ("a = b ", &[("a ", " b ")]),
        ] {
            assert_eq!(read(text), Ok(pairs(expected)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_refused_by_its_number() {
        for (text, line) in [("a=b\nword\n", 2), ("a=\\", 1), ("#\n\na=\\t", 3), ("a=b\0c", 1), (" ", 1)] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn of_the_kernels_words_those_with_the_prefix_are_kept() {
        let line = "quiet init.arg=\"a b\" \"init.x=c d\" init.  initx=1 init.tty root=/dev/vda\n\0";
        let read = |prefix: &[u8]| shown(words(&mut line.to_owned().into_bytes(), prefix).unwrap());
        assert_eq!(read(b"init."), pairs(&[("arg", "a b"), ("x", "c d"), ("tty", "")]));
        assert_eq!(read(b"root="), pairs(&[("/dev/vda", "")]));
        assert_eq!(read(b"").len(), 7);
        assert_eq!(shown(words(&mut [], b"").unwrap()), []);
        let mut open = b"quiet init.arg=\"a b\n\0".to_owned();
        assert_eq!(words(&mut open, b"init."), Err(&b"init.arg=a b"[..]));
    }
}
