//! All processes of a container at once: stopped, let go on, killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_sys::handle::Handle;
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;

use super::group::{Cgroup, write};
use super::plan::Group;

/// How long killed processes may take to be gone, and stopped ones to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long those may take that the kernel kills by itself.
const KILLED_SOON: Duration = Duration::from_millis(30);

impl Cgroup {
    /// Every process in the groups, and in those that the container made below.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.groups().iter().find(|g| g.unified).or(self.groups().first()) {
            Some(group) => processes(&group.dir),
            None => Ok(Vec::new()),
        }
    }

    /// Stop every process, until [`Self::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true).context(|| "pause the container")
    }

    /// Let every process go on. They may have ended by then, and their groups be gone.
    pub fn thaw(&self) -> Result<()> {
        match self.set_frozen(false) {
            Err(_) if self.freezer().is_some_and(|group| !group.dir.exists()) => Ok(()),
            other => other.context(|| "resume the container"),
        }
    }

    /// Whether it is stopped, or on its way there. What has no freezer never is.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some(group) = self.freezer() else { return Ok(false) };
        let file = if group.unified { "cgroup.freeze" } else { "freezer.state" };
        match std::fs::read_to_string(group.dir.join(file)) {
            Ok(state) => Ok(matches!(state.trim(), "1" | "FROZEN" | "FREEZING")),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(e) => Err(e).context(|| format!("read({:?})", group.dir.join(file))),
        }
    }

    fn freezer(&self) -> Option<&Group> {
        self.groups().iter().find(|g| g.unified || g.controllers.iter().any(|c| c == "freezer"))
    }

    fn set_frozen(&self, on: bool) -> Result<()> {
        let group = self.freezer().ok_or_else(|| {
            Error::unsupported("the container was started without the cgroup controller freezer")
        })?;
        if group.unified {
            write(&group.dir.join("cgroup.freeze"), if on { "1" } else { "0" })?;
            let word = if on { "frozen 1" } else { "frozen 0" };
            return eventually(|| Ok(text(&group.dir, "cgroup.events")?.lines().any(|l| l == word)));
        }
        let file = group.dir.join("freezer.state");
        let state = if on { "FROZEN" } else { "THAWED" };
        // A task that is between two states holds the group in FREEZING until it is asked again.
        eventually(|| {
            write(&file, state)?;
            Ok(text(&group.dir, "freezer.state")?.trim() == state)
        })
    }

    /// Kill every process and wait until they are gone. What they fork meanwhile is killed too.
    pub fn kill_all(&self) -> Result<()> {
        let Some(group) =
            self.groups().iter().find(|g| g.unified).or(self.freezer()).or(self.groups().first())
        else {
            return Ok(());
        };
        match group.unified.then(|| write(&group.dir.join("cgroup.kill"), "1")) {
            Some(Err(e)) if e.errno() == Some(Errno::ENOENT) && !group.dir.exists() => return Ok(()),
            // Before Linux 5.14.
            Some(Err(e)) if e.errno() == Some(Errno::ENOENT) => {}
            Some(other) => {
                other?;
                // It passes over a process whose first thread has ended before the others: that one needs a signal.
                let patient = Instant::now() + KILLED_SOON;
                return eventually(|| match Instant::now() < patient {
                    true => Ok(processes(&group.dir)?.is_empty()),
                    false => Ok(kill_each(&group.dir)? == 0),
                });
            }
            None => {}
        }
        eventually(|| {
            let frozen = self.freezer().is_some() && self.freeze().is_ok();
            let killed = kill_each(&group.dir);
            if frozen {
                self.thaw()?;
            }
            Ok(killed? == 0)
        })
        .context(|| "kill the container's processes")
    }
}

/// One round over the processes; how many there were.
fn kill_each(dir: &Path) -> Result<usize> {
    let pids = processes(dir)?;
    for pid in &pids {
        let process = match Handle::open(*pid) {
            Ok(process) => process,
            Err(e) if e.errno() == Some(Errno::ESRCH) => continue,
            Err(e) => return Err(e),
        };
        // The number may have become another's between the list and the descriptor.
        if processes(dir)?.contains(pid) {
            match process.signal(libc::SIGKILL) {
                Err(e) if e.errno() != Some(Errno::ESRCH) => return Err(e),
                _ => {}
            }
        }
    }
    Ok(pids.len())
}

fn processes(dir: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut rest: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        let file = dir.join("cgroup.procs");
        match std::fs::read_to_string(&file) {
            // 0 is a process that our pid namespace does not see.
            Ok(list) => found.extend(list.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => continue,
            Err(e) => return Err(e).context(|| format!("read({file:?})")),
        }
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        rest.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    Ok(found)
}

fn text(dir: &Path, file: &str) -> Result<String> {
    let file = dir.join(file);
    std::fs::read_to_string(&file).context(|| format!("read({file:?})"))
}

fn eventually(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut nap = Duration::from_micros(100);
    while !done()? {
        if Instant::now() >= end {
            return Err(Error::new(Kind::Busy, "the processes of the cgroup do not follow"));
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
    Ok(())
}
