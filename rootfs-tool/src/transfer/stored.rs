//! An image of the store, on its way out.

use std::fs::File;
use std::io::Read;

use coracle_store::image::Descriptor;
use coracle_store::ingest::Source;
use coracle_store::{Reference, Store};
use coracle_sys::{Error, Result};

use super::{Origin, open_at};

/// An image of the store.
pub(crate) struct Stored<'a> {
    pub(crate) store: &'a Store,
    pub(crate) entry: Descriptor,
    /// Its full name, when it has one.
    pub(crate) name: Option<String>,
}

impl<'a> Stored<'a> {
    /// The image that is meant.
    pub(crate) fn find(store: &'a Store, typed: &str) -> Result<Self> {
        let (name, entry) = store.find(typed)?;
        Ok(Self { store, entry, name })
    }
}

/// A blob of a store from an offset on, to be checked by who reads it.
pub(crate) fn open(store: &Store, d: &Descriptor, from: u64) -> Result<File> {
    let path = store
        .blob_path(&d.digest)
        .ok_or_else(|| Error::not_found(format!("open the blob {}: no store has it", d.digest)))?;
    open_at(&path, from)
}

impl Source for Stored<'_> {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(open(self.store, d, from)?))
    }
}

impl Origin for Stored<'_> {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        Ok((self.entry.clone(), self.store.bytes(&self.entry)?))
    }

    fn names(&self) -> Vec<String> {
        let is_tag = |n: &&String| n.parse::<Reference>().is_ok_and(|r| r.digest.is_none());
        self.name.iter().filter(is_tag).cloned().collect()
    }
}
