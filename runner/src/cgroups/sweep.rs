//! Groups that a killed runner left behind. Only those with our own names, below our own groups.

use std::path::PathBuf;
use std::time::Instant;

use super::group::remove_tree;
use super::layout::Layout;

/// Remove the groups of containers that are not `alive`, and say which they were. One that still has
/// processes stays.
pub fn sweep(layout: &Layout, alive: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let v2 = layout.v2.iter().flat_map(|v2| v2.chain.iter().map(|n| &n.dir));
    let mut removed = Vec::new();
    for own in layout.v1.iter().map(|h| &h.own).chain(v2) {
        for entry in std::fs::read_dir(own).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.strip_prefix(super::PREFIX)) else { continue };
            if !alive(id) && remove_tree(&entry.path(), Instant::now()).is_ok() {
                removed.push(entry.path());
            }
        }
    }
    removed
}
