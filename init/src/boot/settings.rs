//! What the machine is to do: boot.conf and the kernel's command line, every decision taken. Pure.

use core::ffi::CStr;

use super::entries::{self, Entries};
use super::fault::{Fault, OrFault, Result};
use crate::sys::machine::Power;
use crate::sys::text_of;
use crate::{args, signals, text};

/// Every key there is.
const KEYS: &[u8] =
    b"arg cwd data env exit grace groups hostname ip log modules mount overlay rescue service services \
    stop-signal tty user wait watchdog";

/// Entries of a file, and behind them those of the kernel's command line, which win.
#[derive(Clone, Copy)]
pub(crate) struct Settings(Entries<'static>);

impl Settings {
    /// None.
    pub(crate) const NONE: Self = Self(Entries::NONE);

    /// These.
    pub(crate) const fn of(entries: Entries<'static>) -> Self {
        Self(entries)
    }

    /// The value of a key that has one: the last that was said.
    #[inline(never)]
    pub(crate) fn get(&self, key: &[u8]) -> Option<&'static CStr> {
        self.all(key).last()
    }

    /// All values of a key that may be repeated.
    pub(crate) fn all<'k>(&self, key: &'k [u8]) -> Values<'k> {
        Values { rest: self.0, key }
    }

    /// Which of these words, parted by blanks, the value is; the first where nothing is said.
    pub(crate) fn choice(&self, key: &[u8], words: &[u8]) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(0) };
        text::position(value.to_bytes(), words).ok_or_else(|| Fault::choice(key, words))
    }

    /// The value of a key that is 0 or 1.
    pub(crate) fn flag(&self, key: &[u8]) -> Result<bool> {
        Ok(self.choice(key, b"0 1")? == 1)
    }

    /// A duration in milliseconds, given in seconds.
    pub(crate) fn millis(&self, key: &[u8], otherwise: u32) -> Result<u32> {
        let Some(value) = self.get(key) else { return Ok(otherwise) };
        args::millis(value.to_bytes()).or_refusal(key, b"takes seconds, such as 10 or 0.5")
    }

    /// A signal by name or number.
    pub(crate) fn signal(&self, key: &[u8]) -> Result<u8> {
        let Some(value) = self.get(key) else { return Ok(libc::SIGTERM as u8) };
        signals::parse(value.to_bytes()).or_refusal(key, b"no such signal")
    }

    /// Refuse a key that is none of these, which are parted by blanks.
    pub(crate) fn check(&self, keys: &[u8]) -> Result<()> {
        let mut rest = self.0;
        while let Some((key, value)) = rest.next() {
            if key == b"env" && !matches!(text::cut(value, b'='), Some(([_, ..], _))) {
                return Err(Fault::value(key, b"takes NAME=VALUE"));
            }
            if text::position(key, keys).is_none() {
                return Err(Fault::value(key, b"there is no such key"));
            }
        }
        Ok(())
    }
}

/// The values of one key.
pub(crate) struct Values<'k> {
    rest: Entries<'static>,
    key: &'k [u8],
}

impl Iterator for Values<'_> {
    type Item = &'static CStr;

    #[inline(never)]
    fn next(&mut self) -> Option<&'static CStr> {
        loop {
            let (key, value) = self.rest.next()?;
            if key == self.key {
                return Some(text_of(value));
            }
        }
    }
}

/// Read the lines of a file.
pub(crate) fn read_lines(text: &'static mut [u8], name: &'static [u8]) -> Result<Entries<'static>> {
    entries::lines(text).map_err(|refusal| Fault::text(b"read", name, refusal.why))
}

/// What CMD's end, or a signal that asks for nothing else, leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exit {
    Power(Power),
    /// The code goes to the port, which has to be there; then the power is switched off.
    Port,
}

impl Exit {
    /// What becomes of the machine.
    pub(crate) fn power(self) -> Power {
        match self {
            Self::Power(power) => power,
            Self::Port => Power::Off,
        }
    }
}

/// Single settings. Durations are in milliseconds.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) exit: Exit,
    pub(crate) grace: u32,
    /// How long a device may take to appear.
    pub(crate) wait: u32,
    pub(crate) tty: bool,
    pub(crate) rescue: bool,
    /// 0 is none.
    pub(crate) watchdog: u32,
    /// 1 is normal: warnings only.
    pub(crate) verbosity: u8,
}

impl Plan {
    /// What holds where nothing is said.
    pub(crate) const DEFAULT: Self = Self {
        exit: Exit::Power(Power::Off),
        grace: 10_000,
        wait: 10_000,
        tty: false,
        rescue: false,
        watchdog: 0,
        verbosity: 1,
    };

    /// Decide.
    pub(crate) fn decide(settings: &Settings) -> Result<Self> {
        settings.check(KEYS)?;
        settings.signal(b"stop-signal")?;
        let exit = match settings.choice(b"exit", b"poweroff reboot halt port")? {
            0 => Exit::Power(Power::Off),
            1 => Exit::Power(Power::Restart),
            2 => Exit::Power(Power::Halt),
            _ => Exit::Port,
        };
        let watchdog = settings.get(b"watchdog").map_or(Some(0), |value| text::number(value.to_bytes()));
        let watchdog = watchdog.filter(|seconds| *seconds <= 86_400);
        let level = settings.get(b"log").map_or(Ok(1), |_| settings.choice(b"log", b"0 1 2"))?;
        Ok(Self {
            exit,
            grace: settings.millis(b"grace", Self::DEFAULT.grace)?,
            wait: settings.millis(b"wait", Self::DEFAULT.wait)?,
            tty: settings.flag(b"tty")?,
            rescue: settings.flag(b"rescue")?,
            watchdog: watchdog.or_refusal(b"watchdog", b"takes whole seconds")? as u32,
            verbosity: level as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str, line: &str) -> Settings {
        let text = |text: &str| Box::leak(format!("{text}\0").into_bytes().into_boxed_slice());
        let file = read_lines(text(file), b"boot.conf").unwrap().bytes();
        let both = [file, entries::words(text(line), b"init.").unwrap().bytes()].concat();
        Settings::of(Entries::of(both.leak()))
    }

    #[test]
    fn the_command_line_wins_and_adds_to_what_is_repeated() {
        let settings =
            settings("hostname=a\narg=sh\nenv=A=1\n", "x init.hostname=b init.arg=-c init.env=A=2");
        assert_eq!(settings.get(b"hostname"), Some(c"b"));
        assert!(settings.all(b"arg").eq([c"sh", c"-c"]));
        assert!(settings.all(b"env").eq([c"A=1", c"A=2"]));
        assert_eq!(settings.get(b"cwd"), None);
    }

    #[test]
    fn a_plan_holds_what_was_said() {
        assert_eq!(Plan::decide(&settings("", "quiet")), Ok(Plan::DEFAULT));
        let file = "exit=port\ngrace=0.5\nwait=3\ntty=1\nrescue=1\nwatchdog=60\nlog=2\n";
        let expected = Plan {
            exit: Exit::Port,
            grace: 500,
            wait: 3000,
            tty: true,
            rescue: true,
            watchdog: 60,
            verbosity: 2,
        };
        assert_eq!(Plan::decide(&settings(file, "")), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (file, name) in [
            ("colour=red", "colour"),
            ("tty=yes", "tty"),
            ("exit=", "exit"),
            ("grace=soon", "grace"),
            ("wait=-1", "wait"),
            ("watchdog=1.5", "watchdog"),
            ("watchdog=86401", "watchdog"),
            ("log=all", "log"),
            ("log=9", "log"),
            ("env=NAME", "env"),
            ("env==value", "env"),
            ("stop-signal=NOPE", "stop-signal"),
        ] {
            let fault = Plan::decide(&settings(file, "")).unwrap_err();
            let line = String::from_utf8(fault.line().finish().to_vec()).unwrap();
            assert!(line.starts_with(&format!("init: read {name}: ")), "{line}");
        }
    }
}
