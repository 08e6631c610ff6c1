//! Being told that a container ran out of memory: on v1 the kernel counts up an eventfd, on v2 it changes
//! `memory.events`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;

use super::group::{Cgroup, write};
use super::stats::keyed;
use super::sys;

/// Poll it; when it can be read, ask what was [`heard`](Self::heard).
#[derive(Debug)]
pub struct Oom {
    told: OwnedFd,
    dir: PathBuf,
    unified: bool,
    kills: u64,
}

impl Cgroup {
    /// Have all of the container's processes die when memory runs out. Where the kernel cannot (v1), the events come back
    /// by which somebody else has to do it; nothing where memory has no limit here.
    pub fn die_together(&self) -> Result<Option<Oom>> {
        let counts = |c: &String| c == "memory";
        match self.groups().iter().find(|g| g.controllers.iter().any(counts)) {
            None => Ok(None),
            Some(group) if group.unified => write(&group.dir.join("memory.oom.group"), "1").map(|()| None),
            Some(_) => self.watch_oom().map(Some),
        }
    }

    /// Begin to listen.
    pub fn watch_oom(&self) -> Result<Oom> {
        let group =
            self.groups().iter().find(|g| g.controllers.iter().any(|c| c == "memory")).ok_or_else(|| {
                Error::unsupported("the container was started without the cgroup controller memory")
            })?;
        let dir = group.dir.clone();
        let told = match group.unified {
            true => sys::changes(&dir.join("memory.events"))?,
            false => {
                let counter = sys::counter()?;
                let control = std::fs::File::open(dir.join("memory.oom_control"));
                let control = control.context(|| format!("open({:?})", dir.join("memory.oom_control")))?;
                let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
                write(&dir.join("cgroup.event_control"), &line)?;
                counter
            }
        };
        let kills = keyed(&dir, "memory.events", "oom_kill").unwrap_or(0);
        Ok(Oom { told, dir, unified: group.unified, kills })
    }
}

impl AsFd for Oom {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

impl Oom {
    /// How often memory ran out since the last time. `None`: the group is gone, and nothing more will come.
    pub fn heard(&mut self) -> Result<Option<u64>> {
        let mut bytes = [0u8; 4096];
        let read = match nix::unistd::read(&self.told, &mut bytes) {
            Ok(read) => read,
            Err(Errno::EAGAIN) => 0,
            Err(e) => return Err(e).context(|| "read(what tells of memory)"),
        };
        // The end of a group is told as well.
        if !self.dir.exists() {
            return Ok(None);
        }
        if !self.unified {
            return Ok(Some(if read == 8 {
                u64::from_ne_bytes(bytes[..8].try_into().unwrap_or_default())
            } else {
                0
            }));
        }
        let kills = keyed(&self.dir, "memory.events", "oom_kill").unwrap_or(self.kills);
        Ok(Some(kills.saturating_sub(std::mem::replace(&mut self.kills, kills))))
    }
}
