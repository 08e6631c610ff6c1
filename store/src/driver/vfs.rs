//! The vfs driver: a layer is a copy of the one below with its own changes applied, and a container
//! can run in a copy of the last. Slow, and everywhere: nothing is mounted. Blocks are shared where
//! the file system can.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_sys::Result;

use crate::layer::Marks;
use crate::layer::merge;

/// Copy what a stack of layers amounts to, bottom first, for a container to write into. `to` is an empty
/// directory. The layers may be those of either driver; `marks` are overlay's.
pub fn prepare(layers: &[impl AsFd], to: BorrowedFd<'_>, marks: Marks) -> Result<()> {
    let top_first: Vec<BorrowedFd<'_>> = layers.iter().rev().map(AsFd::as_fd).collect();
    merge::copy(&top_first, to, marks)
}
