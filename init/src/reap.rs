//! Reaping at a cost that does not grow with the number of living children.
//!
//! `waitpid(-1)` walks the list of all children, the living first: with 12,000 of them one call
//! takes over a millisecond. So the pid that comes with SIGCHLD is waited for by itself. SIGCHLD
//! is not queued, though: of several deaths at once only one may be told. A sweep with
//! `waitpid(-1)` finds the others, right away where that is cheap, and where it is not at most
//! every so often that it takes a hundredth of the time, or a thousandth while it finds nothing.

use crate::sys::{self, Errno, Pid, Waited};

/// While a walk past the living takes at most so many microseconds, a sweep follows every signal.
const CHEAP: u64 = 50;
/// The part of the time that dear sweeps may take is one in so many.
const SHARE: u64 = 100;
/// And one in so many while they find nothing: then each death was told.
const SHARE_IN_VAIN: u64 = 1000;
/// How far from a dead process its neighbours in number are tried after a dear walk.
const NEIGHBOURS: Pid = 64;

/// When to sweep next. Times are in microseconds of the monotonic clock.
pub(crate) struct Reaper {
    /// What a walk past the living took in the last sweep.
    cost: u64,
    share: u64,
    /// When a sweep is allowed again; 0 is any time.
    earliest: u64,
    /// A death may have gone untold.
    doubt: bool,
    /// The last sweep found that there are no children.
    childless: bool,
}

impl Reaper {
    /// One that sweeps at once: children may have died before anyone looked.
    pub(crate) fn new() -> Self {
        Self { cost: 0, share: SHARE, earliest: 0, doubt: true, childless: false }
    }

    /// SIGCHLD told of `pid`. While sweeps are held back it is waited for at once, and so is `main`,
    /// whose death must not stay unseen.
    pub(crate) fn told(&mut self, pid: Pid, main: Pid, each: &mut dyn FnMut(Waited)) {
        self.doubt = true;
        if self.earliest > 0 {
            let _ = one(pid, each);
            let _ = one(main, each);
        }
    }

    /// When to call `sweep` even if no signal comes.
    pub(crate) fn due(&self) -> Option<u64> {
        self.doubt.then_some(self.earliest)
    }

    /// Whether no child was left when that was last looked at.
    pub(crate) fn is_childless(&self) -> bool {
        self.childless
    }

    /// Look for deaths that went untold, if it is time for that.
    pub(crate) fn sweep(&mut self, each: &mut dyn FnMut(Waited)) {
        if !self.doubt || self.earliest > 0 && sys::now() < self.earliest {
            return;
        }
        self.doubt = false;
        self.childless = false;
        let (began, mut walks) = (sys::worked(), 0);
        loop {
            walks += 1;
            match one(-1, each) {
                Ok(Some(pid)) if self.cost > CHEAP => neighbours(pid, each),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    self.childless = true;
                    break;
                }
            }
        }
        self.cost = (sys::worked() - began) / walks;
        // One that died in the meantime will still be told.
        let told = u64::from(sys::is_pending(libc::SIGCHLD as u8));
        self.share = if walks > 1 + told { SHARE } else { (self.share * 2).min(SHARE_IN_VAIN) };
        // It is the next death that makes a sweep due, so an idle init never wakes up.
        self.earliest = if self.cost > CHEAP { sys::now() + self.share * self.cost } else { 0 };
    }
}

/// Processes that die together were often made together and have numbers close to each other:
/// asking for those one by one costs less than another walk.
fn neighbours(pid: Pid, each: &mut dyn FnMut(Waited)) {
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
fn one(pid: Pid, each: &mut dyn FnMut(Waited)) -> Result<Option<Pid>, Errno> {
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
