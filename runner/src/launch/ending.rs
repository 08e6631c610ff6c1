//! How the command of a container ended, where our init was its parent: init leaves with 128+n when
//! signal n killed it, and says by its own name when the command left with such a code itself. A
//! process keeps its name until it is waited for.

use coracle_sys::Result;
use coracle_sys::process::{self as process_sys, Ended, Status};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// The name of an init whose command left with a code that reads as a signal's.
const EXITED: &[u8] = b"init exited\n";

/// The end of a container.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// That of its first process, and what it used.
    pub ended: Ended,
    /// That of its command.
    pub command: Status,
    /// Its init was killed, which nobody can do who is inside.
    pub from_outside: bool,
}

/// Wait for the end of the container whose first process is `pid`: our init, or the command itself.
pub(super) fn wait(pid: i32, by_init: bool) -> Result<Ending> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    let killed_by = match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::Exited(_, code @ 129..=192)) if by_init && !says_exited(pid) => Some(code - 128),
        _ => None,
    };
    let ended = process_sys::wait(pid)?;
    let command = killed_by.map_or(ended.status, Status::Signaled);
    let from_outside = by_init && matches!(ended.status, Status::Signaled(_));
    Ok(Ending { ended, command, from_outside })
}

/// A host that hides processes hides this; then the code alone counts.
fn says_exited(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == EXITED)
}
