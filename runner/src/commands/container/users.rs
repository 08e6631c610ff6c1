//! Who uses a volume: containers, running or not, by what their records say.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_store::{ContainerDir, Store};
use coracle_sys::Result;

use super::ending::{Held, lock};
use crate::record::Record;
use crate::state::{Face, States};

/// The ids of the containers that use a named volume.
pub(crate) fn of_volume(store: &Store, name: &str) -> Result<Vec<String>> {
    by(store, "", &|record| record.volumes.iter().any(|used| used == name))
}

/// Is there another container than `but` that runs and uses it?
pub(crate) fn running(store: &Store, name: &str, but: &str) -> Result<Option<String>> {
    let states = States::of(Face::Image, None)?;
    for dir in store.containers()?.into_iter().filter(|dir| dir.id != but) {
        let uses = Record::read(&dir.path).is_ok_and(|r| r.volumes.iter().any(|used| used == name));
        if uses && states.read(&dir.id).is_ok_and(|s| s.init.is_alive()) {
            return Ok(Some(dir.id));
        }
    }
    Ok(None)
}

/// The ids of other containers that have mounted what lies in a container's own directory.
pub(crate) fn of_container(store: &Store, dir: &Path) -> Result<Vec<String>> {
    let own = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    by(store, own, &|record| {
        let inside = |source: &Path| source.starts_with(dir);
        record.spec.mounts.iter().any(|m| m.source.as_deref().is_some_and(inside))
    })
}

fn by(store: &Store, but: &str, uses: &dyn Fn(&Record) -> bool) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for dir in store.containers()?.into_iter().filter(|dir| dir.id != but) {
        ids.extend(settled(&dir).filter(|record| uses(record)).map(|record| record.id));
    }
    Ok(ids)
}

/// The record. Of one that is being made it is waited for: it tells soon what it uses.
fn settled(dir: &ContainerDir) -> Option<Record> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if Record::exists(&dir.path) {
            return Record::read(&dir.path).ok();
        }
        if !matches!(lock(dir), Ok(Held::Others)) || Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
