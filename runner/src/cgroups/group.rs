//! A container's groups, for real: made, entered, changed, removed. What goes where was decided in
//! the plan.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::below;
use super::enter::{enter, enter_group};
use super::plan::{Group, Plan, Write};
use super::systemd::Unit;
use crate::devfilter;

/// How long a group may stay busy after its last process is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The groups of a container.
#[derive(Debug)]
pub struct Cgroup {
    plan: Plan,
    unified: Option<OwnedFd>,
    /// Whether there is anything of it that is to be taken away.
    made: bool,
}

impl Plan {
    /// Make the groups, where they are not systemd's to make. On an error none of them is left.
    pub fn create(&self) -> Result<Cgroup> {
        let mut cgroup = Cgroup { plan: self.clone(), unified: None, made: self.unit.is_none() };
        if cgroup.made {
            cgroup.make_all().inspect_err(|_| drop(cgroup.remove()))?;
        }
        Ok(cgroup)
    }
}

impl Cgroup {
    /// The groups that another process made from this plan, as far as they still exist.
    pub fn open(plan: Plan) -> Result<Self> {
        let unified = match plan.groups.iter().find(|g| g.unified).map(|g| open_dir(&g.dir)) {
            Some(Err(e)) if e.kind() == Kind::NotFound => None,
            other => other.transpose()?,
        };
        Ok(Self { plan, unified, made: true })
    }

    /// The plan, with what was dropped while it was carried out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.plan.groups
    }

    /// Whether the groups are made around the first process, once that is there: systemd makes no unit without one.
    pub fn is_adopted(&self) -> bool {
        self.plan.unit.is_some()
    }

    /// Have systemd make its unit around a process, which has done nothing of its own yet, and what groups and limits
    /// systemd does not know of.
    pub fn adopt(&mut self, pid: i32) -> Result<()> {
        let Some(unit) = &self.plan.unit else { return Ok(()) };
        unit.start(pid)?;
        self.made = true;
        self.make_all()?;
        self.enter(pid)
    }

    fn make_all(&mut self) -> Result<()> {
        let mut there = Vec::new();
        let made = self.make_each(&mut there);
        if made.is_err() {
            // What was there before is not ours to take away.
            self.plan.groups.retain(|g| !there.contains(&g.dir));
        }
        made
    }

    fn make_each(&mut self, there: &mut Vec<PathBuf>) -> Result<()> {
        let mut n = 0;
        while n < self.plan.groups.len() {
            let made = self.make(n, there);
            let refused = |e: &Error| matches!(e.errno(), Some(Errno::EACCES | Errno::EPERM | Errno::EROFS));
            if self.plan.groups[n].soft && made.as_ref().is_err_and(refused) {
                self.plan.groups.remove(n);
                continue;
            }
            n += 1;
            if let Err(e) = made {
                self.plan.groups.truncate(n);
                return Err(e);
            }
        }
        self.plan.owner.map_or(Ok(()), |uid| self.give_to(uid))
    }

    /// Make one. Of those that are there already the directory is noted.
    fn make(&mut self, n: usize, there: &mut Vec<PathBuf>) -> Result<()> {
        let group = self.plan.groups[n].clone();
        make_directories(&group, self.is_adopted(), there)
            .context(|| format!("make the cgroup {}", group.dir.display()))?;
        if group.controllers.iter().any(|c| c == "cpuset") && !group.unified {
            inherit_cpuset(&group.dir)?;
        }
        let mut last = None;
        for write in &group.writes {
            match write_into(&group, write, &mut last) {
                Ok(()) => {}
                Err(e) if self.plan.best_effort => self.plan.dropped.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        if group.unified {
            self.unified = Some(open_dir(&group.dir)?);
        }
        Ok(())
    }

    /// Put the device filter on the v2 group, in which the process `pid` was born and has done nothing of
    /// its own yet. Beside v1, where the kernel takes no such filter, it enters a group of v1 instead.
    pub fn filter_devices(&mut self, pid: i32) -> Result<()> {
        let Some(n) = self.plan.groups.iter().position(|g| g.devices.is_some()) else { return Ok(()) };
        let (Some(dir), Some(rules)) = (&self.unified, &self.plan.groups[n].devices) else { return Ok(()) };
        let attached = devfilter::attach(rules, dir.as_fd());
        match (attached, self.plan.groups[n].otherwise.take()) {
            (Err(_), Some(other)) => {
                self.plan.groups[n].devices = None;
                self.plan.groups.push(*other);
                let last = self.plan.groups.len() - 1;
                self.make(last, &mut Vec::new())?;
                enter(&self.plan.groups[last].dir, pid)
            }
            (attached, _) => attached,
        }
    }

    /// The v2 group's directory, to be born in (`CLONE_INTO_CGROUP`).
    pub fn v2_dir_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Whether groups have to be entered by a process that runs already: on v1.
    pub fn is_entered_late(&self) -> bool {
        !self.is_adopted() && self.plan.groups.iter().any(|g| !g.unified)
    }

    /// Put a process that was born in the v2 group into the others; 0 is the calling one.
    pub fn enter_late(&self, pid: i32) -> Result<()> {
        self.plan.groups.iter().filter(|g| !g.unified).try_for_each(|g| enter_group(g, pid))
    }

    /// Put a process into every group; 0 is the calling one.
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.plan.groups.iter().try_for_each(|g| enter_group(g, pid))
    }

    /// Groups below its own, by the words of `exec --cgroup`.
    pub fn named(&self, words: &[String]) -> Result<Vec<PathBuf>> {
        below::named(&self.plan.groups, words)
    }

    /// Put a process into these groups, each a hierarchy's own or one below it; where none is named, into every one
    /// of the container's, or beside its first process `init`, which may have moved below to make groups of its own.
    pub fn enter_beside(&self, pid: i32, wanted: &[PathBuf], init: i32) -> Result<()> {
        if !wanted.is_empty() {
            self.plan
                .groups
                .iter()
                .filter(|g| !wanted.iter().any(|dir| dir.starts_with(&g.dir)))
                .try_for_each(|g| enter_group(g, pid))?;
            return wanted.iter().try_for_each(|dir| enter(dir, pid));
        }
        self.plan.groups.iter().try_for_each(|g| match enter_group(g, pid) {
            Err(e) if g.unified && e.errno() == Some(Errno::EBUSY) => {
                match below::where_it_is(&g.dir, init) {
                    Some(dir) => enter(&dir, pid),
                    None => Err(e),
                }
            }
            other => other,
        })
    }

    /// Whether there is any group.
    pub fn is_empty(&self) -> bool {
        self.plan.groups.is_empty()
    }

    /// Remove the groups of a container that has ended, and what may be left in them. As a rule nothing is:
    /// the first process of a pid namespace takes all others along.
    pub fn end(&self) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        let gone = |g: &Group| matches!(rmdir(&g.dir), Ok(()) | Err(Errno::ENOENT));
        if !self.is_adopted() && self.plan.groups.iter().all(gone) {
            return Ok(());
        }
        self.kill_all()?;
        self.remove()
    }

    /// Remove the groups, with those that the container made below. They must have no processes; one
    /// that is on its way out is waited for.
    pub fn remove(&self) -> Result<()> {
        // The unit goes with its last process too, also where systemd cannot be spoken to.
        if let Some(Err(e)) = self.plan.unit.as_ref().map(Unit::stop) {
            coracle_sys::warn!("runner: {e}");
        }
        let end = Instant::now() + PATIENCE;
        self.plan.groups.iter().try_for_each(|g| remove_tree(&g.dir, end))
    }
}

/// rmdir(2), groups below first.
pub(super) fn remove_tree(dir: &Path, end: Instant) -> Result<()> {
    let mut nap = Duration::from_micros(200);
    loop {
        match rmdir(dir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) if Instant::now() < end => {}
            Err(e) => {
                return Err(e)
                    .context(|| format!("rmdir({dir:?})"))
                    .context(|| "remove the container's cgroup");
            }
        }
        for below in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if below.file_type().is_ok_and(|t| t.is_dir()) {
                remove_tree(&below.path(), end)?;
            }
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(50));
    }
}

/// Every directory from the base to the group; on v2 each hands the controllers down. One that is there and has
/// processes is another container's, but where it is `adopted`.
fn make_directories(group: &Group, adopted: bool, there: &mut Vec<PathBuf>) -> Result<()> {
    let below = group.dir.strip_prefix(&group.base).unwrap_or(&group.dir);
    let mut dir = group.base.clone();
    for part in below.components() {
        if group.unified && !group.controllers.is_empty() {
            hand_down(&dir, &group.controllers)?;
        }
        dir.push(part);
        match nix::unistd::mkdir(&dir, Mode::from_bits_truncate(0o755)) {
            // One on the way that somebody made and left without cpus would let nobody in.
            Ok(()) | Err(Errno::EEXIST) if dir != group.dir => {
                if !group.unified && group.controllers.iter().any(|c| c == "cpuset") {
                    inherit_cpuset(&dir)?;
                }
            }
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                there.push(dir.clone());
                if adopted {
                    continue;
                }
                if below::holds_a_process(&dir)? {
                    let why = "container's cgroup is not empty: processes are in it, or in a group below";
                    return Err(Error::new(Kind::Exists, why));
                }
                // Who enters it would wait there for ever, and we for them.
                let text = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
                if text("freezer.state").starts_with("FR") || text("cgroup.freeze").trim() == "1" {
                    return Err(Error::new(Kind::Exists, "container's cgroup unexpectedly frozen"));
                }
            }
            Err(e) => return Err(e).context(|| format!("mkdir({dir:?}, 0755)")),
        }
    }
    Ok(())
}

/// Enable controllers for the children of `dir`, those that are not enabled yet.
fn hand_down(dir: &Path, controllers: &[String]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&file).context(|| format!("read({file:?})"))?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    write(&file, &missing.join(" ")).map_err(|e| match e.errno() {
        Some(Errno::EBUSY) => e.wrap(format!(
            "hand controllers down from {}: processes are in it, and only the root may have both",
            dir.display()
        )),
        _ => e,
    })
}

/// A new cpuset of v1 is empty, and nothing can enter an empty one.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = std::fs::read_to_string(dir.join(file)).context(|| format!("read({file:?})"))?;
        if !own.trim().is_empty() {
            continue;
        }
        let above = dir.parent().unwrap_or(dir).join(file);
        let value = std::fs::read_to_string(&above).context(|| format!("read({above:?})"))?;
        write(&dir.join(file), value.trim())?;
    }
    Ok(())
}

/// One write. `last` is the file of the one before, still open: device rules are many lines for one.
pub(super) fn write_into(group: &Group, w: &Write, last: &mut Option<(String, OwnedFd)>) -> Result<()> {
    let (file, value) = match &w.rather {
        Some((file, value)) if group.dir.join(file).exists() => (file, value),
        _ => (&w.file, &w.value),
    };
    let path = group.dir.join(file);
    let open = match last.take() {
        Some((name, fd)) if name == *file => Ok(fd),
        _ => open_for_writing(&path),
    };
    let written = open.and_then(|fd| {
        put(&fd, &path, value)?;
        *last = Some((file.clone(), fd));
        Ok(())
    });
    match written {
        Err(e) if e.kind() == Kind::NotFound && w.optional => Ok(()),
        Err(e) => Err(explain(group, file, value, e)),
        Ok(()) => Ok(()),
    }
}

/// The errnos that mislead.
fn explain(group: &Group, file: &str, value: &str, e: Error) -> Error {
    let what = format!("set {file} = {value}");
    match (file, e.errno()) {
        (_, Some(Errno::ENOENT)) => Error::unsupported(format!(
            "{what}: the kernel has no such limit (--best-effort goes on without)"
        )),
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Some(Errno::EBUSY)) => {
            // In runc's words, which clients look for.
            let bytes = |file| super::stats::number(&group.dir, file).unwrap_or(0);
            let (used, peak) = (bytes("memory.usage_in_bytes"), bytes("memory.max_usage_in_bytes"));
            e.wrap(format!(
                "unable to set memory limit to {value} (current usage: {used}, peak usage: {peak})"
            ))
        }
        (
            "cpuset.cpus" | "cpuset.mems",
            Some(Errno::EACCES | Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC),
        ) => {
            let above = group.dir.parent().unwrap_or(&group.dir).join(file);
            let allowed = std::fs::read_to_string(above).unwrap_or_default();
            e.wrap(format!("{what}: of the host's, {:?} may be used", allowed.trim()))
        }
        ("cpu.cfs_quota_us" | "cpu.max", Some(Errno::EINVAL)) => {
            e.wrap(format!("{what}: a quota is at least 1000 us, and no more than the group above has"))
        }
        _ => e.wrap(what),
    }
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({dir:?}, O_PATH|O_DIRECTORY)"))
}

/// One write(2): the kernel takes a value whole or not at all.
pub(super) fn write(file: &Path, value: &str) -> Result<()> {
    put(&open_for_writing(file)?, file, value)
}

fn open_for_writing(file: &Path) -> Result<OwnedFd> {
    open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({file:?}, O_WRONLY)"))
}

fn put(fd: &OwnedFd, file: &Path, value: &str) -> Result<()> {
    nix::unistd::write(fd, value.as_bytes()).map(drop).context(|| format!("write({file:?}, {value:?})"))
}

fn rmdir(dir: &Path) -> Result<(), Errno> {
    std::fs::remove_dir(dir).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
}
