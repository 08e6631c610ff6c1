//! A process that runs, held so that its number cannot come to mean another one: its pidfd; where a filter of system calls
//! does not let one be opened (containers of older hosts), its folder of /proc, which ends with it as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use crate::pidfd::{self, stat};
use crate::{Context, Error, Result};

/// How often a process is looked at that does not tell its end.
const LOOK: Duration = Duration::from_millis(20);

/// A process of somebody's.
#[derive(Debug)]
pub struct Handle {
    file: OwnedFd,
    is_pidfd: bool,
}

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The process has ended.
    Ended,
    /// There is something to read.
    Readable,
    /// Neither, in this time.
    InVain,
}

impl Handle {
    /// The process that has this number now; `ESRCH` where there is none. Whether it is the one that was meant is to be
    /// looked at after this.
    pub fn open(pid: i32) -> Result<Self> {
        match pidfd::open(pid) {
            Err(e) if matches!(e.errno(), Some(Errno::ENOSYS | Errno::EPERM)) => Self::in_proc(pid),
            opened => Ok(Self { file: opened?, is_pidfd: true }),
        }
    }

    fn in_proc(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(path.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => Err(Error::syscall(format!("open({path:?})"), Errno::ESRCH)),
            opened => Ok(Self { file: opened.context(|| format!("open({path:?})"))?, is_pidfd: false }),
        }
    }

    /// Send it a signal. `ESRCH` where it is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::signal(self.file.as_fd(), signal)
    }

    /// Wait for its end, or for `other` to be readable.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, at_most: Option<Duration>) -> Result<Woken> {
        let deadline = at_most.and_then(|time| Instant::now().checked_add(time));
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if !self.is_pidfd && self.has_ended() {
                return Ok(Woken::Ended);
            }
            let slice = if self.is_pidfd { left } else { Some(left.map_or(LOOK, |left| left.min(LOOK))) };
            // Rounded up: else the last millisecond is spent in turning round.
            let timeout = slice.map_or(PollTimeout::NONE, |slice| {
                PollTimeout::try_from(slice.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            });
            let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let own = self.is_pidfd.then(|| self.file.as_fd());
            let mut set: Vec<PollFd<'_>> = own.into_iter().chain(other).map(read).collect();
            match poll(&mut set, timeout) {
                Err(Errno::EINTR) | Ok(0) => {}
                Err(e) => return Err(e).context(|| "poll(pidfd)"),
                Ok(_) if self.is_pidfd && set[0].any().unwrap_or(true) => return Ok(Woken::Ended),
                Ok(_) => return Ok(Woken::Readable),
            }
            if deadline.is_some_and(|end| Instant::now() >= end) {
                return Ok(Woken::InVain);
            }
        }
    }

    /// Enter namespaces of its: for each the flag, and its name in /proc/PID/ns. The first is entered first where they
    /// cannot be entered at once.
    pub fn enter(&self, namespaces: &[(CloneFlags, &str)]) -> Result<()> {
        let all: CloneFlags = namespaces.iter().map(|(flag, _)| *flag).collect();
        if self.is_pidfd {
            return setns(&self.file, all).context(|| format!("setns(pidfd, {all:?})"));
        }
        let open = |(flag, name): &(CloneFlags, &str)| {
            let path = format!("ns/{name}");
            let opened = openat(&self.file, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            opened.map(|fd| (fd, *flag)).context(|| format!("openat(/proc/PID, {path:?})"))
        };
        // Its entry in /proc is closed to who is in its user namespace already.
        let opened = namespaces.iter().map(open).collect::<Result<Vec<_>>>()?;
        let enter =
            |(fd, flag): &(OwnedFd, CloneFlags)| setns(fd, *flag).context(|| format!("setns({flag:?})"));
        opened.iter().try_for_each(enter)
    }

    /// It as a bare descriptor, for [`pidfd::signal`].
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }

    /// Gone, or a zombie, which /proc still shows.
    fn has_ended(&self) -> bool {
        let Ok(stat) = stat(self.file.as_fd()) else { return true };
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        // The first thread may have ended before the others: field 20 counts them.
        let threads = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(17)?.parse().ok());
        matches!(state, Some('Z' | 'X') | None) && threads.is_none_or(|n: u64| n < 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::number;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_process_is_signalled_and_waited_for_by_either_kind_of_handle() {
        for open in [Handle::open, Handle::in_proc] {
            let mut child = sleeper();
            let handle = open(child.id() as i32).unwrap();
            assert_eq!(number(handle.file.as_fd()), Some(child.id() as i32));
            assert_eq!(handle.wait(None, Some(Duration::from_millis(30))).unwrap(), Woken::InVain);
            let (reader, writer) = nix::unistd::pipe().unwrap();
            nix::unistd::write(&writer, b"x").unwrap();
            assert_eq!(handle.wait(Some(reader.as_fd()), None).unwrap(), Woken::Readable);
            handle.signal(libc::SIGKILL).unwrap();
            // A zombie has ended.
            assert_eq!(handle.wait(None, None).unwrap(), Woken::Ended);
            child.wait().unwrap();
            assert_eq!(handle.signal(libc::SIGKILL).unwrap_err().errno(), Some(Errno::ESRCH));
            assert_eq!(number(handle.file.as_fd()), None);
        }
    }

    #[test]
    fn there_is_no_handle_of_nobody() {
        // Beyond what pids are ever given out.
        for open in [Handle::open, Handle::in_proc] {
            assert_eq!(open(0x3fff_ffff).unwrap_err().errno(), Some(Errno::ESRCH));
        }
    }
}
