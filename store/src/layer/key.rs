//! Under which name an applied layer is kept. A layer that stands alone is the same in every image,
//! and is kept by its diff id; one that does not depends on what lies below, and is kept by the
//! chain id of its stack.

use std::path::Path;

use coracle_sys::file;

use crate::digest::Digest;

/// The layer's files, inside its directory.
pub const TREE: &str = "fs";

/// The table of owners that the disk could not hold, inside its directory.
pub const OWNERS: &str = "owners";

/// An empty file beside [`TREE`]: the attributes of that directory are those that the archive gives the
/// root, and not only plain ones.
pub const ROOT: &str = "root";

/// The bytes of the layer's files, in decimal, beside [`TREE`].
pub const SIZE: &str = "size";

/// Does the archive of the layer with this tree say what the root is like?
pub fn has_root(tree: &Path) -> bool {
    tree.with_file_name(ROOT).exists()
}

/// The directory of a layer that stands alone.
pub fn alone(diff_id: &Digest) -> String {
    diff_id.hex()
}

/// The directory of a layer that was applied on top of others. The suffix keeps it apart from the
/// layer of the same digest that stands alone: the chain id of a lowest layer is its diff id.
pub fn stacked(chain_id: &Digest) -> String {
    format!("{}.chain", chain_id.hex())
}

/// The chain ids of a stack, bottom first.
pub fn chain_ids<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> impl Iterator<Item = Digest> {
    diff_ids.into_iter().scan(None, |below, id| {
        *below = Some(Digest::chain(below.as_ref(), id));
        *below
    })
}

/// The chain id of a layer on a stack.
pub fn chain_id(below: &[Digest], diff_id: &Digest) -> Digest {
    chain_ids(below.iter().chain([diff_id])).last().unwrap_or(*diff_id)
}

/// The bytes of the files of the layer with this tree.
pub fn size(tree: &Path) -> Option<u64> {
    let text = file::read(&tree.with_file_name(SIZE)).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}
