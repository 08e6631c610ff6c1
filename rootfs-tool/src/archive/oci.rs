//! An OCI image layout in a tar: `oci-archive:FILE[:ref]`.

use std::io::Read;

use coracle_store::Reference;
use coracle_store::image::{Descriptor, Index};
use coracle_store::ingest::Source;
use coracle_sys::Result;

use super::members::Members;
use crate::transfer::{Origin, parse, read};

/// What containerd, and docker with it, call an image by in a layout.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One image of the layout.
pub(crate) struct Oci<'a> {
    members: &'a Members,
    entry: Descriptor,
}

/// The layout's index.
pub(crate) fn index(members: &Members) -> Result<Index> {
    members.bytes("oci-layout")?;
    parse(&members.bytes("index.json")?, "index of the archive")
}

/// All images of the layout.
pub(crate) fn images(members: &Members) -> Result<Vec<Oci<'_>>> {
    Ok(index(members)?.manifests.into_iter().map(|entry| Oci::new(members, entry)).collect())
}

impl<'a> Oci<'a> {
    pub(crate) fn new(members: &'a Members, entry: Descriptor) -> Self {
        Self { members, entry }
    }
}

impl Source for Oci<'_> {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.members.open_at(&format!("blobs/sha256/{}", d.digest.hex()), from)?))
    }
}

impl Origin for Oci<'_> {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        Ok((self.entry.clone(), read(self.open(&self.entry, 0)?, &self.entry)?))
    }

    fn names(&self) -> Vec<String> {
        let annotation = |key: &str| {
            let name = self.entry.annotations.as_ref()?.get(key)?.parse::<Reference>().ok();
            // What has a digest is found by its content.
            name.filter(|r| r.digest.is_none())
        };
        if let Some(full) = annotation(CONTAINERD_NAME) {
            return vec![full.qualified().to_string()];
        }
        annotation(coracle_store::image::REF_NAME).map(|r| r.local().to_string()).into_iter().collect()
    }
}
