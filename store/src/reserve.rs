//! A little of the disk that is kept for the index, so that an image can be removed where nothing more can be written: the
//! index is never changed in place, and its next version needs room before the old one gives its own back.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use coracle_sys::Error;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::layout::Layout;

/// Bytes: the index of some two hundred images.
const SIZE: i64 = 64 << 10;

fn path(layout: &Layout) -> PathBuf {
    layout.root().join("cache/reserve")
}

/// Does it say that the disk, or what a user may have of it, is full?
pub(crate) fn is_full(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno::ENOSPC | Errno::EDQUOT))
}

/// Put it aside, unless it is. Where that cannot be nobody is told: it is for later, and may be had then.
pub(crate) fn keep(layout: &Layout) {
    let path = path(layout);
    match fs::symlink_metadata(&path) {
        // In blocks of 512 bytes (stat(2)).
        Ok(m) if m.is_file() && m.blocks() * 512 >= SIZE.unsigned_abs() => return,
        // What a run that was killed meanwhile has left, or nothing of ours.
        Ok(_) => drop(fs::remove_file(&path)),
        Err(_) => {}
    }
    let Ok(file) = File::options().write(true).create_new(true).open(&path) else { return };
    if fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Give it back. Whether there was any.
pub(crate) fn free(layout: &Layout) -> bool {
    fs::remove_file(path(layout)).is_ok()
}
