//! An image of the store as it leaves: layers that were made here are compressed, and the manifest names those.

use std::io::Read;

use coracle_store::image::{Descriptor, Index, Manifest, media_type};
use coracle_store::ingest::Source;
use coracle_store::layer::Compression;
use coracle_store::{Digest, Transaction};
use coracle_sys::{Error, Result};

use super::{Origin, Stored, kind_of, parse};

/// An image of the store whose layers are compressed.
pub(crate) struct Squeezed<'a> {
    stored: Stored<'a>,
    root: (Descriptor, Vec<u8>),
    /// Manifests that were written anew.
    made: Vec<(Digest, Vec<u8>)>,
}

impl<'a> Squeezed<'a> {
    /// Compress what is not. An image whose layers all are stays as it is, digest and all.
    pub(crate) fn new(tx: &Transaction<'_>, stored: Stored<'a>, how: Compression) -> Result<Self> {
        let (mut d, bytes) = stored.root()?;
        d.media_type = kind_of(&d.media_type, &bytes)?;
        let mut made = Vec::new();
        let root = match media_type::is_index(&d.media_type) {
            false => manifest(tx, d, bytes, how)?,
            true => {
                let mut index: Index = parse(&bytes, "index")?;
                let before = index.clone();
                for child in &mut index.manifests {
                    let (new, bytes) = manifest(tx, child.clone(), stored.manifest(child)?, how)?;
                    if new.digest != child.digest {
                        made.push((new.digest, bytes));
                        *child = new;
                    }
                }
                if index == before { (d, bytes) } else { write(d, &index)? }
            }
        };
        Ok(Self { stored, root, made })
    }
}

/// The manifest with compressed layers.
fn manifest(
    tx: &Transaction<'_>,
    d: Descriptor,
    bytes: Vec<u8>,
    how: Compression,
) -> Result<(Descriptor, Vec<u8>)> {
    let mut manifest: Manifest = parse(&bytes, "manifest")?;
    let mut changed = false;
    for layer in &mut manifest.layers {
        // What is not a layer of an image stays as it is.
        if Compression::of_media_type(&layer.media_type).is_err() {
            continue;
        }
        let squeezed = tx.squeeze(layer, how)?;
        changed |= squeezed.digest != layer.digest;
        *layer = squeezed;
    }
    if !changed {
        return Ok((d, bytes));
    }
    // Docker's own types have no uncompressed and no zstd layers.
    manifest.media_type = Some(media_type::MANIFEST.to_owned());
    manifest.config.media_type = media_type::CONFIG.to_owned();
    let d = Descriptor { media_type: media_type::MANIFEST.to_owned(), ..d };
    write(d, &manifest)
}

fn write(d: Descriptor, value: &impl serde::Serialize) -> Result<(Descriptor, Vec<u8>)> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::invalid(e.to_string()))?;
    Ok((Descriptor { digest: Digest::of(&bytes), size: bytes.len() as u64, ..d }, bytes))
}

impl Source for Squeezed<'_> {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        match self.made.iter().find(|(digest, _)| *digest == d.digest) {
            Some((_, bytes)) => Ok(Box::new(bytes.get(from as usize..).unwrap_or_default())),
            None => Ok(Box::new(super::stored::open(self.stored.store, d, from)?)),
        }
    }
}

impl Origin for Squeezed<'_> {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        Ok(self.root.clone())
    }

    fn names(&self) -> Vec<String> {
        self.stored.names()
    }
}
