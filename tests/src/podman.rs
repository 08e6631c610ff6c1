//! Podman as root, with runc and a storage of a test's own.

use crate::{Cmd, Scratch};

/// `podman` and its words, split at white space. What it keeps is in the folder.
pub fn podman(scratch: &Scratch, words: &str) -> Cmd {
    Cmd::new("podman")
        .args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"])
        .args(["--storage-driver", "vfs", "--root"])
        .arg(scratch.join("store"))
        .arg("--runroot")
        .arg(scratch.join("run"))
        .words(words)
}
