//! A job: CMD or a service, what is said of it, and where it is in its life.

use core::ffi::CStr;

use super::fault::{Fault, Result};
use super::settings::{Plan, Settings};
use crate::log::Line;
use crate::signals;
use crate::sys::Pid;
use crate::text::{cut, number};

/// When it is started again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Restart {
    No,
    OnFailure,
    Always,
}

/// How it tells that it is ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ready {
    /// Not at all: it is once it was started.
    Started,
    /// By a newline on this descriptor.
    Fd(i32),
    /// As sd_notify(3) has it.
    Notify,
}

/// Where what it writes goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Console,
    /// A file, and the size in bytes at which it is put aside.
    File(&'static [u8], u64),
}

/// What is said of it. Durations are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Manner {
    pub(crate) restart: Restart,
    pub(crate) ready: Ready,
    pub(crate) output: Output,
    pub(crate) oneshot: bool,
    pub(crate) stop_signal: u8,
    pub(crate) stop_timeout: u32,
    pub(crate) start_timeout: u32,
}

/// Where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// Others have to be ready first.
    Waiting,
    /// It was started, and is not ready.
    Starting,
    Running,
    /// It has ended, and is started again when it is due.
    Resting,
    /// It was told to end, and is killed when it is due.
    Stopping,
    /// It has ended as it should.
    Done,
    /// It has ended as it should not, and is not started again.
    Failed,
}

/// CMD or a service.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) name: &'static [u8],
    pub(crate) settings: Settings,
    pub(crate) manner: Manner,
    /// It is CMD: its end is the machine's, and it comes after every service.
    pub(crate) main: bool,
    pub(crate) state: State,
    /// Its process; 0 while it has none.
    pub(crate) pid: Pid,
    /// When to look at it again, in microseconds; 0 is never.
    pub(crate) due: u64,
    pub(crate) started: u64,
    /// It did not do in time what it was to do.
    pub(crate) killed: bool,
    /// How often it has ended too soon, one after the other.
    pub(crate) failures: u32,
    /// NOTIFY_SOCKET= and where that is.
    pub(crate) notify: Option<&'static CStr>,
    /// Where it tells that it is ready.
    pub(crate) readiness: Option<i32>,
    /// The pipe that its output comes through: our end and its end.
    pub(crate) pipe: Option<[i32; 2]>,
    /// The file of its output, and how much is in it.
    pub(crate) log: Option<(i32, u64)>,
}

/// Every key of a service's file.
const KEYS: &[u8] =
    b"command arg env user groups cwd restart after ready start-timeout stop-signal stop-timeout log oneshot";

impl Job {
    /// CMD.
    pub(crate) fn command(settings: Settings, plan: &Plan) -> Result<Self> {
        let manner = Manner {
            restart: Restart::No,
            ready: Ready::Started,
            output: Output::Console,
            oneshot: false,
            stop_signal: settings.signal(b"stop-signal")?,
            stop_timeout: plan.grace,
            start_timeout: 0,
        };
        Ok(Self { main: true, ..Self::new(b"CMD", settings, manner) })
    }

    /// A service, by what its file says.
    pub(crate) fn service(name: &'static [u8], settings: Settings) -> Result<Self> {
        Ok(Self::new(name, settings, Manner::decide(&settings)?))
    }

    #[inline(never)]
    fn new(name: &'static [u8], settings: Settings, manner: Manner) -> Self {
        Self {
            name,
            settings,
            manner,
            main: false,
            state: State::Waiting,
            pid: 0,
            due: 0,
            started: 0,
            killed: false,
            failures: 0,
            notify: None,
            readiness: None,
            pipe: None,
            log: None,
        }
    }

    /// Say how it ended.
    pub(crate) fn tell_end(&self, status: i32) {
        let mut line = Line::new();
        line.text(b"service ").text(self.name);
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            line.text(b": killed by signal ").number(signal.into());
            line.text(b" ").text(signals::name(signal as u8).unwrap_or(b"RT"));
        } else {
            line.text(b": ended with exit code ").number(libc::WEXITSTATUS(status).into());
        }
        line.complain();
    }

    /// Whether it comes after the service of this name.
    pub(crate) fn comes_after(&self, name: &[u8]) -> bool {
        self.main && name != self.name || self.settings.all(b"after").any(|after| after.to_bytes() == name)
    }

    /// Whether what comes after it may start.
    pub(crate) fn lets_others_start(&self) -> bool {
        match self.state {
            State::Running => !self.manner.oneshot,
            State::Done | State::Failed => true,
            _ => false,
        }
    }

    /// Whether it has no process and gets none.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed)
    }
}

impl Manner {
    /// Decide.
    fn decide(settings: &Settings) -> Result<Self> {
        settings.check(KEYS)?;
        if settings.get(b"command").is_none() {
            return Err(Fault::value(b"command", b"is missing"));
        }
        let word = |key| settings.get(key).map(CStr::to_bytes);
        let refuse = |key, why| Err(Fault::value(key, why));
        let restart = match settings.choice(b"restart", b"no on-failure always")? {
            0 => Restart::No,
            1 => Restart::OnFailure,
            _ => Restart::Always,
        };
        let fd = word(b"ready").and_then(|text| text.strip_prefix(b"fd:")).and_then(number);
        let ready = match fd.filter(|fd| (3..1024).contains(fd)) {
            Some(fd) => Ready::Fd(fd as i32),
            None => match settings.choice(b"ready", b"none notify fd:N")? {
                0 => Ready::Started,
                1 => Ready::Notify,
                _ => return refuse(b"ready", b"takes fd:N from 3 on"),
            },
        };
        let oneshot = settings.flag(b"oneshot")?;
        if oneshot && (ready != Ready::Started || restart == Restart::Always) {
            return refuse(b"oneshot", b"cannot have ready= or restart=always");
        }
        Ok(Self {
            restart,
            ready,
            output: output(word(b"log"))?,
            oneshot,
            stop_signal: settings.signal(b"stop-signal")?,
            stop_timeout: settings.millis(b"stop-timeout", 10_000)?,
            start_timeout: settings.millis(b"start-timeout", 60_000)?,
        })
    }
}

/// `console`, or `FILE[:SIZE]` where SIZE may end with k or m.
fn output(text: Option<&'static [u8]>) -> Result<Output> {
    let Some(text) = text.filter(|text| *text != b"console") else { return Ok(Output::Console) };
    let refusal = || Fault::value(b"log", b"takes console or /FILE[:SIZE[k|m]]");
    let (file, size) = match cut(text, b':') {
        None => (text, 1 << 20),
        Some((file, size)) => {
            let (digits, unit) = match size {
                [digits @ .., b'k' | b'K'] => (digits, 1 << 10),
                [digits @ .., b'm' | b'M'] => (digits, 1 << 20),
                digits => (digits, 1),
            };
            let size = number(digits).and_then(|size| size.checked_mul(unit)).filter(|size| *size >= 4096);
            (file, size.ok_or_else(refusal)?)
        }
    };
    if file.first() == Some(&b'/') && file.len() < 240 {
        Ok(Output::File(file, size))
    } else {
        Err(refusal())
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::read_lines;
    use super::*;

    fn service(text: &str) -> Result<Job> {
        let text = Box::leak(format!("{text}\0").into_bytes().into_boxed_slice());
        Job::service(b"name", Settings::of(read_lines(text, b"name")?))
    }

    #[test]
    fn a_service_needs_only_a_command() {
        let manner = service("command=/bin/x\n").unwrap().manner;
        let expected = Manner {
            restart: Restart::No,
            ready: Ready::Started,
            output: Output::Console,
            oneshot: false,
            stop_signal: 15,
            stop_timeout: 10_000,
            start_timeout: 60_000,
        };
        assert_eq!(manner, expected);
    }

    #[test]
    fn what_is_said_of_a_service_is_heeded() {
        let text = "command=x\nafter=a\nafter=b\nrestart=always\nready=fd:3\nlog=/var/log/x:64k\nstop-signal=INT\nstop-timeout=0.5\n";
        let job = service(text).unwrap();
        assert_eq!((job.manner.restart, job.manner.ready), (Restart::Always, Ready::Fd(3)));
        assert_eq!(job.manner.output, Output::File(b"/var/log/x", 65536));
        assert_eq!((job.manner.stop_signal, job.manner.stop_timeout), (2, 500));
        assert!(job.comes_after(b"a") && job.comes_after(b"b") && !job.comes_after(b"name"));
    }

    #[test]
    fn what_is_wrong_of_a_service_is_refused() {
        for text in [
            "",
            "arg=x",
            "command=x\nrestart=yes",
            "command=x\nready=fd:2",
            "command=x\nready=fd:",
            "command=x\nready=soon",
            "command=x\noneshot=1\nready=notify",
            "command=x\noneshot=1\nrestart=always",
            "command=x\nlog=relative",
            "command=x\nlog=/x:10",
            "command=x\nlog=/x:99999999999999999999m",
            "command=x\ntty=1",
            "command=x\nstop-signal=0",
        ] {
            assert!(service(text).is_err(), "{text}");
        }
    }
}
