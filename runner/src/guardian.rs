//! A process that ends a container when its runner is gone without a word. The kernel does that by the
//! parent-death signal of PID 1, and our init cannot be talked out of it; but a command that is PID 1
//! itself can clear the signal, and the kernel clears it for one that executes a setuid program. One
//! that may trace our init can make it do the same. Only for those is there a guardian.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::process::{Cloned, Status, clone, exit_now, wait};
use coracle_sys::{Context, Result, pidfd, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{chdir, pipe, read, setsid};

use crate::caps;
use crate::cgroups::Oom;
use crate::process::{Init, Plan};

/// The guardian of one container. Dropping it is its end, and the container's, if that is not over.
pub(crate) struct Guardian {
    pid: i32,
    /// Its end is how the guardian learns that we are gone.
    guard: Option<OwnedFd>,
}

impl Guardian {
    /// Whether a container whose process is this can escape the parent-death signal.
    pub(crate) fn is_needed(process: &Plan) -> bool {
        process.init == Init::ExecOnly || process.capabilities.bounding & caps::SYS_PTRACE != 0
    }

    /// Watch over the container whose first process is `pidfd`.
    pub(crate) fn over(pidfd: BorrowedFd<'_>) -> Result<Self> {
        let (watched, guard) = pipe().context(|| "pipe()")?;
        match clone(0, None).context(|| "make the container's guardian")? {
            Cloned::Child => stand(pidfd, &watched, guard),
            Cloned::Parent { pid, .. } => Ok(Self { pid, guard: Some(guard) }),
        }
    }
}

/// A process that ends a whole container as soon as memory has run out in it, where the kernel would kill one process of it.
/// It goes with the container.
pub(crate) struct Avenger(i32);

impl Avenger {
    /// Watch the container whose first process is `pidfd`.
    pub(crate) fn over(pidfd: BorrowedFd<'_>, oom: &Oom) -> Result<Self> {
        match clone(0, None).context(|| "make the process that waits for memory to run out")? {
            Cloned::Child => avenge(pidfd, oom.as_fd()),
            Cloned::Parent { pid, .. } => Ok(Self(pid)),
        }
    }
}

impl Avenger {
    /// The container has ended: was it by this?
    pub(crate) fn has_killed(mut self) -> bool {
        wait(std::mem::take(&mut self.0)).is_ok_and(|ended| ended.status == Status::Exited(KILLED))
    }
}

impl Drop for Avenger {
    fn drop(&mut self) {
        if self.0 > 0 {
            let _ = wait(self.0);
        }
    }
}

/// Its exit code when it has done its work.
const KILLED: i32 = 1;

fn avenge(pidfd: BorrowedFd<'_>, oom: BorrowedFd<'_>) -> ! {
    let _ = setsid();
    let _ = chdir("/");
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    if terminal::keep_only(pidfd, oom).is_ok() {
        let (pidfd, oom) = (terminal::standard_input(), terminal::standard_output());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(oom, PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
        // The end of the group is told as well: then there is nobody to kill.
        let ended = fds[0].any().unwrap_or(true);
        if !ended && pidfd::signal(pidfd, libc::SIGKILL).is_ok() {
            exit_now(KILLED);
        }
    }
    exit_now(0)
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.guard = None;
        let _ = wait(self.pid);
    }
}

/// In a session of its own, so that neither a key nor a kill of the runner's group reaches it, and with
/// nothing open but the pidfd and the pipe. To kill a container that has ended is nothing.
fn stand(pidfd: BorrowedFd<'_>, watched: &OwnedFd, guard: OwnedFd) -> ! {
    drop(guard);
    let _ = setsid();
    let _ = chdir("/");
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    if terminal::keep_only(pidfd, watched.as_fd()).is_ok() {
        let (pidfd, watched) = (terminal::standard_input(), terminal::standard_output());
        let _ = read(watched, &mut [0]);
        let _ = pidfd::signal(pidfd, libc::SIGKILL);
    }
    exit_now(0)
}
