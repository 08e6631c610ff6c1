//! Who has what belongs to others: a volume that is memory, or volumes of another container's own.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle_store::{ContainerDir, Store};
use coracle_sys::Result;

use super::ending::{Held, lock};
use crate::record::Record;
use crate::state::{Face, States};

/// Is there another container than `but` that runs and uses it?
pub(crate) fn running(store: &Store, name: &str, but: &str) -> Result<Option<String>> {
    let states = States::of(Face::Image, None)?;
    let runs = |id: &String| id != but && states.read(id).is_ok_and(|s| s.init.is_alive());
    Ok(store.volume_users(name)?.into_iter().find(runs))
}

/// The ids of other containers that have mounted what lies in a container's own directory.
pub(crate) fn of_container(store: &Store, dir: &Path) -> Result<Vec<String>> {
    let own = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let inside = |source: &Path| source.starts_with(dir);
    let uses = |record: &Record| record.spec.mounts.iter().any(|m| m.source.as_deref().is_some_and(inside));
    let others = store.containers()?.into_iter().filter(|other| other.id != own);
    Ok(others.filter_map(|other| settled(&other)).filter(uses).map(|record| record.id).collect())
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
