//! The end of a container that another process has: its runner in front of it, or its monitor.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_store::ContainerDir;
use coracle_store::lock::Lock;
use coracle_sys::{Error, Kind, Result};

use crate::commands::no_such_container;
use crate::record::{self, Record};
use crate::state::{Face, Identity, State, States};

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
    let state = States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive());
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

/// The runner in front of it tidies up first; what it leaves is then ours. One that was stopped does nothing
/// any more. Nothing where all is gone.
pub(crate) fn await_end(dir: &ContainerDir, state: Option<&State>) -> Result<Option<Lock>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match lock(dir)? {
            Held::Ours(lock) if state.is_none_or(|s| !s.init.is_alive()) => return Ok(Some(lock)),
            Held::Gone => return Ok(None),
            _ => {}
        }
        if let Some(runner) = state.and_then(|s| s.runner).filter(Identity::is_stopped) {
            runner.kill()?;
        }
        if Instant::now() > end {
            return Err(Error::new(Kind::Busy, format!("the container {} does not end", dir.id)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
