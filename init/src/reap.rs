//! Reaping at a cost that does not grow with the number of living children.
//!
//! `waitpid(-1)` walks the list of all children, the living first: with 12,000 of them one call
//! takes over a millisecond. So the pid that comes with SIGCHLD is waited for by itself. SIGCHLD
//! is not queued, though: of several deaths at once only one may be told. A sweep with
//! `waitpid(-1)` finds the others, right away where that is cheap, and where it is not at most
//! every so often that it takes a thirtieth of the time.

use crate::sys::{self, Errno, Pid, Waited};

/// A sweep that took at most so many microseconds may follow every signal.
const CHEAP: u64 = 50;
/// The part of the time that dear sweeps may take is one in so many.
const SHARE: u64 = 30;
/// How far from a dead process its neighbours in number are tried after a dear walk.
const NEIGHBOURS: Pid = 64;

/// When to sweep next. Times are in microseconds of the monotonic clock.
pub(crate) struct Reaper {
    /// What the last sweep's walk past the living took.
    cost: u64,
    /// When a sweep is allowed again.
    earliest: u64,
    /// A death may have gone untold.
    doubt: bool,
    /// The last sweep found that there are no children.
    childless: bool,
}

impl Reaper {
    /// One that sweeps at once: children may have died before anyone looked.
    pub(crate) fn new() -> Self {
        Self { cost: 0, earliest: 0, doubt: true, childless: false }
    }

    /// SIGCHLD told of `pid`.
    pub(crate) fn told(&mut self, pid: Pid, each: &mut impl FnMut(Waited)) {
        self.doubt = true;
        let _ = one(pid, each);
    }

    /// When to call `sweep` even if no signal comes.
    pub(crate) fn due(&self) -> Option<u64> {
        self.doubt.then_some(self.earliest)
    }

    /// Whether sweeps are held back, so that a death may stay unseen for some milliseconds.
    pub(crate) fn is_behind(&self) -> bool {
        self.doubt && self.cost > CHEAP
    }

    /// Whether no child was left when that was last looked at.
    pub(crate) fn is_childless(&self) -> bool {
        self.childless
    }

    /// Look for deaths that went untold, if it is time for that.
    pub(crate) fn sweep(&mut self, now: u64, each: &mut impl FnMut(Waited)) {
        if !self.doubt || now < self.earliest {
            return;
        }
        self.doubt = false;
        self.childless = false;
        loop {
            let began = sys::worked();
            let result = one(-1, each);
            self.cost = sys::worked() - began;
            match result {
                Ok(Some(pid)) if self.cost > CHEAP => neighbours(pid, each),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    self.childless = true;
                    break;
                }
            }
        }
        // It is the next death that makes a sweep due, so an idle init never wakes up.
        self.earliest = if self.cost > CHEAP { sys::now() + SHARE * self.cost } else { 0 };
    }
}

/// Processes that die together were often made together and have numbers close to each other:
/// asking for those one by one costs less than another walk.
fn neighbours(pid: Pid, each: &mut impl FnMut(Waited)) {
    for step in [1, -1] {
        let (mut next, mut misses) = (pid, 0);
        while misses < NEIGHBOURS {
            next = next.saturating_add(step);
            if next < 2 {
                break;
            }
            misses = if matches!(one(next, each), Ok(Some(_))) { 0 } else { misses + 1 };
        }
    }
}

/// Wait for one child without blocking.
fn one(pid: Pid, each: &mut impl FnMut(Waited)) -> Result<Option<Pid>, Errno> {
    loop {
        let Some(waited) = sys::wait(pid)? else { return Ok(None) };
        // A stop is told only of a child that asked to be traced by its parent, which became
        // init. Nobody will ever continue it: let it go, with the signal that it stopped for.
        if libc::WIFSTOPPED(waited.status) {
            let signal = libc::WSTOPSIG(waited.status);
            let trap = signal == libc::SIGTRAP && sys::is_exec_trap(waited.pid);
            let _ = sys::ptrace_detach(waited.pid, if trap { 0 } else { signal });
            continue;
        }
        let pid = waited.pid;
        each(waited);
        return Ok(Some(pid));
    }
}
