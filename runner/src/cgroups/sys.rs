//! Descriptors that tell of events in groups.
#![allow(unsafe_code)] // calls that nix has only with more of it than is wanted

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;

/// eventfd(2).
pub(super) fn counter() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    Errno::result(fd).context(|| "eventfd(0)")?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// inotify(7) of the changes of a file.
pub(super) fn changes(file: &Path) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path =
        std::ffi::CString::new(file.as_os_str().as_bytes()).map_err(|e| Error::invalid(e.to_string()))?;
    // SAFETY: no pointers.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    Errno::result(fd).context(|| "inotify_init1()")?;
    // SAFETY: the path ends in a NUL and outlives the call.
    let watch = unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_MODIFY | libc::IN_DELETE_SELF) };
    // SAFETY: the kernel has just made this descriptor.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Errno::result(watch).context(|| format!("inotify_add_watch({file:?}, IN_MODIFY)"))?;
    Ok(owned)
}
