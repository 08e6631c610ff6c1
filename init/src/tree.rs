//! The rest of the tree: what is alive besides init and the command.
//!
//! As PID 1 that is everything in the PID namespace, reached by kill(-1). Otherwise it is init's
//! own descendants and nobody else on the host: they are looked up in /proc, and each is held by a
//! pidfd before its line of parents is read, so that a number used again is never hit.

use crate::directory::each_name;
use crate::sys::{self, Errno, Pid};
use crate::text::decimal;

/// How to reach the rest.
pub(crate) enum Rest {
    /// init is PID 1: everyone else.
    Namespace,
    /// The descendants of this pid.
    Descendants(Pid),
}

impl Rest {
    /// Send a signal to all of them. False when there is no /proc to find them by.
    pub(crate) fn signal(&self, signal: u8) -> bool {
        match self {
            Self::Namespace => {
                let _ = sys::kill(-1, signal);
                true
            }
            Self::Descendants(init) => each_process(*init, &mut |pid| {
                let Ok(pidfd) = sys::pidfd_open(pid) else {
                    // Linux before 5.3.
                    if descends(pid, *init) {
                        let _ = sys::kill(pid, signal);
                    }
                    return;
                };
                if descends(pid, *init) {
                    let _ = sys::pidfd_kill(pidfd, signal);
                }
                sys::close(pidfd);
            }),
        }
    }

    /// Whether anyone is left whom init is not the parent of: someone who joined the namespace.
    pub(crate) fn has_strangers(&self) -> bool {
        matches!(self, Self::Namespace) && sys::kill(-1, 0) != Err(Errno(libc::ESRCH))
    }
}

/// Call `found` with every process in /proc. False when /proc is not there, or is another
/// namespace's.
fn each_process(init: Pid, found: &mut dyn FnMut(Pid)) -> bool {
    let mut link = [0; 20];
    if sys::readlink(c"/proc/self", &mut link).ok().and_then(pid) != Some(init) {
        return false;
    }
    each_name(c"/proc", &mut |name| {
        if let Some(pid) = pid(name.to_bytes()) {
            found(pid);
        }
    });
    true
}

/// Whether the line of parents of `process` leads to `init`.
fn descends(mut process: Pid, init: Pid) -> bool {
    // A line longer than this is not followed; parents change while it is read.
    for _ in 0..4096 {
        match parent(process) {
            Some(parent) if parent == init => return true,
            Some(parent) if parent > 1 => process = parent,
            _ => return false,
        }
    }
    false
}

fn parent(process: Pid) -> Option<Pid> {
    let mut digits = [0; 20];
    let digits = decimal(u64::from(process.unsigned_abs()), &mut digits);
    let mut path = [0; 32];
    for (to, from) in path.iter_mut().zip(b"/proc/".iter().chain(digits).chain(b"/stat")) {
        *to = *from;
    }
    let fd = sys::open(sys::text_of(&path), libc::O_RDONLY).ok()?;
    let mut buffer = [0; 256];
    let count = sys::read(fd, &mut buffer);
    sys::close(fd);
    parent_in(buffer.get(..count.ok()?)?)
}

/// The parent in a line of /proc/PID/stat: `PID (NAME) STATE PARENT ...`, where NAME may be
/// anything, parentheses and blanks included.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    pid(stat.get(end + 1..)?.split(|byte| *byte == b' ').nth(2)?)
}

fn pid(text: &[u8]) -> Option<Pid> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, |sum: Pid, byte| {
        let digit = byte.is_ascii_digit().then(|| Pid::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        for (stat, parent) in [
            (&b"7 (sh) S 1 7 7 0 -1"[..], Some(1)),
            (b"7 (a) S 9 (b) R 12 7", Some(12)),
            (b"7 () ) ) Z 2147483647 7", Some(2147483647)),
            (b"7 (sh) S 99999999999 7", None),
            (b"7 (sh)", None),
            (b"", None),
        ] {
            assert_eq!(parent_in(stat), parent);
        }
    }

    #[test]
    fn a_test_descends_from_its_parent_and_not_from_its_child() {
        let (own, parent) = (sys::getpid(), sys::getppid());
        assert!(descends(own, parent));
        assert!(!descends(own, own));
        let mut seen = false;
        assert!(each_process(own, &mut |pid| seen |= pid == own));
        assert!(seen);
    }
}
