//! The vfs driver: a layer is a copy of the one below with its own changes applied, and a container
//! runs in a copy of the last. Slow, and everywhere: nothing is mounted. Blocks are shared where
//! the file system can.

use std::path::Path;

use coracle_sys::Result;

/// Copy the tree of a stack, for a container to write into. `to` exists and is empty.
pub fn prepare(stack: &Path, to: &Path) -> Result<()> {
    crate::layer::copy::tree_at(stack, to)
}
