//! What a namespace's file tells of it.

#![allow(unsafe_code)] // an ioctl that nix lacks

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Context, Result};

/// The `CLONE_NEW*` bit of the namespace that `file` is open on. ENOTTY where it is none.
pub fn kind(file: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: libc::c_int = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) };
    Errno::result(kind).context(|| "ioctl(NS_GET_NSTYPE)")
}

/// The user namespace that the namespace which `file` is open on belongs to.
pub fn owner(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_int = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_USERNS as _) };
    let made = Errno::result(made).context(|| "ioctl(NS_GET_USERNS)")?;
    // SAFETY: the kernel has just made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
