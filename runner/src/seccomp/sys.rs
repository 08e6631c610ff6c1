//! Handing a program to the kernel.
#![allow(unsafe_code)] // seccomp(2) takes a pointer that nix does not wrap

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use coracle_sys::{Context, Result};
use nix::errno::Errno;

use super::program::Insn;

/// seccomp(SECCOMP_SET_MODE_FILTER). The caller has CAP_SYS_ADMIN or no_new_privs. Gives the listener's number,
/// where the flags ask for one.
pub(super) fn install(code: &[Insn], flags: u64) -> Result<i32> {
    let filter: Vec<libc::sock_filter> =
        code.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` points to `filter`, which has `len` instructions and outlives the call; the
    // kernel copies them and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(result)
        .map(|n| n as i32)
        .context(|| format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {} instructions)", code.len()))
}

/// Whether the kernel knows a flag, named without what all names begin with: it looks at the flags before it looks for the program, which is not there.
pub(crate) fn is_flag_supported(name: &str) -> bool {
    let flags = match name {
        "TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
        "LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
        "SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // It is nothing without a listener.
        "WAIT_KILLABLE_RECV" => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5,
        _ => return false,
    };
    let none: *const libc::sock_fprog = std::ptr::null();
    // SAFETY: the null pointer is one that the kernel refuses to read from.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, none) };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// Own a listener that [`install`] has just given.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for that call, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
