//! A part of a disk that is written as if it were a file of its own.

use std::io::{self, Seek, SeekFrom, Write};

use flate2::Crc;

use crate::pack::Target;
use crate::pack::uuid::Identity;

/// The part from `start` on. It begins empty.
pub(crate) struct Window<'a> {
    out: &'a mut dyn Target,
    start: u64,
    at: u64,
    /// Where what was written ends.
    end: u64,
    /// What was written where, in the order of the writing, which is the same each time.
    written: Identity,
}

impl<'a> Window<'a> {
    pub(super) fn new(out: &'a mut dyn Target, start: u64) -> Self {
        Self { out, start, at: 0, end: 0, written: Identity::new("window") }
    }

    /// How large it became, and what stands for all that was written.
    pub(super) fn finish(self) -> (u64, Identity) {
        (self.end, self.written)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.seek(SeekFrom::Start(self.start + self.at))?;
        self.out.write_all(bytes)?;
        let mut sum = Crc::new();
        sum.update(bytes);
        for n in [self.at, bytes.len() as u64, sum.sum().into()] {
            self.written.number(n);
        }
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_window_begins_where_it_was_put_and_knows_its_end() {
        let mut out = Cursor::new(Vec::new());
        let mut window = Window::new(&mut out, 100);
        window.seek(SeekFrom::Start(10)).expect("seek");
        window.write_all(b"later").expect("write");
        window.seek(SeekFrom::Current(-5)).expect("seek");
        window.write_all(b"L").expect("write");
        assert_eq!(window.seek(SeekFrom::End(0)).expect("seek"), 15);
        assert!(window.seek(SeekFrom::Current(-16)).is_err());
        assert_eq!(window.finish().0, 15);
        assert_eq!(&out.into_inner()[108..], b"\0\0Later");
    }
}
