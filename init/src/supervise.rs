//! The loop: read signals, forward them, reap, and know when to end.
//!
//! It sleeps in one read of the signalfd, without a time-out unless something is due: an idle
//! init never wakes up.

use crate::args::Options;
use crate::child::{self, Launch};
use crate::log::Line;
use crate::reap::Reaper;
use crate::signals;
use crate::sys::{self, Argv, Env, Mask, Pid, Signal, SignalFd, Waited};
use crate::terminal::{Lent, Placement};
use crate::tree::Rest;

const CHLD: u8 = libc::SIGCHLD as u8;
const CONT: u8 = libc::SIGCONT as u8;
const KILL: u8 = libc::SIGKILL as u8;
const PIPE: u8 = libc::SIGPIPE as u8;
const TERM: u8 = libc::SIGTERM as u8;

/// How often to look again, in microseconds, for what no signal tells of.
const LOOK_AGAIN: u64 = 20_000;
/// How long an init that is not PID 1 waits for killed processes to be gone, in microseconds.
const KILLED_WITHIN: u64 = 5_000_000;

/// Start the command and stay until it is time to leave. Returns the exit code.
pub(crate) fn run(options: &Options, argv: Argv, env: Env, mask: Option<Mask>) -> u8 {
    let parent = sys::getppid();
    let init = sys::getpid();
    if let Err(code) = prepare(options, init, parent) {
        return code;
    }
    let ignored = sys::default_sigchld();
    let Placement { own_group, terminal } = Placement::decide(options.group);
    let launch = Launch { options, argv, env, mask, ignored, init, own_group, terminal };
    let main = match sys::fork() {
        Ok(None) => launch.run(),
        Ok(Some(main)) => main,
        Err(errno) => {
            Line::new().text(b"fork: ").errno(errno).complain();
            return 1;
        }
    };
    if own_group {
        // The child does the same: whoever is first, no signal for the group comes too early.
        let _ = sys::setpgid(main);
    }
    let lent = Lent::keep(terminal, main);
    let leads_terminal = terminal.is_some() && sys::is_session_leader();
    let_go(options, lent.as_ref());
    let signals = match SignalFd::open() {
        Ok(signals) => signals,
        Err(errno) => {
            Line::new().text(b"signalfd: ").errno(errno).complain();
            let _ = sys::kill(main, KILL);
            return 1;
        }
    };
    let rest = if init == 1 { Rest::Namespace } else { Rest::Descendants(init) };
    let supervisor = Supervisor {
        options,
        init,
        main,
        own_group,
        rest,
        lent,
        leads_terminal,
        phase: Phase::Running,
        code: None,
        drain: Drain::Idle,
        asked: false,
        end: None,
    };
    supervisor.run(signals)
}

/// What has to be so before there is a child.
fn prepare(options: &Options, init: Pid, parent: Pid) -> Result<(), u8> {
    if let Some(signal) = options.parent_death {
        let set = sys::set_parent_death_signal(signal);
        set.map_err(|errno| {
            Line::new().text(b"prctl(PR_SET_PDEATHSIG): ").errno(errno).complain();
            1
        })?;
        if sys::getppid() != parent {
            // It has died already, and the kernel sends nothing for that.
            let _ = sys::kill(init, signal);
        }
    }
    if init == 1 {
        // Container root could trace it, and stop it or clear its parent-death signal.
        sys::become_untraceable();
    } else {
        let result = sys::become_subreaper();
        if let Err(errno) = result
            && options.subreaper
        {
            Line::new().text(b"prctl(PR_SET_CHILD_SUBREAPER): ").errno(errno).complain();
            return Err(1);
        }
        if options.verbosity > 1 {
            let not: &[u8] = if result.is_ok() { b"" } else { b"could not be " };
            Line::new().text(b"not PID 1: ").text(not).text(b"registered as subreaper").say();
        }
    }
    child::guard_error_fd(options)
}

/// Keep nothing of what was inherited: a pipe's reader must see its end when the command closes
/// it, and no file system stays busy.
fn let_go(options: &Options, lent: Option<&Lent>) {
    sys::leave_directory();
    sys::close_range(0, 1);
    if !options.talks() {
        sys::close_range(2, 2);
    }
    match lent.map(Lent::fd) {
        Some(fd) => {
            sys::close_range(3, fd - 1);
            sys::close_range(fd + 1, i32::MAX);
        }
        None => sys::close_range(3, i32::MAX),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The command runs.
    Running,
    /// It has ended, and the rest may run on (`--wait-all`).
    Waiting,
    /// The rest was asked to end.
    Ending,
    /// The rest was killed.
    Killed,
}

/// TERM that is held back (`--drain`).
enum Drain {
    Idle,
    /// Until this time.
    Until(u64, Signal),
    /// It was held back once; the next goes through.
    Over,
}

struct Supervisor<'a> {
    options: &'a Options,
    init: Pid,
    main: Pid,
    own_group: bool,
    rest: Rest,
    lent: Option<Lent>,
    /// The command has the terminal of a session that init leads.
    leads_terminal: bool,
    phase: Phase,
    /// The command's exit code, once it has ended.
    code: Option<u8>,
    drain: Drain,
    /// TERM was forwarded: the command was asked to end.
    asked: bool,
    /// When the phase is over at the latest.
    end: Option<u64>,
}

impl Supervisor<'_> {
    fn run(mut self, mut signals: SignalFd) -> u8 {
        if self.options.verbosity > 1 {
            Line::new().text(b"started the command as process ").number(self.main.into()).say();
        }
        let mut reaper = Reaper::new();
        // Children may have died before init was init: nothing will tell of those. The command's
        // own end always will, so that this needs no look at the outcome.
        reaper.sweep(&mut |waited| self.buried(&waited));
        loop {
            let timeout = self.due(&reaper).map(|due| {
                let micros = due.saturating_sub(sys::now());
                i32::try_from(micros.div_ceil(1000)).unwrap_or(i32::MAX)
            });
            for signal in signals.read(timeout) {
                if signal.number == CHLD {
                    reaper.told(signal.pid, self.main, &mut |waited| self.buried(&waited));
                    self.follow_stop();
                } else {
                    self.arrived(signal);
                }
            }
            reaper.sweep(&mut |waited| self.buried(&waited));
            if let Some(code) = self.step(reaper.is_childless()) {
                if let Some(lent) = &self.lent {
                    lent.take_back();
                }
                return self.options.exit_code(code);
            }
        }
    }

    /// When to look at the clock again, if no signal comes.
    fn due(&self, reaper: &Reaper) -> Option<u64> {
        let drain = match self.drain {
            Drain::Until(end, _) => Some(end),
            _ => None,
        };
        // Those who joined the namespace tell nobody here of their end, and what is made while the
        // tree is being killed must be found as well.
        let look = self.phase == Phase::Killed || self.code.is_some() && reaper.is_childless();
        let look = look.then(|| sys::now() + LOOK_AGAIN);
        [reaper.due(), drain, self.end, look].into_iter().flatten().min()
    }

    /// A child was reaped.
    fn buried(&mut self, waited: &Waited) {
        let is_main = waited.pid == self.main && self.code.is_none();
        if is_main {
            let code = if libc::WIFSIGNALED(waited.status) {
                128u8.wrapping_add(libc::WTERMSIG(waited.status) as u8)
            } else {
                libc::WEXITSTATUS(waited.status) as u8
            };
            // Whoever waits for init cannot tell the two apart by the code.
            if code > 128 && self.init == 1 && !libc::WIFSIGNALED(waited.status) {
                sys::set_name(c"init exited");
            }
            self.code = Some(code);
        }
        if is_main && self.options.verbosity > 1 || self.options.verbosity > 2 {
            report(waited);
        }
        if !is_main && self.options.warn_reaped {
            Line::new().text(b"reaped zombie process with pid=").number(waited.pid.into()).say();
        }
    }

    /// A stopped command is a stopped job for whoever waits for init. Where init leads the session nobody
    /// would ever continue it, and the terminal would be lost: its key for stopping has no effect then.
    fn follow_stop(&self) {
        if self.code.is_some() {
            return;
        }
        if let Some(lent) = &self.lent {
            if sys::stopped_by(self.main, true).is_some() {
                lent.stop();
            }
        } else if self.leads_terminal && sys::stopped_by(self.main, false) == Some(libc::SIGTSTP) {
            let _ = sys::kill(-self.main, CONT);
        }
    }

    /// A signal was read that is not about a child.
    fn arrived(&mut self, signal: Signal) {
        let number = signal.number;
        // Written to by init itself, with a reader that is gone.
        let is_own = number == PIPE && signal.pid == self.init;
        // The terminal sends these to the whole foreground group; the command is in it.
        let is_shared = !self.own_group
            && signal.is_from_kernel()
            && matches!(i32::from(number), libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP | libc::SIGWINCH);
        if is_own || is_shared {
            return;
        }
        if self.options.verbosity > 2 {
            let name = signals::name(number).unwrap_or(b"RT");
            Line::new().text(b"got signal ").number(number.into()).text(b" ").text(name).say();
        }
        if number == CONT
            && let Some(lent) = &self.lent
        {
            lent.lend_again();
        }
        if number == TERM && self.options.drain > 0 && self.code.is_none() {
            if let Drain::Idle = self.drain {
                let end = sys::now() + u64::from(self.options.drain) * 1000;
                self.drain = Drain::Until(end, signal);
                return;
            }
            self.drain = Drain::Over;
        }
        self.forward(signal);
    }

    fn forward(&mut self, signal: Signal) {
        let Some(number) = self.options.rewritten(signal.number) else { return };
        let is_term = signal.number == TERM || number == TERM;
        self.asked |= is_term;
        if self.code.is_some() {
            self.rest.signal(number);
            if is_term {
                self.rest.signal(CONT);
                if self.phase == Phase::Waiting && self.options.grace > 0 {
                    self.grant_grace();
                }
            }
            return;
        }
        self.send(&signal, number);
        // A stopped process would keep it pending for ever.
        if is_term && sys::stopped_by(self.main, false).is_some() {
            let _ = sys::kill(self.target(), CONT);
        }
    }

    fn send(&self, signal: &Signal, number: u8) {
        let to_group = self.target() < 0;
        if signal.has_value() {
            let queued = if to_group {
                signal.queue_to_group(self.main, number)
            } else {
                signal.queue(self.main, number)
            };
            if queued.is_ok() {
                return;
            }
        }
        if sys::kill(self.target(), number).is_err() && to_group {
            // The command has left its group.
            let _ = sys::kill(self.main, number);
        }
    }

    /// Whom kill(2) is to reach: the command, or its group.
    fn target(&self) -> Pid {
        if self.options.group { -self.main } else { self.main }
    }

    /// Go on to the next phase if it is time. Returns the exit code at the end.
    fn step(&mut self, childless: bool) -> Option<u8> {
        if let Drain::Until(end, signal) = self.drain
            && sys::now() >= end
        {
            self.drain = Drain::Over;
            self.forward(signal);
        }
        let code = self.code?;
        let nobody = childless && !self.rest.has_strangers();
        let is_over = self.end.is_some_and(|end| sys::now() >= end);
        match self.phase {
            _ if nobody => return Some(code),
            Phase::Running if self.options.wait_all => {
                self.phase = Phase::Waiting;
                if self.asked {
                    self.end_the_rest();
                }
            }
            Phase::Running if self.options.grace == 0 => return Some(code),
            Phase::Running => {
                self.end_the_rest();
            }
            Phase::Waiting => {}
            Phase::Ending if is_over => {
                self.rest.signal(KILL);
                // The kernel waits for the rest of a PID namespace by itself.
                if self.init == 1 {
                    return Some(code);
                }
                self.phase = Phase::Killed;
                self.end = Some(sys::now() + KILLED_WITHIN);
            }
            Phase::Ending => {}
            Phase::Killed if is_over => return Some(code),
            Phase::Killed => {
                self.rest.signal(KILL);
            }
        }
        None
    }

    /// Ask what is left to end, and give it the time that `--grace` says. Without one it may take
    /// its time: that is what `--wait-all` alone means.
    fn end_the_rest(&mut self) {
        if !self.rest.signal(TERM) && self.options.verbosity > 0 {
            Line::new().text(b"no /proc to find the rest of the tree by").say();
        }
        self.rest.signal(CONT);
        if self.options.grace > 0 {
            self.grant_grace();
        }
    }

    fn grant_grace(&mut self) {
        self.phase = Phase::Ending;
        self.end = Some(sys::now() + u64::from(self.options.grace) * 1000);
    }
}

/// How a process died and what it used.
fn report(waited: &Waited) {
    let mut line = Line::new();
    line.text(b"process ").number(waited.pid.into());
    if libc::WIFSIGNALED(waited.status) {
        let signal = libc::WTERMSIG(waited.status);
        let core: &[u8] = if libc::WCOREDUMP(waited.status) { b", core dumped" } else { b"" };
        line.text(b" was killed by signal ").number(signal.into()).text(b" ");
        line.text(signals::name(signal as u8).unwrap_or(b"RT")).text(core);
    } else {
        line.text(b" left with exit code ").number(libc::WEXITSTATUS(waited.status).into());
    }
    line.text(b" (user ").seconds(waited.usage.user).text(b" s, system ");
    line.seconds(waited.usage.system).text(b" s, peak ");
    line.number(waited.usage.peak).text(b" kB)").say();
}
