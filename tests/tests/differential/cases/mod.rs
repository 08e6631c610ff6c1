//! The variations, a subject each. Their order is part of the selection: every fourth is run.

mod broken;
mod devices;
mod hooks;
mod identity;
mod limits;
mod mounts;
mod namespaces;
mod options;
mod paths;
mod process;
mod resources;
mod seccomp;

use crate::case::Case;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let subjects = [
        process::cases(),
        identity::cases(),
        limits::cases(),
        mounts::cases(),
        options::cases(),
        namespaces::cases(),
        devices::cases(),
        paths::cases(),
        seccomp::cases(),
        resources::cases(),
        hooks::cases(),
        broken::cases(),
    ];
    subjects.into_iter().flatten().collect()
}
