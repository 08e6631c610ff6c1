//! An image becomes one file that boots, or that another system mounts. The layers are read where they lie, one on the
//! other (`tree`); each format is one module that writes the same bytes whenever the image is the same. Nothing here
//! knows the command line, and nothing is executed.

pub(crate) mod cpio;
mod crc32c;
pub(crate) mod disk;
pub(crate) mod erofs;
pub(crate) mod ext4;
pub(crate) mod file_system;
pub(crate) mod format;
mod limits;
mod out;
mod parallel;
mod same;
pub(crate) mod squashfs;
pub(crate) mod tree;
pub(crate) mod uuid;

use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, FromDir};
use coracle_store::{Image, Store};
use coracle_sys::Result;

pub(crate) use self::out::Target;

/// What an image amounts to: its layers one on the other. Times later than `latest` become it.
pub(crate) fn archive(store: &Store, image: &Image, latest: Option<i64>) -> Result<Archive> {
    let trees = store.stack_paths(image.diff_ids())?;
    let how = FromDir { owner: None, latest, xattrs: true };
    Archive::of_stack(&trees, Marks::of_this_process(), how)
}
