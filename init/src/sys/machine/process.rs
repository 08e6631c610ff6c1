//! What a process is before it becomes a command: session, terminal, identity.

use core::ffi::c_int;

use super::super::{Errno, Pid};

/// Lead a session of its own, without a terminal.
pub(crate) fn setsid() -> Result<(), Errno> {
    done!(SYS_setsid)
}

/// Make a terminal the controlling one of the own session, taking it from any other.
pub(crate) fn take_terminal(fd: c_int) -> Result<(), Errno> {
    done!(SYS_ioctl, fd, libc::TIOCSCTTY, 1)
}

/// Give up every right that these ids do not have. The order is what makes it possible.
pub(crate) fn become_user(user: u32, group: u32, groups: &[u32]) -> Result<(), Errno> {
    call!(SYS_setgroups, groups.len(), groups.as_ptr())?;
    call!(SYS_setresgid, group, group, group)?;
    done!(SYS_setresuid, user, user, user)
}

/// Wait for a process to end, without a limit. Its status.
pub(crate) fn wait_for(pid: Pid) -> c_int {
    let mut status: c_int = 0;
    let _ = call!(SYS_wait4, pid, &raw mut status, 0, 0);
    status
}

/// A descriptor that is waited for, as poll(2) has it.
pub(crate) type PollFd = libc::pollfd;

/// Wait until one of them is ready, or for so many milliseconds. How many are.
#[inline(never)]
pub(crate) fn poll_all(fds: &mut [PollFd], timeout: Option<u64>) -> usize {
    let time = timeout.map(|t| [(t / 1000) as libc::c_long, (t % 1000 * 1_000_000) as libc::c_long]);
    let time = time.as_ref().map_or(core::ptr::null(), |time| time.as_ptr());
    call!(SYS_ppoll, fds.as_mut_ptr(), fds.len(), time, 0, 8).unwrap_or(0) as usize
}

/// The events that `fd` is ready for, of these, within so many milliseconds. POLLHUP and POLLERR are among them unasked.
pub(crate) fn poll_one(fd: c_int, events: i16, millis: u64) -> i16 {
    let mut one = [PollFd { fd, events, revents: 0 }];
    poll_all(&mut one, Some(millis));
    one[0].revents
}
