//! From the start of a container to its end in the foreground: signals are forwarded, a time limit is kept,
//! and bytes are carried both ways by [`crate::relay`]. What becomes of the end is the caller's.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use coracle_sys::{Context, Result, process};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::launch::{Container, Ending};
use crate::relay::{Relay, Role};
use coracle_sys::raw::stop_here;

/// Signals of the caller's, held back from the first moment on so that none is lost.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Hold back what is forwarded: all but what is about the runner itself. What stops the caller's
    /// job stops the runner, which gives the terminal back before.
    pub(crate) fn hold() -> Result<Self> {
        let mut set = SigSet::all();
        for own in [
            Signal::SIGCHLD,
            Signal::SIGURG,
            Signal::SIGPIPE,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGSYS,
        ] {
            set.remove(own);
        }
        // Under nohup the container outlives the caller's terminal as well. What is held back would be seen though it
        // is ignored.
        if process::ignores(libc::SIGHUP) {
            set.remove(Signal::SIGHUP);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).context(|| "sigprocmask(SIG_SETMASK)")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags).context(|| "signalfd()")?))
    }

    /// The next one, if there is one.
    pub(crate) fn next(&self) -> Result<Option<i32>> {
        let info = self.0.read_signal().context(|| "read(signalfd)")?;
        Ok(info.map(|info| info.ssi_signo.cast_signed()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How it went.
pub(crate) struct Attended {
    /// How it ended.
    pub(crate) ending: Ending,
    /// It was killed because its time was over.
    pub(crate) timed_out: bool,
}

/// Stay with the container until it has ended and all that it wrote is shown. A caller who does not read
/// can be waited for as long as it takes: a signal ends that too.
pub(crate) fn attend(
    container: &Container,
    signals: &Signals,
    mut relay: Relay,
    timeout: Option<Duration>,
) -> Result<Attended> {
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut timed_out = false;
    loop {
        let left = deadline.filter(|_| !timed_out).map(|d| d.saturating_duration_since(Instant::now()));
        let seen = wait(Some(container), signals, &relay, left)?;
        if seen.signal {
            while let Some(signal) = signals.next()? {
                match signal {
                    libc::SIGTSTP => stop(&relay)?,
                    libc::SIGCONT if relay.has_screen() => relay.go_on(),
                    libc::SIGWINCH if relay.has_screen() => relay.resize(),
                    _ => forward(container, signal)?,
                }
            }
        }
        seen.roles.into_iter().try_for_each(|role| relay.act(role))?;
        if seen.ended {
            break;
        }
        if !timed_out && deadline.is_some_and(|d| Instant::now() >= d) {
            timed_out = true;
            forward(container, libc::SIGKILL)?;
        }
    }
    let ending = container.wait()?;
    while !timed_out && relay.drain()? {
        let seen = wait(None, signals, &relay, None)?;
        seen.roles.into_iter().try_for_each(|role| relay.act(role))?;
        while let Some(signal) = signals.next()? {
            match signal {
                libc::SIGTSTP => stop(&relay)?,
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => {
                    return Ok(Attended { ending, timed_out });
                }
                _ => {}
            }
        }
    }
    Ok(Attended { ending, timed_out })
}

/// Be stopped, with the terminal as the caller's shell expects it.
fn stop(relay: &Relay) -> Result<()> {
    relay.pause();
    stop_here()?;
    if relay.has_screen() {
        relay.go_on();
    }
    Ok(())
}

/// A container that has just ended needs no signal.
fn forward(container: &Container, signal: i32) -> Result<()> {
    match container.signal(signal) {
        Err(e) if e.errno() == Some(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

#[derive(Default)]
struct Seen {
    ended: bool,
    signal: bool,
    /// What the relay can do.
    roles: Vec<Role>,
}

fn wait(
    container: Option<&Container>,
    signals: &Signals,
    relay: &Relay,
    left: Option<Duration>,
) -> Result<Seen> {
    let (mut fds, roles): (Vec<PollFd<'_>>, Vec<Role>) = relay.poll_set().into_iter().unzip();
    fds.push(PollFd::new(signals.0.as_fd(), PollFlags::POLLIN));
    fds.extend(container.map(|c| PollFd::new(c.pidfd(), PollFlags::POLLIN)));
    // Rounded up: else the last millisecond is spent in turning round.
    let timeout = match left {
        Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e).context(|| "poll()"),
    }
    // Hung up and in error are ready too: the next read or write tells.
    let ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
    let (signal, ended) = (ready(roles.len()), ready(roles.len() + 1));
    Ok(Seen {
        ended,
        signal,
        roles: roles.into_iter().enumerate().filter(|(at, _)| ready(*at)).map(|(_, r)| r).collect(),
    })
}
