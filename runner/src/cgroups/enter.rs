//! How a process gets into a group that is there.

use std::path::Path;

use coracle_sys::Result;
use nix::errno::Errno;

use super::group::write;
use super::plan::Group;

/// Since Linux 5.6 a thread that moves itself alone, on v1, need not wait until all processors have passed a quiet moment,
/// some ten milliseconds. Who is told to enter by 0 has one thread.
pub(super) fn enter_group(group: &Group, pid: i32) -> Result<()> {
    match group.unified || pid != 0 {
        true => enter(&group.dir, pid),
        false => enter_by(&group.dir.join("tasks"), pid),
    }
}

/// A process enters a group; 0 is the calling one.
pub(super) fn enter(dir: &Path, pid: i32) -> Result<()> {
    enter_by(&dir.join("cgroup.procs"), pid)
}

fn enter_by(file: &Path, pid: i32) -> Result<()> {
    write(file, &pid.to_string()).map_err(|e| match e.errno() {
        Some(Errno::EBUSY) => {
            e.wrap("enter the cgroup: it hands controllers down, so no process may be in it")
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            e.wrap("enter the cgroup: the group above both, old and new, must be writable too")
        }
        _ => e.wrap("enter the cgroup"),
    })
}
