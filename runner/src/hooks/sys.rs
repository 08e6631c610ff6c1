//! A hook's process between clone and exec: system calls on what was made before, and no memory is asked for. The
//! process that was cloned may have had threads, whose locks nobody will open here.
#![allow(unsafe_code)] // raw pointers to argv and environment

use std::ffi::{CStr, CString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use coracle_sys::Result;
use nix::errno::Errno;

/// The working directory could not be entered.
pub(super) const CHDIR: u8 = 1;
/// The program could not be executed.
pub(super) const EXECVE: u8 = 2;
/// The rights of the container could not be taken.
pub(super) const BECOME: u8 = 3;
/// Anything else.
const OTHER: u8 = 4;

/// A program with its words, laid out for the kernel.
pub(super) struct Program {
    path: CString,
    args: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// What the pointers lead to: the bytes of a CString stay where they are when it is moved.
    _texts: [Vec<CString>; 2],
}

impl Program {
    pub(super) fn new(path: CString, args: Vec<CString>, env: Vec<CString>) -> Self {
        let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([null()]).collect();
        Self { path, args: pointers(&args), env: pointers(&env), _texts: [args, env] }
    }
}

/// Become the program. Returns only the step that failed, and why.
pub(super) fn become_program(
    program: &Program,
    cwd: &CStr,
    streams: [RawFd; 3],
    become_it: Option<&dyn Fn() -> Result<()>>,
) -> (u8, Errno) {
    for (number, fd) in (0..).zip(streams) {
        // SAFETY: no pointers; the three descriptors are above 2, so none is overwritten before its turn.
        if unsafe { libc::dup2(fd, number) } < 0 {
            return (OTHER, Errno::last());
        }
    }
    const CLOEXEC: u32 = 4;
    // SAFETY: no pointers; this process closes nothing but by its exec.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOEXEC) } < 0 {
        return (OTHER, Errno::last());
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux; both it and the action outlive the calls, and a default
    // action runs no code of ours. setpgid takes numbers.
    let ready = unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::setpgid(0, 0);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if ready < 0 {
        return (OTHER, Errno::last());
    }
    // SAFETY: `cwd` ends in a NUL and outlives the call.
    if unsafe { libc::chdir(cwd.as_ptr()) } < 0 {
        return (CHDIR, Errno::last());
    }
    if let Some(Err(e)) = become_it.map(|f| f()) {
        return (BECOME, e.errno().unwrap_or(Errno::EPERM));
    }
    // SAFETY: both arrays end in a null pointer, and what they point to lives in `program`.
    unsafe { libc::execve(program.path.as_ptr(), program.args.as_ptr(), program.env.as_ptr()) };
    (EXECVE, Errno::last())
}

/// Kill the process group of a child that has not been waited for.
pub(super) fn kill_group(pid: i32) {
    // SAFETY: numbers only; a group that is not there is ESRCH.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Own a descriptor that fcntl(F_DUPFD_CLOEXEC) has just made.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from the kernel, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
