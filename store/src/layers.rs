//! Putting one layer, from its archive or from entries. Those of a whole image are put side by side: see
//! [`crate::ingest`].

use std::fs::File;
use std::io::Read;

use coracle_sys::{Context, Result};

use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, media_type};
use crate::ingest::stream::{Begin, End, Reached};
use crate::ingest::{Absent, Quiet, Wanted};
use crate::layer::key::chain_id;
use crate::layer::pack::Archive;
use crate::read::Image;
use crate::temp::Temp;
use crate::write::Transaction;

/// A layer that was put.
#[derive(Clone, Debug)]
pub struct PutLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the archive, not compressed.
    pub diff_id: Digest,
    /// What could not be as in the archive, one sentence each.
    pub warnings: Vec<String>,
}

impl Transaction<'_> {
    /// Put a layer from its archive and apply it over the stack `below` (diff ids, bottom first) in the
    /// same pass. The blob is kept as it came, compressed or not.
    pub fn put_layer_from_tar(&self, input: impl Read + Send, below: &[Digest]) -> Result<PutLayer> {
        let temp = Temp::file(self.layout())?;
        let out = temp.create()?;
        let begin = Begin { input: Box::new(input), have: 0, claimed: None, expect: None };
        let apply = |archive: &mut dyn Read| {
            self.apply(archive, self.limits, None, || self.store().stack_paths(below))
        };
        let Reached { blob: (digest, size), diff_id, compression, end: (dir, applied) } =
            begin.run(End { out: Some(&out), watch: &|_| true, apply: &apply })?;
        // The blob is synced with the layer.
        self.keep_layer(dir, &diff_id, &chain_id(below, &diff_id), &applied)?;
        self.name_blob(temp, &digest)?;
        let descriptor = Descriptor::new(compression.media_type(), digest, size);
        Ok(PutLayer { descriptor, diff_id, warnings: applied.warnings })
    }

    /// Put a layer from entries, and apply it over the stack `below`. A blob or a layer that the store
    /// has is not made again. It is kept uncompressed: the quickest to make.
    pub fn put_layer(&self, archive: &Archive, below: &[Digest]) -> Result<PutLayer> {
        let temp = Temp::file(self.layout())?;
        let out = std::io::BufWriter::with_capacity(256 * 1024, temp.create()?);
        let mut out = Hashing::new(out);
        archive.write(&mut out)?;
        let (diff_id, size, _) = out.finish();
        let descriptor = Descriptor::new(media_type::LAYER, diff_id, size);
        let mut warnings = archive.warnings.clone();
        let open = || File::open(temp.path()).context(|| format!("open({:?})", temp.path()));
        let mut applied = None;
        if !self.is_applied(&diff_id, below) {
            applied = Some(self.apply(&mut open()?, self.limits, None, || self.store().stack_paths(below))?);
        }
        if !self.has_blob(&descriptor) {
            let file = open()?;
            self.keep_blob(temp, &file, &diff_id)?;
        }
        if let Some((dir, applied)) = applied {
            self.keep_layer(dir, &diff_id, &chain_id(below, &diff_id), &applied)?;
            warnings.extend(applied.warnings);
        }
        Ok(PutLayer { descriptor, diff_id, warnings })
    }

    /// Is a layer applied over this stack, in any store?
    pub fn is_applied(&self, diff_id: &Digest, below: &[Digest]) -> bool {
        self.store().layer_path(diff_id, &chain_id(below, diff_id)).is_some()
    }

    /// Apply a layer whose blob is in a store over the stack `below`, unless it is. The media type,
    /// the digest and the diff id are checked.
    pub fn apply_layer(&self, d: &Descriptor, diff_id: &Digest, below: &[Digest]) -> Result<Vec<String>> {
        if self.is_applied(diff_id, below) {
            return Ok(Vec::new());
        }
        self.ingest(below, &[Wanted { descriptor: d.clone(), diff_id: *diff_id }], &Absent, &Quiet)
    }

    /// Apply every layer of an image that is not applied yet.
    pub fn apply_image(&self, image: &Image) -> Result<Vec<String>> {
        self.ingest(&[], &Wanted::of(&image.manifest, &image.config)?, &Absent, &Quiet)
    }
}
