//! What goes wrong while the machine starts: what was being done, to what, and why it could not be.

use crate::log::Line;
use crate::sys::{Errno, machine};

/// That something went wrong. What it was is kept until the next goes wrong: one is told before another comes, and so
/// a result is no larger than what it is about.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault(());

/// What has a result or a fault.
pub(crate) type Result<T> = core::result::Result<T, Fault>;

impl Fault {
    /// A system call that returned an error.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(doing: &[u8], name: &[u8], errno: Errno) -> Self {
        let mut line = begin(doing, name);
        line.errno(errno);
        machine::keep_text(line.bytes());
        Self(())
    }

    /// Anything else.
    #[cold]
    #[inline(never)]
    pub(crate) fn text(doing: &[u8], name: &[u8], why: &[u8]) -> Self {
        let mut line = begin(doing, name);
        line.text(why);
        machine::keep_text(line.bytes());
        Self(())
    }

    /// A value that is none of these words.
    #[cold]
    pub(crate) fn choice(key: &[u8], words: &[u8]) -> Self {
        let mut line = begin(b"read", key);
        line.text(b"takes one of: ").text(words);
        machine::keep_text(line.bytes());
        Self(())
    }

    /// A value that is not to be had, by its key.
    #[cold]
    #[inline(never)]
    pub(crate) fn value(key: &[u8], why: &[u8]) -> Self {
        Self::text(b"read", key, why)
    }

    /// It is about this service.
    #[cold]
    pub(crate) fn of_service(&self, name: &[u8]) -> Self {
        let mut line = self.line();
        let why = line.finish().trim_ascii_end();
        Self::text(b"service", name, why.strip_prefix(b"init: ").unwrap_or(why))
    }

    /// `init: DOING NAME: WHY`.
    pub(crate) fn line(&self) -> Line {
        Line::of(machine::kept_text())
    }

    /// Say it and go on.
    pub(crate) fn warn(&self) {
        self.line().complain();
    }
}

fn begin(doing: &[u8], name: &[u8]) -> Line {
    let mut line = Line::new();
    line.text(doing);
    if !name.is_empty() {
        line.text(b" ").text(name);
    }
    line.text(b": ");
    line
}

/// Let a system call's error say what was being done.
pub(crate) trait Doing<T> {
    /// What was being done, and to what.
    fn doing(self, doing: &[u8], name: &[u8]) -> Result<T>;
}

impl<T> Doing<T> for core::result::Result<T, Errno> {
    fn doing(self, doing: &[u8], name: &[u8]) -> Result<T> {
        self.map_err(|errno| Fault::new(doing, name, errno))
    }
}

/// Let what is not there say why it has to be.
pub(crate) trait OrFault<T> {
    /// What was being done, to what, and why it cannot be.
    fn or_fault(self, doing: &[u8], name: &[u8], why: &[u8]) -> Result<T>;
    /// The key whose value cannot be had, and why.
    fn or_refusal(self, key: &[u8], why: &[u8]) -> Result<T>;
}

impl<T> OrFault<T> for Option<T> {
    fn or_fault(self, doing: &[u8], name: &[u8], why: &[u8]) -> Result<T> {
        self.ok_or_else(|| Fault::text(doing, name, why))
    }

    fn or_refusal(self, key: &[u8], why: &[u8]) -> Result<T> {
        self.ok_or_else(|| Fault::value(key, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line() {
        let shown = |fault: Fault| String::from_utf8(fault.line().finish().to_vec()).unwrap();
        let fault = Fault::new(b"mount", b"/dev/vda", Errno(libc::ENXIO));
        assert_eq!(shown(fault), "init: mount /dev/vda: no such device\n");
        assert_eq!(shown(Fault::text(b"find a command", b"", b"none")), "init: find a command: none\n");
        assert_eq!(shown(Fault::new(b"x", b"", Errno(libc::ENOENT))), "init: x: not found\n");
        let service = Fault::value(b"restart", b"odd").of_service(b"web");
        assert_eq!(shown(service), "init: service web: read restart: odd\n");
    }
}
