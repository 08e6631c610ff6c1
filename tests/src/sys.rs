//! The calls that need `unsafe`: what is done in a child between fork and exec, and ptrace.
#![allow(unsafe_code)] // pre_exec is unsafe by signature; only async-signal-safe calls are made in it

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::filters::Insn;

/// Have the child inherit `leaked`, each as every descriptor number of `numbers`.
pub(crate) fn leak(command: &mut Command, leaked: RawFd, numbers: std::ops::Range<RawFd>) {
    // SAFETY: the closure makes dup2 calls only, which are async-signal-safe; it allocates nothing.
    unsafe {
        command.pre_exec(move || {
            for n in numbers.clone() {
                if n != leaked && libc::dup2(leaked, n) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Own a descriptor that was received over a socket.
pub fn adopt(fd: RawFd) -> std::fs::File {
    // SAFETY: the caller has it from recvmsg alone, and nothing else owns it.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// Bytes in a pipe that its reader has not read yet.
pub fn unread(pipe: &std::fs::File) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which outlives the call.
    let result =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(pipe), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(result, 0, "ioctl(FIONREAD): {}", std::io::Error::last_os_error());
    usize::try_from(bytes).expect("a count")
}

/// Have the child become another user, with that user's groups and no capability.
pub(crate) fn become_user(command: &mut Command, uid: u32, gid: u32) {
    // SAFETY: the closure makes bare system calls only; `setgroups` reads one gid from `&gid`, which
    // lives in the closure.
    unsafe {
        command.pre_exec(move || {
            let check = |r: libc::c_long| match r {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            check(libc::syscall(libc::SYS_setgroups, 1_usize, &gid as *const u32))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
        });
    }
}

/// Wait for a child: its wait status, and what it and those that it waited for have used.
pub(crate) fn wait_with_usage(pid: libc::pid_t) -> (libc::c_int, libc::rusage) {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: wait4 writes one int and one rusage, which outlive the call.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "wait4({pid}): {}", std::io::Error::last_os_error());
    (status, usage)
}

/// Leave the caller's terminal and session, as a daemon's child or CI has none.
pub(crate) fn new_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Have the child enter a mount namespace. Without one it is forked all the same, so that the start-up of
/// two programs can be compared.
pub(crate) fn enter_mount_namespace(command: &mut Command, namespace: Option<RawFd>) {
    // SAFETY: setns is async-signal-safe, and the child has one thread.
    unsafe {
        command.pre_exec(move || match namespace.map_or(0, |fd| libc::setns(fd, libc::CLONE_NEWNS)) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// Have the child install a filter before it executes its program. The caller is root.
pub(crate) fn install(command: &mut Command, mut filter: Vec<Insn>) {
    // SAFETY: the closure makes one prctl call, which is async-signal-safe; the program that it points to lives in the
    // closure and has the layout of struct sock_filter.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_mut_ptr().cast::<libc::sock_filter>(),
            };
            match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// PTRACE_SECCOMP_GET_FILTER, linux/ptrace.h: the libc crate has no name for it.
const GET_FILTER: libc::c_uint = 0x420c;

/// A process that this thread has stopped. It goes on when the value is dropped.
pub(crate) struct Tracer(libc::pid_t);

impl Tracer {
    /// ptrace(PTRACE_SEIZE), PTRACE_INTERRUPT, and wait until it stands.
    pub(crate) fn stop(pid: libc::pid_t) -> std::io::Result<Self> {
        let request = |request| {
            // SAFETY: neither request reads or writes memory of ours.
            match unsafe { libc::ptrace(request, pid, 0_usize, 0_usize) } {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        };
        request(libc::PTRACE_SEIZE)?;
        let tracer = Self(pid);
        request(libc::PTRACE_INTERRUPT)?;
        // SAFETY: a null status is not written to.
        match unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(tracer),
        }
    }

    /// Its filter of this index, 0 the newest; `None` beyond the last. PTRACE_SECCOMP_GET_FILTER needs
    /// CAP_SYS_ADMIN and a caller without a filter.
    pub(crate) fn filter(&self, index: usize) -> std::io::Result<Option<Vec<Insn>>> {
        let get = |to: *mut Insn| {
            // SAFETY: with null the kernel only counts; otherwise `to` has room for as many instructions
            // as it counted, and the filter of a stopped process does not change.
            match unsafe { libc::ptrace(GET_FILTER, self.0, index, to) } {
                -1 => Err(std::io::Error::last_os_error()),
                n => Ok(n as usize),
            }
        };
        let count = match get(std::ptr::null_mut()) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other?,
        };
        let mut code = vec![Insn::default(); count];
        get(code.as_mut_ptr())?;
        Ok(Some(code))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SAFETY: PTRACE_DETACH reads and writes no memory of ours; a process that is gone is no harm.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0_usize, 0_usize) };
    }
}
