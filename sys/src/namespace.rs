//! What a namespace's file tells of it.

#![allow(unsafe_code)] // an ioctl that nix lacks

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::{Context, Result};

/// The `CLONE_NEW*` bit of the namespace that `file` is open on. ENOTTY where it is none.
pub fn kind(file: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: libc::c_int = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) };
    Errno::result(kind).context(|| "ioctl(NS_GET_NSTYPE)")
}
