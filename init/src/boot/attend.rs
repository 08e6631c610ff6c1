//! The loop: jobs are started when those before them are ready, restarted, and stopped in reverse order; everything is
//! reaped; and it ends when nothing is left that runs.
//!
//! It sleeps in one poll, without a time-out unless something is due: so stopping cannot wait for starting.

use super::fault::Fault;
use super::job::{Job, Ready, Restart, State};
use super::launch::Launch;
use super::output;
use super::ports::Ports;
use super::readiness;
use super::relay::Relays;
use super::signs::{BUTTONS, Signs};
use crate::reap::Reaper;
use crate::sys::machine::{self, PollFd, Power};
use crate::sys::{self, Errno, Pid, Signal, SignalFd, Waited};

const CHLD: u8 = libc::SIGCHLD as u8;
const CONT: u8 = libc::SIGCONT as u8;
const KILL: u8 = libc::SIGKILL as u8;
const TERM: u8 = libc::SIGTERM as u8;

/// How many jobs there may be.
pub(crate) const JOBS: usize = 64;
/// How many descriptors are waited for.
const FDS: usize = 1 + 2 * JOBS + BUTTONS + 3;
/// What a job that ended too soon waits for at first, and at most, in microseconds.
const REST: (u64, u64) = (100_000, 30_000_000);
/// A job that ran for so long did not end too soon, in microseconds.
const LASTED: u64 = 10_000_000;
/// How long killed processes may take to be gone, in microseconds: one may wait for a device for ever.
const KILLED_WITHIN: u64 = 5_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Up,
    /// Jobs are stopped, those first that others do not come after.
    Stopping,
    /// What else there is was asked to end.
    Ending,
    /// And was killed.
    Killed,
}

/// How it ended.
pub(crate) struct Outcome {
    /// CMD's exit code, or 0.
    pub(crate) code: u8,
    pub(crate) power: Power,
}

/// What is attended.
pub(crate) struct Attendance<'a> {
    pub(crate) jobs: &'a mut [Job],
    pub(crate) ports: Ports,
    /// CMD's terminal.
    pub(crate) terminal: Option<(i32, bool)>,
    /// CMD's streams.
    pub(crate) relays: Relays,
    /// In microseconds.
    grace: u64,
    verbosity: u8,
    signs: Signs,
    power: Power,
    phase: Phase,
    code: u8,
    told_up: bool,
    /// It was told to end, by more than CMD's end.
    told_to_end: bool,
    /// When the phase is over at the latest.
    end: u64,
}

impl<'a> Attendance<'a> {
    /// Attend these jobs; `power` is what follows.
    pub(crate) fn new(jobs: &'a mut [Job], ports: Ports, plan: &super::settings::Plan, signs: Signs) -> Self {
        Self {
            jobs,
            ports,
            terminal: None,
            relays: Relays::NONE,
            grace: u64::from(plan.grace) * 1000,
            verbosity: plan.verbosity,
            signs,
            power: plan.exit.power(),
            phase: Phase::Up,
            code: 0,
            told_up: false,
            told_to_end: false,
            end: 0,
        }
    }

    /// Until all is over.
    pub(crate) fn run(mut self) -> Outcome {
        let mut signals = match SignalFd::open() {
            Ok(signals) => signals,
            Err(errno) => {
                Fault::new(b"open", b"signalfd", errno).warn();
                return Outcome { code: 125, power: self.power };
            }
        };
        let mut reaper = Reaper::new();
        loop {
            reaper.sweep(&mut |waited| self.buried(&waited));
            while self.advance() {}
            if self.is_over(reaper.is_childless()) {
                // Who reads slowly has the time for it, unless somebody wants the machine's end.
                let limit = if self.told_to_end { (self.grace / 1000) as u32 } else { u32::MAX };
                self.relays.drain(limit);
                return Outcome { code: self.code, power: self.power };
            }
            let mut fds = [PollFd { fd: -1, events: libc::POLLIN, revents: 0 }; FDS];
            fds[0].fd = signals.fd();
            self.wait(&mut fds, &reaper);
            let [first, _, _, _, rest @ ..] = &fds;
            if first.revents != 0 {
                for signal in signals.read(None) {
                    match signal.number {
                        CHLD => reaper.told(signal.pid, signal.pid, &mut |waited| self.buried(&waited)),
                        _ => self.arrived(signal),
                    }
                }
            }
            self.heard(rest);
            self.relays.carry();
        }
    }

    /// Sleep until something happens, or is due.
    fn wait(&self, fds: &mut [PollFd; FDS], reaper: &Reaper) {
        let mut due = u64::MAX;
        let [_, input, output, error, rest @ ..] = fds;
        self.relays.await_in([input, output, error]);
        let mut slots = rest.iter_mut();
        let mut add = |fd: Option<i32>| {
            if let Some(slot) = slots.next() {
                slot.fd = fd.unwrap_or(-1);
            }
        };
        for job in self.jobs.iter() {
            add(job.readiness);
            add(job.pipe.map(|[ours, _]| ours));
            due = due.min(job.due.wrapping_sub(1));
        }
        for button in self.signs.buttons() {
            add(button);
        }
        // 0 is never.
        due = due.min(self.end.wrapping_sub(1)).min(self.signs.due().wrapping_sub(1));
        due = due.min(reaper.due().unwrap_or(u64::MAX));
        let millis = (due != u64::MAX).then(|| due.saturating_sub(sys::now()) / 1000 + 1);
        machine::poll_all(fds, millis);
    }

    /// Something of the jobs or of the machine is to be read.
    fn heard(&mut self, fds: &[PollFd]) {
        self.signs.pet();
        let mut fds = fds.iter().map(|fd| fd.revents != 0);
        for job in self.jobs.iter_mut() {
            if fds.next() == Some(true) && readiness::is_told(job) && job.state == State::Starting {
                job.state = State::Running;
                job.due = 0;
            }
            if fds.next() == Some(true) {
                output::copy(job);
            }
        }
        if self.signs.is_pressed(&mut fds) {
            self.stop(Power::Off);
        }
    }

    /// A signal that is not about a child, as the init of busybox and that of System V have them.
    fn arrived(&mut self, signal: Signal) {
        match i32::from(signal.number) {
            libc::SIGTERM | libc::SIGINT => self.stop(Power::Restart),
            libc::SIGUSR1 => self.stop(Power::Halt),
            libc::SIGUSR2 | libc::SIGPWR => self.stop(Power::Off),
            _ => {}
        }
    }

    /// Let everything end, in order.
    fn stop(&mut self, power: Power) {
        self.power = power;
        self.told_to_end = true;
        self.wind_up();
    }

    fn wind_up(&mut self) {
        if self.phase == Phase::Up {
            self.phase = Phase::Stopping;
        }
    }

    /// A child was reaped.
    fn buried(&mut self, waited: &Waited) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.pid == waited.pid) else { return };
        let killed = libc::WIFSIGNALED(waited.status);
        let code = match killed {
            true => 128u8.wrapping_add(libc::WTERMSIG(waited.status) as u8),
            false => libc::WEXITSTATUS(waited.status) as u8,
        };
        job.pid = 0;
        job.due = 0;
        if job.main {
            self.code = code;
            job.state = State::Done;
            self.wind_up();
            return;
        }
        if self.verbosity > 1 || job.state != State::Stopping && code != 0 {
            job.tell_end(waited.status);
        }
        if job.state == State::Stopping || self.phase != Phase::Up {
            job.state = State::Done;
            return;
        }
        // One that was to become ready and ended is no success, whatever it says.
        let failed = code != 0 || job.state == State::Starting && !job.manner.oneshot;
        let again = match job.manner.restart {
            Restart::No => false,
            Restart::OnFailure => failed,
            Restart::Always => true,
        };
        if !again {
            job.state = if failed { State::Failed } else { State::Done };
            return;
        }
        let lasted = sys::now() - job.started >= LASTED;
        job.failures = if lasted { 0 } else { job.failures + 1 };
        let rest = REST.0.checked_shl(job.failures.saturating_sub(1)).unwrap_or(REST.1).min(REST.1);
        job.state = State::Resting;
        job.due = sys::now() + rest;
    }

    /// Let one job go on, if one can. Whether one did.
    fn advance(&mut self) -> bool {
        let now = sys::now();
        for at in 0..self.jobs.len() {
            let Some(job) = self.jobs.get(at).copied() else { break };
            let due = job.due != 0 && now >= job.due;
            let next = match job.state {
                State::Waiting | State::Resting if self.phase != Phase::Up => Some(State::Done),
                State::Waiting if self.may_start(&job) => Some(self.start(at)),
                State::Resting if due => Some(self.start(at)),
                State::Starting | State::Running if self.may_stop(&job) => Some(self.ask_to_end(at)),
                State::Starting if due => {
                    Fault::text(b"start service", job.name, b"it did not become ready in time").warn();
                    kill_group(job.pid);
                    self.look_at(at, 0);
                    None
                }
                // One that waits for a device in the kernel cannot be killed, and is not waited for either.
                State::Stopping if due && job.killed => Some(State::Failed),
                State::Stopping if due => {
                    kill_group(job.pid);
                    self.look_at(at, now + KILLED_WITHIN);
                    None
                }
                _ => None,
            };
            if let (Some(state), Some(job)) = (next, self.jobs.get_mut(at)) {
                job.state = state;
                return true;
            }
        }
        if self.phase == Phase::Up && !self.jobs.iter().any(|job| job.state == State::Waiting) {
            self.tell_up();
        } else if self.phase == Phase::Up
            && self.jobs.iter().all(|job| job.state == State::Waiting || job.lets_others_start())
            && let Some(job) = self.jobs.iter_mut().find(|job| job.state == State::Waiting)
        {
            // All that could start has, and is ready: those that are left wait for each other.
            Fault::text(b"start service", job.name, b"it comes after itself, by way of others").warn();
            job.state = State::Failed;
            return true;
        }
        false
    }

    /// It was killed: look at it again then.
    fn look_at(&mut self, at: usize, due: u64) {
        if let Some(job) = self.jobs.get_mut(at) {
            (job.killed, job.due) = (true, due);
        }
    }

    /// Whether all that it comes after are ready.
    fn may_start(&self, job: &Job) -> bool {
        self.jobs.iter().all(|other| !job.comes_after(other.name) || other.lets_others_start())
    }

    /// Whether all that come after it are over, when everything is to end.
    fn may_stop(&self, job: &Job) -> bool {
        self.phase == Phase::Stopping
            && self.jobs.iter().all(|other| !other.comes_after(job.name) || other.is_over())
    }

    /// Start it. The state that it is in then.
    fn start(&mut self, at: usize) -> State {
        let terminal = self.terminal;
        if self.jobs.get(at).is_some_and(|job| job.main) {
            self.tell_up();
        }
        let Some(job) = self.jobs.get_mut(at) else { return State::Failed };
        (job.due, job.killed) = (0, false);
        let (ready, entry) = match readiness::prepare(job) {
            Ok(prepared) => prepared,
            Err(fault) => {
                fault.warn();
                return State::Failed;
            }
        };
        let mut streams = output::streams(job);
        if job.main {
            streams = self.relays.streams();
        }
        let terminal = terminal.filter(|_| job.main);
        let started = Launch { settings: &job.settings, streams, terminal, ready, entry }.start();
        if let Some((ours, _)) = ready {
            sys::close(ours);
        }
        let now = sys::now();
        job.started = now;
        match started {
            Ok(pid) => job.pid = pid,
            Err(errno) => {
                Fault::new(b"start", job.name, errno).warn();
                return State::Failed;
            }
        }
        if job.manner.ready == Ready::Started {
            return State::Running;
        }
        job.due = now + u64::from(job.manner.start_timeout) * 1000;
        State::Starting
    }

    /// CMD is about to be started, or all services were.
    fn tell_up(&mut self) {
        if !self.told_up {
            self.told_up = true;
            self.ports.tell_up();
        }
    }

    /// Tell it to end. The state that it is in then.
    fn ask_to_end(&mut self, at: usize) -> State {
        let Some(job) = self.jobs.get_mut(at) else { return State::Failed };
        job.due = sys::now() + u64::from(job.manner.stop_timeout) * 1000;
        let _ = sys::kill(job.pid, job.manner.stop_signal);
        let _ = sys::kill(job.pid, CONT);
        State::Stopping
    }

    /// Whether nothing is left to attend; goes on to the next phase where it is time.
    fn is_over(&mut self, childless: bool) -> bool {
        let over = self.jobs.iter().all(Job::is_over);
        let late = self.end != 0 && sys::now() >= self.end;
        match self.phase {
            Phase::Up | Phase::Stopping if over && childless => return true,
            Phase::Stopping if over => {
                self.to_all(TERM);
                self.to_all(CONT);
                (self.phase, self.end) = (Phase::Ending, sys::now() + self.grace);
            }
            Phase::Ending | Phase::Killed if childless => return true,
            Phase::Ending if late => {
                self.to_all(KILL);
                (self.phase, self.end) = (Phase::Killed, sys::now() + KILLED_WITHIN);
            }
            Phase::Killed if late => return true,
            _ => return false,
        }
        self.is_over(childless)
    }

    fn to_all(&self, signal: u8) {
        let _: Result<(), Errno> = sys::kill(-1, signal);
    }
}

fn kill_group(pid: Pid) {
    if pid > 1 {
        let _ = sys::kill(-pid, KILL);
        let _ = sys::kill(pid, KILL);
    }
}
