//! What becomes of a machine that has ended, by what was heard of it: the command's code, an error, or another try. Pure
//! but for what it warns of.

use std::time::Duration;

use coracle_sys::print::harmless;
use coracle_sys::process::Status;
use coracle_sys::{Error, Kind, Result};

use super::qemu::Accel;
use super::wires::{Event, Tail};

/// What is shown of a console.
const LINES: usize = 12;

/// How a try ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Tried {
    Code(u8),
    /// Nothing was ever heard of it, and why that may be.
    Silent(String),
}

/// The emulator's end, and what it was given.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: Status,
    /// Its own last line.
    pub(crate) said: String,
    pub(crate) accel: Accel,
    pub(crate) patience: Duration,
    pub(crate) timeout: Option<Duration>,
    /// There was a command, whose code is missed.
    pub(crate) commanded: bool,
}

/// What was heard of a machine.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) heard: bool,
    pub(crate) up: bool,
    pub(crate) code: Option<u8>,
    pub(crate) failed: Option<String>,
    /// Why its output was not written.
    pub(crate) lost: Option<String>,
    /// The signal for which it was ended.
    pub(crate) told_to: Option<i32>,
    pub(crate) hung: bool,
    pub(crate) timed_out: bool,
}

impl Seen {
    /// Take in what happened.
    pub(crate) fn note(&mut self, event: Event) {
        match event {
            Event::Heard => self.heard = true,
            Event::Up => (self.heard, self.up) = (true, true),
            Event::Code(code) => self.code = Some(code),
            Event::Failed(why) => self.failed = Some(why),
            // What is not read of one that was out of time is no reason.
            Event::Unread if self.timed_out => {}
            Event::Unread => self.told_to = Some(libc::SIGPIPE),
            Event::Lost(why) => self.lost = self.lost.take().or(Some(why)),
            Event::Left => self.told_to = Some(libc::SIGKILL),
            Event::Signal(signal) => self.told_to = Some(self.told_to.unwrap_or(signal)),
            Event::Ended(_) => {}
        }
    }

    /// What that amounts to.
    pub(crate) fn amount(self, end: &End, program: &str, tail: &Tail) -> Result<Tried> {
        if self.told_to == Some(libc::SIGPIPE) {
            return Ok(Tried::Code(128 + libc::SIGPIPE as u8));
        }
        if self.timed_out {
            let seconds = end.timeout.unwrap_or_default().as_secs_f64();
            coracle_sys::warn!("rootfs-tool: the machine was switched off: its time of {seconds} s was over");
            return Ok(Tried::Code(128 + libc::SIGKILL as u8));
        }
        if let Some(why) = self.lost {
            return Err(Error::new(Kind::System, format!("write the machine's output: {why}")));
        }
        if let Some(why) = self.failed {
            return Err(Error::new(Kind::System, format!("the machine's init: {}", harmless(&why))));
        }
        match (self.code, self.told_to) {
            (Some(code), _) => return Ok(Tried::Code(code)),
            (None, Some(signal)) => return Ok(Tried::Code(128 + signal as u8)),
            (None, None) => {}
        }
        let why = match end.status {
            _ if self.hung && self.heard => "its command was not started in time".to_owned(),
            _ if self.hung => format!("it said nothing for {} s", end.patience.as_secs()),
            Status::Signaled(n) if end.said.is_empty() => format!("{program} was killed by signal {n}"),
            Status::Signaled(n) => format!("{program} was killed by signal {n}: {}", end.said),
            Status::Exited(0) => "it ended without a word".to_owned(),
            Status::Exited(n) => format!("{program} ended with {n}: {}", end.said),
        };
        // An emulator that does not like its command line ends with 1, whoever executes instructions.
        let of_kvm = end.accel == Accel::Kvm
            && (end.status != Status::Exited(1) || end.said.to_ascii_lowercase().contains("kvm"));
        if !self.heard && (of_kvm || self.hung) {
            return Ok(Tried::Silent(why));
        }
        match end.status {
            Status::Exited(0) if !self.hung && !end.commanded && tail.panic().is_none() => Ok(Tried::Code(0)),
            Status::Exited(0) if !self.hung => Err(without_code(tail)),
            _ => Err(Error::new(Kind::System, format!("run the machine: {why}"))),
        }
    }
}

/// The console's last lines are told, and what the kernel panicked about is why.
fn without_code(tail: &Tail) -> Error {
    tail.lines(LINES).iter().for_each(|line| coracle_sys::warn!("  | {}", harmless(line)));
    let why = tail.panic().map_or(String::new(), |why| format!(": kernel panic, {}", harmless(&why)));
    Error::new(Kind::System, format!("the machine ended without an exit code{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: Status, said: &str, accel: Accel) -> End {
        End {
            status,
            said: said.to_owned(),
            accel,
            patience: Duration::from_secs(60),
            timeout: None,
            commanded: true,
        }
    }

    fn seen(events: Vec<Event>) -> Seen {
        let mut seen = Seen::default();
        events.into_iter().for_each(|event| seen.note(event));
        seen
    }

    #[test]
    fn what_was_told_counts_before_how_it_ended() {
        let off = end(Status::Exited(0), "", Accel::Tcg);
        let killed = end(Status::Signaled(9), "", Accel::Tcg);
        let code = |events, end: &End| match seen(events).amount(end, "q", &Tail::default()).unwrap() {
            Tried::Code(code) => code,
            Tried::Silent(why) => panic!("{why}"),
        };
        assert_eq!(code(vec![Event::Up, Event::Code(7)], &off), 7);
        assert_eq!(code(vec![Event::Up, Event::Signal(15), Event::Code(3)], &off), 3);
        assert_eq!(code(vec![Event::Up, Event::Signal(2), Event::Signal(15)], &killed), 130);
        assert_eq!(code(vec![Event::Signal(1)], &killed), 129);
        assert_eq!(code(vec![Event::Up, Event::Unread, Event::Code(0)], &off), 141);
        assert_eq!(code(vec![Event::Up, Event::Left], &killed), 137);
    }

    #[test]
    fn what_failed_is_said_and_what_was_never_heard_of_is_tried_again() {
        let error =
            |events, end: &End| seen(events).amount(end, "q", &Tail::default()).unwrap_err().to_string();
        let off = end(Status::Exited(0), "", Accel::Tcg);
        assert_eq!(error(vec![Event::Failed("no root".to_owned())], &off), "the machine's init: no root");
        assert_eq!(error(vec![Event::Heard], &off), "the machine ended without an exit code");
        let wrong = end(Status::Exited(1), "Could not set up host forwarding rule", Accel::Kvm);
        assert!(error(vec![], &wrong).ends_with("q ended with 1: Could not set up host forwarding rule"));
        for (status, said) in
            [(Status::Signaled(6), ""), (Status::Exited(0), ""), (Status::Exited(1), "Could not access KVM")]
        {
            let tried = seen(vec![]).amount(&end(status, said, Accel::Kvm), "q", &Tail::default());
            assert!(matches!(tried, Ok(Tried::Silent(_))), "{status:?}");
        }
        let hung = Seen { hung: true, ..Seen::default() };
        let tried = hung.amount(&end(Status::Signaled(9), "", Accel::Tcg), "q", &Tail::default());
        assert_eq!(tried.unwrap(), Tried::Silent("it said nothing for 60 s".to_owned()));
    }

    #[test]
    fn a_panic_is_named() {
        let tail = Tail::default();
        tail.add(b"[    1.0] Kernel panic - not syncing: VFS: no root\r\n[    1.1] CPU: 0\r\n");
        let e = seen(vec![Event::Heard]).amount(&end(Status::Exited(0), "", Accel::Tcg), "q", &tail);
        let why = "the machine ended without an exit code: kernel panic, not syncing: VFS: no root";
        assert_eq!(e.unwrap_err().to_string(), why);
        let services = End { commanded: false, ..end(Status::Exited(0), "", Accel::Tcg) };
        assert!(seen(vec![Event::Heard]).amount(&services, "q", &tail).is_err());
        let quiet = seen(vec![Event::Heard]).amount(&services, "q", &Tail::default());
        assert_eq!(quiet.unwrap(), Tried::Code(0), "services have no code");
    }
}
