//! What a runner that was killed left behind: its container is dead, its files are not.

use std::time::Duration;

use coracle_store::Store;
use coracle_sys::Result;

use super::remove_files;
use crate::cgroups::{self, Cgroup, Layout};
use crate::record::{self, Exit, Record};
use crate::state::{Face, States};

/// How long a group may be without a process before it counts as left behind.
const NEWBORN: Duration = Duration::from_secs(60);

/// Clean up after runners that are gone. Containers of OCI clients are never touched.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    let states = States::of(Face::Image, None)?;
    states.sweep(|state| {
        let cgroup = Cgroup::from_value(&state.cgroups)?;
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
            Ok(record) if !record.rm => {
                // It was killed together with its runner.
                let exit = Some(Exit { code: 137, at: record::now() });
                Record { exit, ..record }.write(&state.bundle)?;
            }
            other => {
                if let Ok(record) = other
                    && store.named(&record.name).as_deref() == Some(&record.id)
                {
                    store.release_name(&record.name)?;
                }
                remove_files(store, &state.id)?;
            }
        }
        Ok(true)
    })?;
    // A runner that was killed before it could write down its groups: they are known by their names.
    let known = states.ids()?;
    let alive = |id: &str, age: Duration| age < NEWBORN || known.iter().any(|k| k == id);
    cgroups::sweep(&Layout::probe()?, alive);
    Ok(())
}
