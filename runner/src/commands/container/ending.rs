//! The end of a container that another process has: its runner in front of it, or its monitor.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_store::ContainerDir;
use coracle_store::lock::Lock;
use coracle_sys::{Error, Kind, Result};

use crate::cgroups::Cgroup;
use crate::commands::no_such_container;
use crate::record::{self, Record};
use crate::state::{Face, Identity, State, States};

/// How long an end may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const INTERVAL: Duration = Duration::from_millis(2);
/// How long until it is looked whether a container has begun again that was to end.
const AGAIN: Duration = Duration::from_millis(100);

/// Who has a container's directory.
pub(crate) enum Held {
    Ours(Lock),
    /// The runner in front of it.
    Others,
    /// Nobody: it is not there any more.
    Gone,
}

pub(crate) fn lock(dir: &ContainerDir) -> Result<Held> {
    match Lock::try_existing(&dir.path) {
        Ok(Some(lock)) if lock.is_at(&dir.path) => Ok(Held::Ours(lock)),
        Ok(None) => Ok(Held::Others),
        Err(e) if e.kind() != Kind::NotFound => Err(e),
        _ => Ok(Held::Gone),
    }
}

/// Hold a container whose record is to be changed: one that runs is its monitor's, and may be changed all the same; one that
/// is about to start, or to go, is not. Its process, where it has one.
pub(crate) fn hold(dir: &ContainerDir) -> Result<(Option<Lock>, Option<State>)> {
    let held = lock(dir)?;
    let state = running(dir)?;
    let waits = || Record::read(&dir.path).is_ok_and(|r| r.restarting);
    match (held, state) {
        (Held::Ours(lock), state) => Ok((Some(lock), state)),
        (Held::Others, Some(state)) => Ok((None, Some(state))),
        (Held::Others, None) if waits() => Ok((None, None)),
        (Held::Others, None) => {
            Err(Error::new(Kind::Busy, format!("container {} is about to start, or to go", dir.id)))
        }
        (Held::Gone, _) => Err(no_such_container(&dir.id)),
    }
}

/// Whether a container has ended for good, though who attended it may not be done with it yet.
pub(crate) fn has_ended(dir: &Path) -> bool {
    Record::read(dir).is_ok_and(|record| record.exit.is_some() && record.waiting().is_none())
}

/// Have a container that waits to begin again not do so. Whether it did wait.
pub(crate) fn stop_waiting(dir: &Path) -> Result<bool> {
    let Ok(record) = Record::read(dir) else { return Ok(false) };
    let Some(monitor) = record.waiting() else { return Ok(false) };
    record::mark(dir)?;
    monitor.signal(libc::SIGTERM)?;
    Ok(true)
}

/// Keep a container that has no process from beginning again. Its process all the same, where that had begun before it was told.
pub(crate) fn settle(dir: &ContainerDir) -> Result<Option<State>> {
    let end = Instant::now() + PATIENCE;
    // A monitor that has waited lets go of the lock for a moment, when another program comes in its place.
    let waits = || Record::read(&dir.path).is_ok_and(|record| record.waiting().is_some());
    while matches!(lock(dir)?, Held::Others) || waits() {
        if let Some(state) = running(dir)? {
            return Ok(Some(state));
        }
        stop_for_good(dir)?;
        if Instant::now() > end {
            return Err(does_not_end(dir));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(None)
}

/// It does not begin again, whether its end is yet to come or is just being seen to.
fn stop_for_good(dir: &ContainerDir) -> Result<()> {
    match record::mark(&dir.path) {
        // It has gone meanwhile.
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        other => other?,
    }
    stop_waiting(&dir.path).map(drop)
}

/// Its process, if it is alive.
pub(crate) fn running(dir: &ContainerDir) -> Result<Option<State>> {
    Ok(States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive()))
}

/// Kill a container that is marked, if it has not ended, and wait until nobody has it. It may have ended by itself, and be about
/// to begin again.
pub(crate) fn kill(dir: &ContainerDir, mut state: State) -> Result<Option<Lock>> {
    let end = Instant::now() + PATIENCE;
    loop {
        match kill_process(&state) {
            // Its groups go with it.
            Err(e) if state.init.is_alive() => return Err(e),
            _ => {}
        }
        let soon = Instant::now() + AGAIN;
        if let Some(done) = await_end_until(dir, Some(&state), soon)? {
            return Ok(done);
        }
        if soon > end {
            return Err(does_not_end(dir));
        }
        match running(dir)? {
            Some(next) => state = next,
            None => stop_for_good(dir)?,
        }
    }
}

fn kill_process(state: &State) -> Result<()> {
    if !state.init.is_alive() {
        return Ok(());
    }
    // Who is frozen does not end.
    let cgroup = Cgroup::open(state.cgroups.clone())?;
    if cgroup.is_frozen()? {
        let _ = state.init.signal(libc::SIGKILL);
        cgroup.thaw()?;
    }
    state.init.kill()
}

fn does_not_end(dir: &ContainerDir) -> Error {
    Error::new(Kind::Busy, format!("the container {} does not end", dir.id))
}

/// The runner in front of it tidies up first; what it leaves is then ours. One that was stopped does nothing
/// any more. Nothing where all is gone.
pub(crate) fn await_end(dir: &ContainerDir, state: Option<&State>) -> Result<Option<Lock>> {
    await_end_until(dir, state, Instant::now() + PATIENCE)?.ok_or_else(|| does_not_end(dir))
}

/// The same. Nothing where it has not come to that at this time.
fn await_end_until(dir: &ContainerDir, state: Option<&State>, end: Instant) -> Result<Option<Option<Lock>>> {
    loop {
        match lock(dir)? {
            Held::Ours(lock) if state.is_none_or(|s| !s.init.is_alive()) => return Ok(Some(Some(lock))),
            Held::Gone => return Ok(Some(None)),
            _ => {}
        }
        if let Some(runner) = state.and_then(|s| s.runner).filter(Identity::is_stopped) {
            runner.kill()?;
        }
        if Instant::now() > end {
            return Ok(None);
        }
        std::thread::sleep(INTERVAL);
    }
}
