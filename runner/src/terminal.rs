//! The caller's own terminal: raw while the container has it, and restored on every way out, the
//! runner's kill -9 included. The container's side of it is made by [`crate::launch`].

use std::os::fd::{AsFd, OwnedFd};

use coracle_sys::process::{Cloned, clone, exit_now};
use coracle_sys::{Context, Result, terminal as sys};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{pipe, read, setsid, write};

/// A terminal that passes every key on. Dropping it restores what was before.
pub(crate) struct Raw {
    tty: OwnedFd,
    saved: Termios,
    /// Its end is how the guardian learns that we are gone.
    guard: OwnedFd,
    guardian: i32,
}

impl Raw {
    /// Make `tty` raw.
    pub(crate) fn take(tty: impl AsFd) -> Result<Self> {
        let tty = tty.as_fd().try_clone_to_owned().context(|| "dup(terminal)")?;
        let saved = tcgetattr(&tty).context(|| "tcgetattr(terminal)")?;
        let (watched, guard) = pipe().context(|| "pipe()")?;
        let guardian = match clone(0, None)? {
            Cloned::Child => guardian(&tty, &watched, guard, &saved),
            Cloned::Parent { pid, .. } => pid,
        };
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        let taken = Self { tty, saved, guard, guardian };
        tcsetattr(&taken.tty, SetArg::TCSANOW, &raw).context(|| "tcsetattr(terminal, raw)")?;
        Ok(taken)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Output that is still on its way is shown first. A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.saved);
        let _ = write(&self.guard, b".");
        let _ = coracle_sys::process::wait(self.guardian);
    }
}

/// A process that does nothing until the runner is gone without a word. It is in a session of its
/// own, so that no key and no hang-up reaches it, and holds nothing but the terminal and the pipe.
fn guardian(tty: &OwnedFd, watched: &OwnedFd, guard: OwnedFd, saved: &Termios) -> ! {
    drop(guard);
    let _ = setsid();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    if sys::keep_only(tty.as_fd(), watched.as_fd()).is_ok() {
        let (tty, watched) = (std::io::stdin(), std::io::stdout());
        if matches!(read(watched.as_fd(), &mut [0]), Ok(0)) {
            let _ = tcsetattr(tty.as_fd(), SetArg::TCSANOW, saved);
        }
    }
    exit_now(0)
}
