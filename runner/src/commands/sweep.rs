//! What a runner that was killed left behind: its container is dead, its files are not.

use std::path::Path;
use std::time::Duration;

use coracle_store::Store;
use coracle_store::lock::Lock;
use coracle_sys::Result;

use super::{forget, sweep_unfinished};
use crate::cgroups::{self, Cgroup, Layout};
use crate::network;
use crate::record::{self, Exit, Record};
use crate::state::{Face, States};

/// How long a group may be without a process before it counts as left behind.
const NEWBORN: Duration = Duration::from_secs(60);

/// Clean up after runners that are gone. Containers of OCI clients are never touched. What cannot be cleaned
/// up is told, and keeps nobody from anything.
pub(crate) fn sweep(store: &Store) {
    for step in [states, orphans, groups, sweep_unfinished, networks] {
        if let Err(e) = step(store) {
            coracle_sys::warn!("runner: {}", e.wrap("sweep up after killed runners"));
        }
    }
}

fn states(store: &Store) -> Result<()> {
    let swept = States::of(Face::Image, None)?.sweep(|state| {
        // It was to die with its runner, and has got round that.
        state.init.kill()?;
        let cgroup = Cgroup::open(state.cgroups.clone())?;
        cgroup.kill_all()?;
        cgroup.remove()?;
        if !state.bundle.exists() {
            return Ok(true);
        }
        // Its files lie in another store: a call that has that one finds them by this state.
        if state.bundle != store.main().container(&state.id) {
            return Ok(false);
        }
        match Record::read(&state.bundle) {
            Ok(record) => tidy(store, &state.bundle, record)?,
            Err(_) => forget(store, &state.id, None)?,
        }
        Ok(true)
    });
    swept.map(drop)
}

fn orphans(store: &Store) -> Result<()> {
    let states = States::of(Face::Image, None)?;
    store.sweep_containers(|dir| Record::exists(&dir.path) || super::is_lent(store, &dir.path))?;
    for dir in store.containers()? {
        // A runner that was killed between the start and the state, or by the end of the power: the container died with
        // it. Its pid may be another's after a reboot; the lock is nobody's. One that waits to begin again is not looked
        // at, since it needs its lock.
        let left = |dir: &Path| Record::read(dir).ok().filter(Record::is_unfinished);
        if left(&dir.path).is_none() {
            continue;
        }
        let Ok(Some(_held)) = Lock::try_existing(&dir.path) else { continue };
        // It may have ended well meanwhile.
        let Some(record) = left(&dir.path) else { continue };
        if states.read(&record.id).is_err() {
            tidy(store, &dir.path, record)?;
            states.remove(&dir.id)?;
        }
    }
    store.sweep_names()
}

fn networks(_: &Store) -> Result<()> {
    network::sweep()
}

/// Those of a runner that was killed before it could write them down: they are known by their names.
fn groups(_: &Store) -> Result<()> {
    let known = States::of(Face::Image, None)?.ids()?;
    let alive = |id: &str, age: Duration| age < NEWBORN || known.iter().any(|k| k == id);
    cgroups::sweep(&Layout::probe()?, alive);
    Ok(())
}

/// A container that was killed together with its runner: it goes if it was to go, else its end is
/// written down.
fn tidy(store: &Store, dir: &Path, record: Record) -> Result<()> {
    if !record.rm {
        return Record { exit: Some(Exit { code: 137, at: record::now(), ..Exit::default() }), ..record }
            .write(dir);
    }
    forget(store, &record.id, Some(&record.name))
}
