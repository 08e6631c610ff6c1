//! The shipped images that are made of Debian's packages. They take a network and a while, so each is made once, in a
//! store of `target/` that tests read and do not write: what a later run finds there unchanged is not made again.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::{Cmd, Privilege, need, workspace};

const PATIENCE: Duration = Duration::from_secs(600);

/// A store that has `debian` and these images on it, for [`crate::Store::reads`]. Nothing where this machine cannot make
/// them.
pub fn images(names: &[&str]) -> Option<PathBuf> {
    let folders = names.iter().map(|name| (*name, workspace().join("images").join(name)));
    made(&folders.collect::<Vec<_>>())
}

/// The same with an image that this Dockerfile makes, which has no context.
pub fn dockerfile(name: &str, text: &str) -> Option<PathBuf> {
    if !need(Privilege::Root) {
        return None;
    }
    let folder = workspace().join("target/test-images").join(name);
    std::fs::create_dir_all(&folder).expect("make the folder");
    std::fs::write(folder.join("Dockerfile"), text).expect("write the Dockerfile");
    made(&[(name, folder)])
}

fn made(folders: &[(&str, PathBuf)]) -> Option<PathBuf> {
    if !need(Privilege::Root) || !need(Privilege::Peer("apt-get")) {
        return None;
    }
    let top = workspace().join("target/test-images");
    std::fs::create_dir_all(top.join("debian")).expect("make the folder");
    let lock = std::fs::File::create(top.join("lock")).expect("open the lock");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("take the lock");
    static DEBIAN: OnceLock<()> = OnceLock::new();
    DEBIAN.get_or_init(|| debian(&top));
    std::thread::scope(|side_by_side| {
        for (name, folder) in folders {
            side_by_side.spawn(|| build(&top, name, folder));
        }
    });
    drop(lock);
    Some(top.join("store"))
}

fn tool(top: &Path) -> Cmd {
    Cmd::rootfs_tool().env("CORACLE_STORE", top.join("store")).limit(PATIENCE)
}

/// The base. What it was locked to lies beside it, so that it is the same in the next run.
fn debian(top: &Path) {
    let (from, to) = (workspace().join("images/debian/rootfs.toml"), top.join("debian/rootfs.toml"));
    std::fs::copy(from, to).expect("copy the recipe");
    tool(top).arg("compose").arg(top.join("debian")).args(["-t", "debian"]).ok();
}

fn build(top: &Path, name: &str, folder: &Path) {
    tool(top).args(["build", "-q", "-t", name]).arg(folder).ok();
}
