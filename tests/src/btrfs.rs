//! A file system of btrfs in a file, mounted for the time of a test.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::{Cmd, Scratch};

/// Mount a new one over a scratch folder, for whoever the folder belongs to. It goes with the folder. The caller is root,
/// and has asked for `mkfs.btrfs` and for the kernel's btrfs.
#[track_caller]
pub fn mount_over(scratch: &Scratch, options: &str) {
    let dir = scratch.path();
    let image = dir.with_extension("img");
    let file = std::fs::File::create_new(&image).expect("make a file");
    file.set_len(400 << 20).expect("truncate");
    Cmd::new("mkfs.btrfs").arg("-q").arg(&image).ok();
    let owner = std::fs::metadata(dir).expect("stat");
    Cmd::new("mount").args(["-o", &format!("loop,{options}")]).arg(&image).arg(dir).ok();
    // The loop device holds it.
    std::fs::remove_file(&image).expect("unlink");
    chown(dir, Some(owner.uid()), Some(owner.gid())).expect("chown");
}

/// The paths of all subvolumes, below the file system that is mounted there.
#[track_caller]
pub fn subvolumes(dir: &Path) -> Vec<String> {
    let out = Cmd::new("btrfs").args(["subvolume", "list"]).arg(dir).ok();
    let path = |line: &str| line.split_once(" path ").map(|(_, path)| path.to_owned());
    out.stdout.lines().filter_map(path).collect()
}
