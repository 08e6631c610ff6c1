//! The one system call that nix lacks here: the terminal's width.

#![allow(unsafe_code)] // an ioctl

use std::os::fd::{AsRawFd, BorrowedFd};

/// The columns of a terminal; `None` where it is none.
pub(crate) fn columns(fd: BorrowedFd<'_>) -> Option<usize> {
    // SAFETY: a winsize is four integers, for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is and which outlives the call.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (got == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}
