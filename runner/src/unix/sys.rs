//! What of sockets the compiler cannot check.
#![allow(unsafe_code)] // a received descriptor is a bare number until it is owned

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Own a descriptor that recvmsg(2) or accept4(2) has just handed over.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for this call, and nobody else has seen it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
