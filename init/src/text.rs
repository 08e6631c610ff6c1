//! Short texts: paths made in place, numbers written and read, words in lists.

use core::ffi::CStr;

use crate::sys::text_of;

/// A path being made. One that became too long is the empty path, which no call accepts.
pub(crate) struct Path {
    bytes: [u8; 256],
    len: usize,
}

impl Path {
    /// One that begins so.
    pub(crate) fn new(begin: &[u8]) -> Self {
        let mut path = Self { bytes: [0; 256], len: 0 };
        path.text(begin);
        path
    }

    /// Append text.
    pub(crate) fn text(&mut self, text: &[u8]) -> &mut Self {
        for byte in text {
            // The last byte stays a NUL.
            match self.bytes.get_mut(self.len) {
                Some(slot) if self.len < 255 => *slot = *byte,
                _ => self.bytes[0] = 0,
            }
            self.len += 1;
        }
        self
    }

    /// Append a number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.text(decimal(number, &mut [0; 20]))
    }

    /// As the system calls take it.
    pub(crate) fn c(&self) -> &CStr {
        text_of(&self.bytes)
    }

    /// Without the NUL.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.c().to_bytes()
    }
}

/// The decimal digits of `number`, written at the end of `digits`.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    digits.get(20 - used..).unwrap_or_default()
}

/// A number of decimal digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The part before the first `byte`, and the part behind it; nothing when there is none.
pub(crate) fn cut(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The parts of a text between bytes such as `,`; one more than there are of these.
pub(crate) fn parts(text: &[u8], byte: u8) -> Parts<'_> {
    Parts { rest: Some(text), byte }
}

/// One function for all, which a closure for each place would not be.
pub(crate) struct Parts<'a> {
    rest: Option<&'a [u8]>,
    byte: u8,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    #[inline(never)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        match cut(text, self.byte) {
            Some((part, rest)) => {
                self.rest = Some(rest);
                Some(part)
            }
            None => self.rest.take(),
        }
    }
}

/// Which of these words, parted by blanks, a word is; from 0.
pub(crate) fn position(word: &[u8], words: &[u8]) -> Option<usize> {
    parts(words, b' ').position(|known| known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_too_long_is_none() {
        let mut path = Path::new(b"/dev/");
        path.text(b"tty").number(12);
        assert_eq!(path.c(), c"/dev/tty12");
        path.text(&[b'x'; 245]);
        assert_eq!(path.bytes().len(), 255);
        path.text(b"y");
        assert_eq!(path.c(), c"");
        assert_eq!(path.text(b"z").c(), c"");
    }

    #[test]
    fn numbers_are_digits_alone() {
        for (text, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn parts_are_what_is_between() {
        let shown = |text: &'static str| parts(text.as_bytes(), b',').map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(shown("a,,b"), [&b"a"[..], b"", b"b"]);
        assert_eq!((shown(""), shown(",")), (vec![vec![]], vec![vec![], vec![]]));
        assert_eq!(
            (position(b"b", b"a b"), position(b"c", b"a b"), position(b"", b"a b")),
            (Some(1), None, None)
        );
    }

    #[test]
    fn texts_are_cut_once() {
        assert_eq!(cut(b"a:b:c", b':'), Some((&b"a"[..], &b"b:c"[..])));
        assert_eq!(cut(b"abc", b':'), None);
    }
}
