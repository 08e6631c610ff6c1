//! Images of registries, on their way here and there.

use std::io::Read;

use coracle_store::Reference;
use coracle_store::image::Descriptor;
use coracle_store::ingest::Source;
use coracle_sys::{Error, Result};

use super::Origin;
use super::relay::{Kept, Open, Target};
use crate::registry::{Repository, Sent};

/// An image of a registry.
pub(crate) struct Remote<'a> {
    repository: &'a Repository,
    /// The tag or the digest.
    wanted: String,
    name: String,
    /// Repositories of the same registry that may have its blobs.
    elsewhere: Vec<String>,
}

impl<'a> Remote<'a> {
    /// What a full reference means, in its repository.
    pub(crate) fn new(repository: &'a Repository, full: &Reference) -> Self {
        let digest = full.digest.map(|d| d.to_string());
        let wanted = digest.or_else(|| full.tag.clone()).unwrap_or_else(|| "latest".to_owned());
        Self { repository, wanted, name: full.to_string(), elsewhere: Vec::new() }
    }

    /// Where else its blobs may be.
    pub(crate) fn or_from(mut self, elsewhere: Vec<String>) -> Self {
        self.elsewhere = elsewhere;
        self
    }
}

impl Source for Remote<'_> {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.repository.open(d, from)
    }

    fn resumes(&self) -> bool {
        true
    }
}

impl Origin for Remote<'_> {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        self.repository.manifest(&self.wanted)
    }

    fn manifest(&self, d: &Descriptor) -> Result<Vec<u8>> {
        let (found, bytes) = self.repository.manifest(&d.digest.to_string())?;
        match found.media_type.is_empty() || found.media_type == d.media_type {
            true => Ok(bytes),
            false => Err(Error::invalid(format!(
                "read the manifest {}: the registry calls it {:?}, and its index {:?}",
                d.digest, found.media_type, d.media_type
            ))),
        }
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl Target for Remote<'_> {
    fn blob(&self, d: &Descriptor, open: Open<'_>) -> Result<Kept> {
        Ok(match self.repository.put_blob(d, &self.elsewhere, open)? {
            Sent::Exists => Kept::Exists,
            Sent::Mounted(from) => Kept::Mounted(from),
            Sent::Pushed => Kept::Sent,
        })
    }

    fn manifest(&self, d: &Descriptor, bytes: &[u8], root: bool) -> Result<()> {
        let digest = d.digest.to_string();
        let reference = if root { &self.wanted } else { &digest };
        self.repository.put_manifest(bytes, &d.media_type, reference)
    }
}
