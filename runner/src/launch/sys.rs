//! The one thing of the launch that the compiler cannot check.
#![allow(unsafe_code)] // a received descriptor is a bare number until it is owned

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Own a descriptor that recvmsg(2) has just handed over.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for this message, and nobody else has seen it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
