//! What of the launch the compiler cannot check.
#![allow(unsafe_code)] // a number is given to another descriptor

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use coracle_sys::{Context, Result};
use nix::errno::Errno;

/// Have `number`, an open descriptor, be another name of `fd`, close-on-exec, dup3(2).
pub(super) fn put_in_place(fd: &OwnedFd, number: RawFd) -> Result<()> {
    // SAFETY: plain numbers. Who owns `number` goes on to own what it stands for now.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) };
    Errno::result(result).map(drop).context(|| format!("dup3({}, {number}, O_CLOEXEC)", fd.as_raw_fd()))
}
