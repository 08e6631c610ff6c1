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

/// Own a listener that [`install`] has just given.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed this descriptor for that call, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
