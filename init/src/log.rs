//! One line on stderr at a time, made in place: no allocator, no formatting machinery.

use crate::sys::{self, Errno};
use crate::text::{decimal, parts};

/// What exec, fork and what a machine's PID 1 calls return: the number of each, then its words. One text, for a table
/// of texts is twice its size.
static ERRNOS: [u8; 559] = *b"\x01operation not permitted\0\
    \x02not found\0\
    \x05input/output error\0\
    \x06no such device\0\
    \x07argument list too long\0\
    \x08not a program that this machine can execute (a script without #!?)\0\
    \x0bno more processes allowed here\0\
    \x0cout of memory\0\
    \x0dpermission denied\0\
    \x10in use\0\
    \x11exists already\0\
    \x13the kernel does not know this kind (is its module loaded?)\0\
    \x14a part of the path is not a directory\0\
    \x15is a directory\0\
    \x16invalid (another file system, or an unknown option?)\0\
    \x1athe file is open for writing\0\
    \x1bmore than 1 MiB in all\0\
    \x1cno space left\0\
    \x1eread-only file system\0\
    \x24file name too long\0\
    \x28too many symbolic links";

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

    /// A line that was made before.
    pub(crate) fn of(bytes: [u8; 400]) -> Self {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len() - 1);
        Self { bytes, len }
    }

    /// What has been made, with NULs behind it.
    pub(crate) fn bytes(&self) -> &[u8; 400] {
        &self.bytes
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

    /// Append what an errno means, where there are words for it.
    pub(crate) fn errno(&mut self, errno: Errno) -> &mut Self {
        for words in parts(&ERRNOS, 0) {
            if let Some((number, words)) = words.split_first()
                && i32::from(*number) == errno.0
            {
                return self.text(words);
            }
        }
        self.text(b"errno ").number(i64::from(errno.0))
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

    /// What has been made, with a newline at its end.
    pub(crate) fn finish(&mut self) -> &[u8] {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or_default()
    }
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
    fn an_errno_has_its_words() {
        for (errno, words) in [
            (libc::EPERM, "operation not permitted"),
            (libc::ENOENT, "not found"),
            (libc::EIO, "input/output error"),
            (libc::ENXIO, "no such device"),
            (libc::E2BIG, "argument list too long"),
            (libc::ENOEXEC, "not a program that this machine can execute (a script without #!?)"),
            (libc::EAGAIN, "no more processes allowed here"),
            (libc::ENOMEM, "out of memory"),
            (libc::EACCES, "permission denied"),
            (libc::EBUSY, "in use"),
            (libc::EEXIST, "exists already"),
            (libc::ENODEV, "the kernel does not know this kind (is its module loaded?)"),
            (libc::ENOTDIR, "a part of the path is not a directory"),
            (libc::EISDIR, "is a directory"),
            (libc::EINVAL, "invalid (another file system, or an unknown option?)"),
            (libc::ETXTBSY, "the file is open for writing"),
            (libc::EFBIG, "more than 1 MiB in all"),
            (libc::ENOSPC, "no space left"),
            (libc::EROFS, "read-only file system"),
            (libc::ENAMETOOLONG, "file name too long"),
            (libc::ELOOP, "too many symbolic links"),
            (libc::EXDEV, "errno 18"),
            (libc::EOVERFLOW, "errno 75"),
        ] {
            assert_eq!(shown(Line::new().errno(Errno(errno))), format!("init: {words}\n"));
        }
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let line = shown(Line::new().text(&[b'x'; 1000]));
        assert_eq!(line.len(), 400);
        assert!(line.ends_with("x\n"));
    }
}
