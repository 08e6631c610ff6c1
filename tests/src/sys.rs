//! The calls that need `unsafe`: what is done in a child between fork and exec.
#![allow(unsafe_code)] // pre_exec is unsafe by signature; only async-signal-safe calls are made in it

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

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
