//! pidfds, and what does their work where a filter of system calls denies it: see [`crate::handle`].
#![allow(unsafe_code)] // system calls that neither nix nor libc wraps

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::read;

use crate::{Context, Result};

/// pidfd_open(2).
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    Errno::result(fd).context(|| format!("pidfd_open({pid})"))?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2), to a process that is held by its pidfd or by its folder of /proc. Where a filter of system calls
/// answers instead of the kernel, kill(2) to the number that the process has still.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo is allowed.
    let r = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    let sent = match Errno::result(r) {
        Err(Errno::ENOSYS | Errno::EPERM) => match number(pidfd) {
            // SAFETY: no pointers. The number is above 0: one process, and neither a group nor all.
            Some(pid) => Errno::result(unsafe { libc::kill(pid, signal) }.into()),
            None => Err(Errno::ESRCH),
        },
        sent => sent,
    };
    sent.map(drop).context(|| format!("pidfd_send_signal({signal})"))
}

/// /proc/PID/stat below an open /proc/PID.
pub(crate) fn stat(dir: BorrowedFd<'_>) -> nix::Result<String> {
    let file = openat(dir, "stat", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = [0; 1024];
    let n = read(&file, &mut text)?;
    Ok(String::from_utf8_lossy(&text[..n]).into_owned())
}

/// The number of a process that is held by its pidfd or by its folder of /proc; none where it is gone.
pub(crate) fn number(held: BorrowedFd<'_>) -> Option<i32> {
    let positive = |pid: &i32| *pid > 0;
    if let Ok(stat) = stat(held) {
        return stat.split(' ').next()?.parse().ok().filter(positive);
    }
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok().filter(positive)
}
