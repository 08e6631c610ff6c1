//! Mounts, and the root directory.

use core::ffi::{CStr, c_int, c_ulong};

use super::super::{Errno, close};

/// mount(2).
#[inline(never)]
pub(crate) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: c_ulong,
    data: &CStr,
) -> Result<(), Errno> {
    done!(SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr())
}

/// Take a mount away.
pub(crate) fn umount(target: &CStr, flags: c_int) -> Result<(), Errno> {
    done!(SYS_umount2, target.as_ptr(), flags)
}

/// A file system of this kind, mounted where nobody sees it: the descriptor of its root. Since Linux 5.2.
pub(crate) fn mount_detached(kind: &CStr) -> Result<c_int, Errno> {
    const CREATE: c_int = 6;
    let context = call!(SYS_fsopen, kind.as_ptr(), 1)? as c_int;
    let made = call!(SYS_fsconfig, context, CREATE, 0, 0, 0).and_then(|_| call!(SYS_fsmount, context, 1, 0));
    close(context);
    made.map(|fd| fd as c_int)
}

/// Put a detached mount onto a directory.
pub(crate) fn attach(mount: c_int, target: &CStr) -> Result<(), Errno> {
    const FROM_EMPTY_PATH: c_int = 4;
    done!(SYS_move_mount, mount, c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), FROM_EMPTY_PATH)
}

/// Where a link of the tree at `dir` leads.
pub(crate) fn readlink_at<'a>(dir: c_int, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let count = call!(SYS_readlinkat, dir, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(buffer.get(..count as usize).unwrap_or_default())
}

/// Change the working directory.
pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    done!(SYS_chdir, path.as_ptr())
}

/// Make a directory the root.
pub(crate) fn chroot(path: &CStr) -> Result<(), Errno> {
    done!(SYS_chroot, path.as_ptr())
}
