//! Putting one layer, from its archive or from entries. Those of a whole image are put side by side: see
//! [`crate::ingest`].

use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Read, Write};
use std::thread;

use coracle_sys::{Context, Error, Result};

use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, media_type};
use crate::ingest::pipe::{Feed, pipe};
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
    /// Its files were as they had been seen until they were read.
    pub as_seen: bool,
}

/// How much of an archive is handed over at a time.
const PIECE: usize = 256 << 10;

/// An archive on its way into its blob, and to whoever applies it.
struct Fork {
    kept: Hashing<File>,
    /// Gone when nobody applies it any more: what is wrong is told there.
    feed: Option<Feed>,
}

impl Write for Fork {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.write_all(bytes)?;
        if self.feed.as_ref().is_some_and(|feed| !feed.push(bytes)) {
            self.feed = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.kept.flush()
    }
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
        Ok(PutLayer { descriptor, diff_id, warnings: applied.warnings, as_seen: true })
    }

    /// Put a layer from entries, and apply it over the stack `below`: one thread reads the files and makes the archive,
    /// another writes the layer of the same bytes. A layer that the store has stays as it is. The blob is kept
    /// uncompressed: the quickest to make.
    pub fn put_layer(&self, archive: &Archive, below: &[Digest]) -> Result<PutLayer> {
        let temp = Temp::file(self.layout())?;
        let (feed, mut drain) = pipe();
        let out = Fork { kept: Hashing::new(temp.create()?), feed: Some(feed) };
        let (written, applied) = thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut out = BufWriter::with_capacity(PIECE, out);
                let as_seen = archive.write(&mut out)?;
                let fork = out.into_inner().map_err(IntoInnerError::into_error);
                Ok((as_seen, fork.context(|| "write the archive")?.kept.finish()))
            });
            let applied = self.apply(&mut drain, self.limits, None, || self.store().stack_paths(below));
            // Who waits to hand over more is not to wait for ever.
            drop(drain);
            let lost = || Err(Error::invalid("the thread that writes the archive has ended"));
            (writer.join().unwrap_or_else(|_| lost()), applied)
        });
        // An archive that could not be written is why it could not be read.
        let (as_seen, (diff_id, size, blob)) = written?;
        let (dir, applied) = applied?;
        let descriptor = Descriptor::new(media_type::LAYER, diff_id, size);
        let warnings = [&archive.warnings[..], &applied.warnings].concat();
        let new = !self.has_blob(&descriptor);
        if self.is_applied(&diff_id, below) {
            if new {
                self.keep_blob(temp, &blob, &diff_id)?;
            }
            return Ok(PutLayer { descriptor, diff_id, warnings, as_seen });
        }
        // The blob is synced with the layer.
        self.keep_layer(dir, &diff_id, &chain_id(below, &diff_id), &applied)?;
        if new {
            self.name_blob(temp, &diff_id)?;
        }
        Ok(PutLayer { descriptor, diff_id, warnings, as_seen })
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
