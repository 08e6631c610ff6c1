//! Memory: one static buffer that is handed out piece by piece, and files mapped to be read.

use core::ffi::{CStr, c_int, c_long};

use super::super::raw::check_long;
use super::super::{Errno, close, text_of};
use super::{file_size, open_at, read_at};

/// How much there is. It lies in .bss: a page that is not written to is not there.
const SIZE: usize = 1 << 20;

/// Memory that is handed out and never given back.
pub(crate) struct Room {
    free: &'static mut [u8],
}

impl Room {
    /// All of it. To be called once.
    pub(crate) fn new() -> Self {
        static mut ROOM: [u8; SIZE] = [0; SIZE];
        // SAFETY: there is one thread, and this is called once: no other reference to it exists.
        Self { free: unsafe { (&raw mut ROOM).as_mut().unwrap_unchecked() } }
    }

    /// A piece of this size.
    pub(crate) fn take(&mut self, size: usize) -> Result<&'static mut [u8], Errno> {
        let free = core::mem::take(&mut self.free);
        match free.split_at_mut_checked(size) {
            Some((piece, rest)) => {
                self.free = rest;
                Ok(piece)
            }
            None => Err(Errno(libc::ENOMEM)),
        }
    }

    /// A copy of some bytes, with a NUL behind them.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Result<&'static CStr, Errno> {
        Ok(text_of(self.join(bytes, &[0])?))
    }

    /// Two pieces as one.
    pub(crate) fn join(&mut self, first: &[u8], second: &[u8]) -> Result<&'static [u8], Errno> {
        let piece = self.take(first.len() + second.len())?;
        let (head, tail) = piece.split_at_mut(first.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        Ok(piece)
    }

    /// A file's content, with one byte more behind it, which is 0.
    pub(crate) fn read(&mut self, path: &CStr) -> Result<&'static mut [u8], Errno> {
        let fd = open_at(libc::AT_FDCWD, path, libc::O_RDONLY, 0)?;
        let count = read_at(fd, self.free, 0);
        close(fd);
        match count? {
            // A smaller one may still fit.
            count if count == self.free.len() => Err(Errno(libc::EFBIG)),
            count => self.take(count + 1),
        }
    }
}

/// Run `look` over a file's content, which is not empty.
pub(crate) fn with_mapped(path: &CStr, look: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
    let fd = open_at(libc::AT_FDCWD, path, libc::O_RDONLY, 0)?;
    let mapped = map(fd);
    close(fd);
    let (address, size) = mapped?;
    // SAFETY: the kernel has mapped `size` bytes at `address`, readable, until they are unmapped below; the files that
    // are read so are nobody's to shorten while the machine starts.
    look(unsafe { core::slice::from_raw_parts(address as *const u8, size) });
    done!(SYS_munmap, address, size)
}

fn map(fd: c_int) -> Result<(c_long, usize), Errno> {
    let size = file_size(fd)? as usize;
    let mapped = check_long(answer!(SYS_mmap, 0, size, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0));
    mapped.map(|address| (address, size))
}

/// How long a text is that can be kept.
pub(crate) const KEPT: usize = 400;

#[cfg(not(test))]
static mut KEPT_TEXT: [u8; KEPT] = [0; KEPT];

/// Keep a text until the next is kept.
#[cfg(not(test))]
pub(crate) fn keep_text(text: &[u8; KEPT]) {
    // SAFETY: there is one thread, and no reference to it outlives a call of these two functions.
    unsafe { (&raw mut KEPT_TEXT).write(*text) };
}

/// A copy of the text that is kept.
#[cfg(not(test))]
pub(crate) fn kept_text() -> [u8; KEPT] {
    // SAFETY: there is one thread, and no reference to it outlives a call of these two functions.
    unsafe { (&raw const KEPT_TEXT).read() }
}

// Tests have threads.
#[cfg(test)]
std::thread_local! {
    static KEPT_TEXT: std::cell::Cell<[u8; KEPT]> = const { std::cell::Cell::new([0; KEPT]) };
}

#[cfg(test)]
pub(crate) fn keep_text(text: &[u8; KEPT]) {
    KEPT_TEXT.set(*text);
}

#[cfg(test)]
pub(crate) fn kept_text() -> [u8; KEPT] {
    KEPT_TEXT.get()
}
