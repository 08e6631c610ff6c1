//! One line on stderr at a time, made in place: no allocator, no formatting machinery.

use crate::sys::{self, Errno};

/// A line being made. What does not fit is cut off.
pub(crate) struct Line {
    bytes: [u8; 400],
    len: usize,
}

impl Line {
    /// A line that begins with the program's name.
    pub(crate) fn new() -> Self {
        let mut line = Self { bytes: [0; 400], len: 0 };
        line.text(b"init: ");
        line
    }

    /// Append text.
    pub(crate) fn text(&mut self, text: &[u8]) -> &mut Self {
        for &byte in text {
            self.push(byte);
        }
        self
    }

    /// Append a number.
    pub(crate) fn number(&mut self, number: i64) -> &mut Self {
        let mut digits = [0; 20];
        let sign: &[u8] = if number < 0 { b"-" } else { b"" };
        self.text(sign).text(decimal(number.unsigned_abs(), &mut digits))
    }

    /// Append a duration in microseconds as seconds with three places.
    pub(crate) fn seconds(&mut self, micros: i64) -> &mut Self {
        let millis = micros / 1000 % 1000;
        let zeros: &[u8] = match millis {
            0..10 => b".00",
            10..100 => b".0",
            _ => b".",
        };
        self.number(micros / 1_000_000).text(zeros).number(millis)
    }

    /// Append what an errno means. Only what exec and fork return has words.
    pub(crate) fn errno(&mut self, errno: Errno) -> &mut Self {
        let words: &[u8] = match errno.0 {
            libc::ENOENT => b"not found",
            libc::EACCES => b"permission denied",
            libc::ENOEXEC => b"not a program that this machine can execute (a script without #!?)",
            libc::EISDIR => b"is a directory",
            libc::ENOTDIR => b"a part of the path is not a directory",
            libc::ELOOP => b"too many symbolic links",
            libc::E2BIG => b"argument list too long",
            libc::ENAMETOOLONG => b"file name too long",
            libc::ETXTBSY => b"the file is open for writing",
            libc::EPERM => b"operation not permitted",
            libc::ENOMEM => b"out of memory",
            libc::EAGAIN => b"no more processes allowed here",
            _ => return self.text(b"errno ").number(i64::from(errno.0)),
        };
        self.text(words)
    }

    /// Write it, waiting for the reader if need be: for what ends the program.
    pub(crate) fn complain(&mut self) {
        sys::write(2, self.finish());
    }

    /// Write it if that can be done without waiting, else drop it: a reader of stderr that has
    /// stopped reading must not stop the forwarding of signals.
    pub(crate) fn say(&mut self) {
        sys::write_stderr_now(self.finish());
    }

    fn push(&mut self, byte: u8) {
        // The last byte is kept for the newline.
        if self.len + 1 < self.bytes.len()
            && let Some(slot) = self.bytes.get_mut(self.len)
        {
            *slot = byte;
            self.len += 1;
        }
    }

    fn finish(&mut self) -> &[u8] {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &mut Line) -> String {
        String::from_utf8(line.finish().to_vec()).unwrap()
    }

    #[test]
    fn numbers_and_durations_are_written_in_full() {
        assert_eq!(shown(Line::new().number(-120)), "init: -120\n");
        assert_eq!(shown(Line::new().number(i64::MIN)), "init: -9223372036854775808\n");
        assert_eq!(shown(Line::new().seconds(1_002_999)), "init: 1.002\n");
        assert_eq!(shown(Line::new().seconds(50_000)), "init: 0.050\n");
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let line = shown(Line::new().text(&[b'x'; 1000]));
        assert_eq!(line.len(), 400);
        assert!(line.ends_with("x\n"));
    }
}
