//! From the start of a container to its end in the foreground: signals are forwarded, the terminal's
//! bytes are carried both ways, a time limit is kept. What becomes of the end is the caller's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_sys::process::Ended;
use coracle_sys::{Context, Result, process as process_sys, terminal as sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};

use crate::launch::Container;
use crate::terminal::{Raw, stop_here};

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
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).context(|| "sigprocmask(SIG_SETMASK)")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags).context(|| "signalfd()")?))
    }

    /// The next one, if there is one.
    fn next(&self) -> Result<Option<i32>> {
        let info = self.0.read_signal().context(|| "read(signalfd)")?;
        Ok(info.map(|info| info.ssi_signo.cast_signed()))
    }
}

/// The terminal that the container has, seen from outside.
pub(crate) struct Screen {
    /// The pty's master.
    pub(crate) master: OwnedFd,
    /// The caller's terminal, raw, where keys are passed on.
    pub(crate) raw: Option<Raw>,
    /// Whether standard input is passed on.
    pub(crate) input: bool,
}

/// How it went.
pub(crate) struct Attended {
    /// How the process ended.
    pub(crate) ended: Ended,
    /// It was killed because its time was over.
    pub(crate) timed_out: bool,
}

/// Stay with the container until it has ended.
pub(crate) fn attend(
    container: &Container,
    signals: &Signals,
    mut screen: Option<Screen>,
    timeout: Option<Duration>,
) -> Result<Attended> {
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut timed_out = false;
    let mut relay = screen.as_ref().map(Relay::new).transpose()?;
    loop {
        let left = deadline.filter(|_| !timed_out).map(|d| d.saturating_duration_since(Instant::now()));
        let seen = wait(container, signals, relay.as_ref(), left)?;
        if seen.signal {
            while let Some(signal) = signals.next()? {
                match (signal, &relay) {
                    (libc::SIGTSTP, _) => stop(relay.as_ref())?,
                    (libc::SIGCONT, Some(relay)) => relay.go_on(),
                    (libc::SIGWINCH, Some(relay)) => relay.resize(),
                    _ => forward(container, signal)?,
                }
            }
        }
        if let Some(relay) = &mut relay {
            relay.carry(&seen)?;
        }
        if seen.ended {
            break;
        }
        if !timed_out && deadline.is_some_and(|d| Instant::now() >= d) {
            timed_out = true;
            forward(container, libc::SIGKILL)?;
        }
    }
    if let Some(relay) = &mut relay {
        relay.drain()?;
    }
    let ended = container.wait()?;
    if let Some(screen) = &mut screen {
        screen.raw = None;
    }
    Ok(Attended { ended, timed_out })
}

/// Be stopped, with the terminal as the caller's shell expects it.
fn stop(relay: Option<&Relay<'_>>) -> Result<()> {
    if let Some(raw) = relay.and_then(|r| r.raw) {
        // A terminal that is gone, or that is no longer ours to change, does not end the container.
        let _ = raw.suspend();
    }
    stop_here()?;
    if let Some(relay) = relay {
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
    /// The master has bytes for us, or has room for ours.
    readable: bool,
    writable: bool,
    keys: bool,
}

fn wait(
    container: &Container,
    signals: &Signals,
    relay: Option<&Relay<'_>>,
    left: Option<Duration>,
) -> Result<Seen> {
    let stdin = std::io::stdin();
    let mut fds = vec![
        PollFd::new(container.pidfd(), PollFlags::POLLIN),
        PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
    ];
    let master = relay.filter(|r| r.open).map(|relay| {
        let room = if relay.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        fds.push(PollFd::new(relay.master, PollFlags::POLLIN | room));
        fds.len() - 1
    });
    let keys = relay.filter(|r| r.open && r.input && r.pending.is_empty()).map(|_| {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        fds.len() - 1
    });
    // Rounded up: else the last millisecond is spent in turning round.
    let timeout = match left {
        Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e).context(|| "poll()"),
    }
    let events = |at: Option<usize>| at.and_then(|at| fds.get(at)?.revents()).unwrap_or(PollFlags::empty());
    let hung_up = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok(Seen {
        ended: events(Some(0)).intersects(hung_up),
        signal: events(Some(1)).intersects(hung_up),
        readable: events(master).intersects(hung_up),
        writable: events(master).contains(PollFlags::POLLOUT),
        keys: events(keys).intersects(hung_up),
    })
}

/// Carries bytes between the caller's terminal and the container's.
struct Relay<'a> {
    master: BorrowedFd<'a>,
    raw: Option<&'a Raw>,
    input: bool,
    /// Keys that the container has not had room for.
    pending: Vec<u8>,
    open: bool,
}

impl<'a> Relay<'a> {
    fn new(screen: &'a Screen) -> Result<Self> {
        // A command that reads nothing must not keep us from showing what it writes.
        let flags = fcntl(&screen.master, FcntlArg::F_GETFL).context(|| "fcntl(pty, F_GETFL)")?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&screen.master, FcntlArg::F_SETFL(flags)).context(|| "fcntl(pty, F_SETFL, O_NONBLOCK)")?;
        Ok(Self {
            master: screen.master.as_fd(),
            raw: screen.raw.as_ref(),
            input: screen.input,
            pending: Vec::new(),
            open: true,
        })
    }

    fn carry(&mut self, seen: &Seen) -> Result<()> {
        if seen.keys {
            let mut buffer = [0; 4096];
            match read(std::io::stdin().as_fd(), &mut buffer) {
                Ok(n) if n > 0 => self.pending.extend_from_slice(&buffer[..n]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The terminal is gone: what runs inside is told by a hang-up of ours, not by this.
                _ => self.input = false,
            }
        }
        if (seen.keys || seen.writable) && !self.pending.is_empty() {
            match write(self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.pending.clear(),
            }
        }
        if seen.readable {
            self.show()?;
        }
        Ok(())
    }

    /// Show what the container has written. Whether there may be more.
    fn show(&mut self) -> Result<bool> {
        let mut buffer = [0; 16384];
        match read(self.master, &mut buffer) {
            Ok(n) if n > 0 => {
                let mut rest = &buffer[..n];
                while !rest.is_empty() {
                    match write(std::io::stdout().as_fd(), rest) {
                        Ok(n) => rest = &rest[n..],
                        Err(Errno::EINTR | Errno::EAGAIN) => {}
                        // Nobody looks any more; the container goes on.
                        Err(_) => break,
                    }
                }
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            // EIO: the last one who had the terminal inside has closed it. A new one may come.
            Ok(_) | Err(Errno::EIO) => {
                self.open = false;
                Ok(false)
            }
            Err(e) => Err(e).context(|| "read(pty)"),
        }
    }

    fn drain(&mut self) -> Result<()> {
        while self.show()? {}
        Ok(())
    }

    /// After we were stopped: others have had the terminal, and may have changed its size.
    fn go_on(&self) {
        if let Some(raw) = self.raw {
            let _ = raw.resume();
        }
        self.resize();
    }

    fn resize(&self) {
        if let Ok((rows, columns)) = sys::window_size(std::io::stdin().as_fd()) {
            let _ = process_sys::set_window_size(self.master, rows, columns);
        }
    }
}
