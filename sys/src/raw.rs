//! The caller's own terminal: raw while a container or a machine has it, and restored on every way out, this program's
//! kill -9 included.

use std::os::fd::{AsFd, OwnedFd};

use crate::process::{self, Cloned, clone, exit_now};
use crate::{Context, Result, terminal as sys};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{pipe, read, setsid, write};

/// A terminal that passes every key on. Dropping it restores what was before.
pub struct Raw {
    tty: OwnedFd,
    saved: Termios,
    raw: Termios,
    /// Its end is how the guardian learns that we are gone.
    guard: OwnedFd,
    guardian: i32,
}

impl Raw {
    /// Make `tty` raw.
    pub fn take(tty: impl AsFd) -> Result<Self> {
        let tty = tty.as_fd().try_clone_to_owned().context(|| "dup(terminal)")?;
        let saved = tcgetattr(&tty).context(|| "tcgetattr(terminal)")?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        let (watched, guard) = pipe().context(|| "pipe()")?;
        let guardian = match clone(0, None)? {
            Cloned::Child => guardian(&tty, &watched, guard, (&saved, &raw)),
            Cloned::Parent { pid, .. } => pid,
        };
        let taken = Self { tty, saved, raw, guard, guardian };
        taken.resume()?;
        Ok(taken)
    }

    /// Make it raw again: whoever had the terminal while we were stopped has changed it.
    pub fn resume(&self) -> Result<()> {
        tcsetattr(&self.tty, SetArg::TCSANOW, &self.raw).context(|| "tcsetattr(terminal, raw)")
    }

    /// Give it back as it was, for as long as we are stopped.
    pub fn suspend(&self) -> Result<()> {
        tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.saved).context(|| "tcsetattr(terminal, saved)")
    }
}

/// Stop as SIGTSTP stops one who does not hold it back, signal(7). Comes back once we go on; at once
/// where nobody is there to let us go on.
pub fn stop_here() -> Result<()> {
    let mut only = SigSet::empty();
    only.add(Signal::SIGTSTP);
    raise(Signal::SIGTSTP).context(|| "raise(SIGTSTP)")?;
    for how in [SigmaskHow::SIG_UNBLOCK, SigmaskHow::SIG_BLOCK] {
        sigprocmask(how, Some(&only), None).context(|| "sigprocmask(SIGTSTP)")?;
    }
    Ok(())
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Output that is still on its way is shown first. A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.saved);
        let _ = write(&self.guard, b".");
        let _ = process::wait(self.guardian);
    }
}

/// A process that does nothing until the runner is gone without a word. It is in a session of its
/// own, so that no key and no hang-up reaches it, and holds nothing but the terminal and the pipe.
/// A terminal that is no longer as we left it has a new master already, whose modes stay.
fn guardian(tty: &OwnedFd, watched: &OwnedFd, guard: OwnedFd, (saved, raw): (&Termios, &Termios)) -> ! {
    drop(guard);
    let _ = setsid();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    if sys::keep_only(tty.as_fd(), watched.as_fd()).is_ok() {
        let (tty, watched) = (std::io::stdin(), std::io::stdout());
        let as_left = || {
            tcgetattr(tty.as_fd())
                .is_ok_and(|now| now.local_flags == raw.local_flags && now.input_flags == raw.input_flags)
        };
        if matches!(read(watched.as_fd(), &mut [0]), Ok(0)) && as_left() {
            let _ = tcsetattr(tty.as_fd(), SetArg::TCSANOW, saved);
        }
    }
    exit_now(0)
}
