//! The monitor: the parent of a container that runs in the background. It is a fork of the runner that started it, in a
//! session of its own and with nothing open that it does not need. It writes the container's log, serves those who attach,
//! keeps a time limit, probes its health, and waits for its end. What the end means is the caller's to decide.

mod attached;
mod health;
pub(crate) mod restart;
mod screen;
mod ties;
mod unseen;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_sys::process::{Cloned, Status, clone, exit_now};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockFlag;

use crate::cgroups::Aside;
use crate::foreground::Signals;
use crate::launch::{Channel, Container, Ending, Message, pair};
use crate::log::{Limits, Log};
use crate::record::Record;
use crate::unix;
use attached::Attached;
pub(crate) use attached::{First, LONGEST, SOCKET, Said};
pub(crate) use health::{Health, Probe};
use screen::Screen;
pub(crate) use unseen::unseen;

/// What a container is attended with.
pub(crate) struct Duties {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// How much of what it writes is kept; nothing where none.
    pub(crate) log: Option<Limits>,
    /// When it is killed.
    pub(crate) timeout: Option<Duration>,
    /// How its health is found out.
    pub(crate) health: Option<Probe>,
    /// Its input ends with that of one who is attached.
    pub(crate) input_once: bool,
    /// One who is attached from the beginning.
    pub(crate) first: Option<First>,
    /// Its record is to outlive a power cut.
    pub(crate) kept: bool,
}

/// How it went.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    /// Its end.
    pub(crate) ending: Ending,
    /// It was killed because its time was over.
    pub(crate) timed_out: bool,
}

impl Watched {
    /// The exit code as a caller would see it.
    pub(crate) fn code(&self) -> i32 {
        code(self.ending.command)
    }
}

/// An end as an exit code.
pub(crate) fn code(status: Status) -> i32 {
    match status {
        Status::Exited(code) => code,
        Status::Signaled(signal) => 128 + signal,
    }
}

/// The other ends of the container's standard streams.
pub(crate) struct Streams(Screen);

impl Streams {
    /// For a container with a terminal of its own, which says itself where that is; or pipes, the input only where one was
    /// asked for. With them what the container is given.
    pub(crate) fn make(terminal: bool, input: bool) -> Result<(Self, [OwnedFd; 3])> {
        let null = || {
            let file = std::fs::File::options().read(true).write(true).open("/dev/null");
            file.map(OwnedFd::from).context(|| "open(\"/dev/null\")")
        };
        if terminal {
            return Ok((Self(Screen::default()), [null()?, null()?, null()?]));
        }
        let (output, their_output) = screen::pipe()?;
        let (error, their_error) = screen::pipe()?;
        let (keys, their_input) = match input {
            true => screen::pipe().map(|(theirs, ours)| (Some(ours), theirs))?,
            false => (None, null()?),
        };
        let ours = Screen::of_pipes(keys, output, error)?;
        Ok((Self(ours), [their_input, their_output, their_error]))
    }
}

/// Who forked the monitor, and hears once how the start went.
pub(crate) struct Starter(Option<Channel>);

impl Starter {
    /// Nobody: the monitor has replaced itself to start its container anew.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    fn tell(&mut self, message: &Message) {
        if let Some(channel) = self.0.take() {
            let _ = channel.send(message);
        }
    }
}

/// Have `live` done by a monitor, and wait until it has told that the container's command runs, or why not.
pub(crate) fn fork(aside: &Aside, live: impl FnOnce(&mut Starter) -> Result<()>) -> Result<()> {
    let (ours, theirs) = pair()?;
    match born(aside).context(|| "make the container's monitor")? {
        Cloned::Child => {
            aside.enter();
            drop(ours);
            let mut starter = Starter(Some(theirs));
            let done = ties::cut().and_then(|()| live(&mut starter));
            match done {
                Err(e) => starter.tell(&Message::Failed(e)),
                // It ended before it could be told.
                Ok(()) => starter.tell(&Message::Ready),
            }
            exit_now(0)
        }
        Cloned::Parent { .. } => {
            drop(theirs);
            match ours.receive()? {
                Message::Ready => Ok(()),
                Message::Failed(e) => Err(e),
                _ => Err(Error::new(Kind::System, "the container's monitor is gone")),
            }
        }
    }
}

/// A child beside the caller's unit, or in it where that cannot be.
fn born(aside: &Aside) -> Result<Cloned> {
    // Between the two a sweep may have removed the group.
    for _ in 0..10 {
        let Some(group) = aside.make() else { break };
        match clone(0, Some(group.as_fd())) {
            Err(e) if e.errno() == Some(Errno::ENODEV) => {}
            Err(_) => break,
            born => return born,
        }
    }
    clone(0, None)
}

/// Those who are attached to a container that has ended, and are to hear it once that is written down.
pub(crate) struct Farewell(Attached, bool);

impl Farewell {
    /// It has ended with this code. A report that is too long for a packet is none.
    pub(crate) fn say(mut self, code: i32, report: &[u8]) {
        self.0.end(code, if report.len() < LONGEST - 8 { report } else { b"" }, self.1);
    }
}

/// Stay with the container until it has ended. `starter` hears that it runs.
pub(crate) fn attend(
    mut container: Container,
    streams: Streams,
    duties: Duties,
    signals: &Signals,
    starter: &mut Starter,
) -> Result<(Watched, Farewell)> {
    let Streams(mut screen) = streams;
    if let Some(master) = container.console() {
        screen = Screen::of_terminal(master)?;
    }
    let mut log = duties.log.map(|limits| Log::open(&duties.dir, limits)).transpose()?;
    let listening = unix::listen_at(&duties.dir, SOCKET, SockFlag::SOCK_NONBLOCK)?;
    let mut attached = Attached::new(listening, duties.first, duties.input_once);
    let mut health = duties.health.map(|probe| Health::begin(probe, &duties.dir)).transpose()?;
    let deadline = duties.timeout.and_then(|t| Instant::now().checked_add(t));
    let mut timed_out = false;
    ties::forget_standard_streams()?;
    starter.tell(&Message::Ready);
    if duties.kept {
        // Nobody waits for the disk. Where it does not work there is nobody to tell either.
        let _ = Record::keep(&duties.dir);
    }
    loop {
        let seen = {
            let mut fds = vec![
                PollFd::new(container.pidfd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            let after = fds.len();
            if attached.is_ready_for_more() {
                screen.poll_set(&mut fds);
            }
            let screens = fds.len();
            attached.poll_set(&mut fds, screen.has_room());
            let clients = fds.len();
            fds.extend(health.as_ref().and_then(Health::output).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let next = [deadline.filter(|_| !timed_out), health.as_ref().map(Health::next)];
            match poll(&mut fds, until(next.into_iter().flatten().min())) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context(|| "poll()"),
            }
            let ready = |from: usize, to: usize| -> Vec<bool> {
                fds[from..to].iter().map(|fd| fd.any().unwrap_or(false)).collect()
            };
            Seen {
                ended: ready(0, 1)[0],
                signal: ready(1, 2)[0],
                screen: ready(after, screens),
                clients: ready(screens, clients),
                health: ready(clients, fds.len()).contains(&true),
            }
        };
        if seen.signal {
            while let Some(signal) = signals.next()? {
                pass(&container, signal)?;
            }
        }
        attached.act(&seen.clients, &mut screen)?;
        if attached.is_orphaned() {
            pass(&container, libc::SIGKILL)?;
        }
        if seen.screen.contains(&true) {
            screen.read(&seen.screen, |stream, bytes| {
                if let Some(log) = &mut log {
                    log.write(stream, bytes);
                }
                attached.show(stream, bytes);
            })?;
        }
        if let Some(health) = &mut health {
            health.act(seen.health)?;
        }
        if seen.ended {
            break;
        }
        if !timed_out && deadline.is_some_and(|d| Instant::now() >= d) {
            timed_out = true;
            pass(&container, libc::SIGKILL)?;
        }
    }
    let watched = Watched { ending: container.wait()?, timed_out };
    // All who could write are gone: what is there now is all.
    while screen.read(&[true, true], |stream, bytes| {
        if let Some(log) = &mut log {
            log.write(stream, bytes);
        }
        if !timed_out {
            attached.finish(stream, bytes);
        }
    })? {}
    let _ = std::fs::remove_file(duties.dir.join(SOCKET));
    if let Some(health) = health {
        health.end();
    }
    Ok((watched, Farewell(attached, !timed_out)))
}

/// What one wait has shown.
struct Seen {
    ended: bool,
    signal: bool,
    screen: Vec<bool>,
    clients: Vec<bool>,
    health: bool,
}

/// Rounded up: else the last millisecond is spent in turning round.
fn until(next: Option<Instant>) -> PollTimeout {
    match next {
        Some(next) => {
            let left = next.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
        None => PollTimeout::NONE,
    }
}

/// Wait before the container is started anew. Whether it was not told to stop meanwhile.
pub(crate) fn pause(signals: &Signals, how_long: Duration) -> Result<bool> {
    let end = Instant::now() + how_long;
    loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, until(Some(end))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| "poll()"),
        }
        while let Some(signal) = signals.next()? {
            if [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].contains(&signal) {
                return Ok(false);
            }
        }
        if Instant::now() >= end {
            return Ok(true);
        }
    }
}

/// A container that has just ended needs no signal.
fn pass(container: &Container, signal: i32) -> Result<()> {
    match container.signal(signal) {
        Err(e) if e.errno() == Some(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
