//! Processes that cannot be mistaken for later ones with their pid: asked, stopped, killed.

use std::path::Path;
use std::time::Duration;

use coracle_sys::handle::Handle;
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use serde::Serialize;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that cannot be mistaken for a later one with its pid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// In the runner's pid namespace.
    pub pid: i32,
    /// Clock ticks since boot, as in /proc/PID/stat.
    pub start_time: u64,
}

read_json!(Identity {
    pid: must "pid",
    start_time: must "startTime",
});

impl Identity {
    /// Look at a process that exists now.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = text(&path)?;
        let start_time = start_time(&stat).ok_or_else(|| Error::invalid(format!("read {path}: {stat:?}")))?;
        Ok(Self { pid, start_time })
    }

    /// This very process.
    pub fn of_this_process() -> Result<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Whether it still runs. A zombie does not; one whose first thread alone is a zombie does.
    pub fn is_alive(self) -> bool {
        let Ok(stat) = text(&format!("/proc/{}/stat", self.pid)) else { return false };
        let over = matches!(run_state(&stat), Some('Z' | 'X')) && threads(&stat).is_none_or(|n| n < 2);
        !over && start_time(&stat) == Some(self.start_time)
    }

    /// Whether it has ended, or is on its way to: it has no root, no namespaces and no group any more then.
    pub fn is_ending(self) -> bool {
        const PF_EXITING: u64 = 4;
        let stat = text(&format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        !self.is_alive() || flags(&stat).is_none_or(|flags| flags & PF_EXITING != 0)
    }

    /// Kill it, and wait until it is gone. One that is gone is fine.
    pub fn kill(&self) -> Result<()> {
        let gone = |e: &Error| e.errno() == Some(Errno::ESRCH);
        let process = match self.hold() {
            Err(e) if gone(&e) => return Ok(()),
            other => other?,
        };
        match process.signal(libc::SIGKILL) {
            Err(e) if gone(&e) => return Ok(()),
            other => other?,
        }
        process.wait(None, Some(PATIENCE)).map(drop)
    }

    /// Hold it. `ESRCH` where it is gone.
    pub fn hold(&self) -> Result<Handle> {
        let process = Handle::open(self.pid)?;
        // Between the look and the open another process may have got the pid.
        match self.is_alive() {
            true => Ok(process),
            false => Err(Errno::ESRCH).context(|| format!("pidfd_open({})", self.pid)),
        }
    }

    /// Send it a signal. `ESRCH` where it is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.hold()?.signal(signal)
    }

    /// Whether it was stopped, by job control or a tracer.
    pub fn is_stopped(&self) -> bool {
        let Ok(stat) = text(&format!("/proc/{}/stat", self.pid)) else { return false };
        matches!(run_state(&stat), Some('T' | 't')) && start_time(&stat) == Some(self.start_time)
    }
}

fn text(path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::read(Path::new(path))?).into_owned())
}

/// Field 3 of /proc/PID/stat.
fn run_state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Field 9 of /proc/PID/stat.
fn flags(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()
}

/// Field 20 of /proc/PID/stat: a first thread that has ended counts until the others have.
fn threads(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(17)?.parse().ok()
}

/// Field 22 of /proc/PID/stat. The name in field 2 may hold anything, so it is counted from its end.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_does_not_hide_the_start_time() {
        let rest = (3..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_time(&format!("7 (a) b) (c) {rest}")), Some(22));
        assert_eq!(start_time("7 (a"), None);
        assert_eq!(flags(&format!("7 (a) b) (c) {rest}")), Some(9));
        assert_eq!(threads(&format!("7 (a) b) (c) {rest}")), Some(20));
    }
}
