//! Groups that a killed runner left behind. Only those with our own names, below our own groups.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::aside::MONITORS;
use super::group::remove_tree;
use super::layout::Layout;

/// Remove the groups of containers that are not `alive`, and say which they were. It is asked with the
/// id and the group's age, for a group is made before its first process is. One that still has processes
/// stays.
pub fn sweep(layout: &Layout, alive: impl Fn(&str, Duration) -> bool) -> Vec<PathBuf> {
    let v2 = layout.v2.iter().flat_map(|v2| v2.chain.iter().map(|n| n.dir.as_path()));
    let mut removed = Vec::new();
    // What has left its caller's unit is above it.
    let v1 = layout.v1.iter().flat_map(|h| h.own.ancestors().take_while(|dir| dir.starts_with(&h.mount)));
    for dir in v1.chain(v2) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.strip_prefix(super::PREFIX)) else { continue };
            let made = entry.metadata().and_then(|m| m.modified()).ok();
            let age = made.and_then(|t| t.elapsed().ok()).unwrap_or_default();
            // The next monitor makes their group again.
            let alive = id != MONITORS && alive(id, age);
            if !alive && remove_tree(&entry.path(), Instant::now()).is_ok() {
                removed.push(entry.path());
            }
        }
    }
    removed
}
