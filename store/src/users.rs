//! Who uses an image beside its names: containers, and mounts on the host.

use std::path::PathBuf;

use coracle_sys::Result;

use crate::digest::Digest;
use crate::read::Store;

/// What would lose its files with the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A container, by its id.
    Container(String),
    /// A mount, by where it is.
    Mount(PathBuf),
}

impl Store {
    /// The manifests that are in use, each with who uses it; containers first.
    pub fn users(&self) -> Result<Vec<(Digest, User)>> {
        let mut out: Vec<(Digest, User)> = Vec::new();
        out.extend(self.containers()?.into_iter().filter_map(|c| Some((c.image()?, User::Container(c.id)))));
        out.extend(self.mounted()?.into_iter().map(|(manifest, at)| (manifest, User::Mount(at))));
        Ok(out)
    }
}
