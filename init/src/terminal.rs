//! The terminal's foreground: handed to the command if init has it, and taken back at the end.
//!
//! Every signal is blocked, SIGTTOU too, so that none of these calls can stop init.

use crate::sys::{self, Pid};

/// Where the command goes, decided before it is started.
pub(crate) struct Placement {
    /// Whether it leads a process group of its own.
    pub(crate) own_group: bool,
    /// The terminal whose foreground it is given.
    pub(crate) terminal: Option<i32>,
}

impl Placement {
    /// Look at the terminal, if there is one. `group` asks for a process group in any case.
    pub(crate) fn decide(group: bool) -> Self {
        let Some((terminal, foreground)) = find() else {
            return Self { own_group: true, terminal: None };
        };
        let own = sys::getpgrp();
        // A process group of 0 is one outside the PID namespace, shared with whoever made it: it
        // can be left, never given back. The command stays in it and keeps the terminal as it is.
        let own_group = own != 0 || group;
        let terminal = (own != 0 && own == foreground).then_some(terminal);
        Self { own_group, terminal }
    }
}

/// The controlling terminal's descriptor and its foreground group.
fn find() -> Option<(i32, Pid)> {
    let standard = (0..3).find_map(|fd| Some((fd, sys::foreground_group(fd).ok()?)));
    standard.or_else(|| {
        let fd = sys::open(c"/dev/tty", libc::O_RDWR | libc::O_NOCTTY).ok()?;
        Some((fd, sys::foreground_group(fd).ok()?))
    })
}

/// A terminal whose foreground the command was given, and that someone wants back.
pub(crate) struct Lent {
    fd: i32,
    main: Pid,
}

impl Lent {
    /// Keep hold of the terminal, on a descriptor that is not a standard one. The leader of a
    /// session does not: the terminal is hung up when it ends.
    pub(crate) fn keep(terminal: Option<i32>, main: Pid) -> Option<Self> {
        if sys::is_session_leader() {
            return None;
        }
        Some(Self { fd: sys::duplicate(terminal?, 3).ok()?, main })
    }

    /// The descriptor that is to stay open.
    pub(crate) fn fd(&self) -> i32 {
        self.fd
    }

    /// init was continued: if that was by `fg`, the command goes to the foreground with it.
    pub(crate) fn lend_again(&self) {
        if sys::foreground_group(self.fd) == Ok(sys::getpgrp()) {
            let _ = sys::set_foreground_group(self.fd, self.main);
        }
    }

    /// The command was stopped: let whoever waits for init see init stop, and take the foreground
    /// itself. Goes on when init is continued.
    pub(crate) fn stop(&self) {
        sys::stop_self();
        // Not stopped at all, because nobody would continue it: neither is the command to be.
        if !sys::is_pending(libc::SIGCONT as u8) {
            self.lend_again();
            let _ = sys::kill(-self.main, libc::SIGCONT as u8);
        }
    }

    /// The end: take the foreground back, unless someone else has taken it.
    pub(crate) fn take_back(&self) {
        let Ok(foreground) = sys::foreground_group(self.fd) else { return };
        if foreground == self.main || sys::kill(-foreground, 0) == Err(sys::Errno(libc::ESRCH)) {
            let _ = sys::set_foreground_group(self.fd, sys::getpgrp());
        }
    }
}
