//! Blobs on their way out: size and digest are checked, whichever store they lie in.

use std::io::Read;
use std::path::PathBuf;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result, json};
use nix::errno::Errno;

use crate::digest::{Digest, Hashing};
use crate::image::Descriptor;
use crate::read::Store;

/// Manifests, indexes and configs are refused beyond this size.
const MAX_JSON: u64 = 8 << 20;

impl Store {
    /// The path of a blob, in the first store that has it.
    pub fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        self.layouts().map(|l| l.blob(digest)).find(|p| p.exists())
    }

    /// Read a blob to its end through the reader that is given: its size and digest are checked
    /// there. The reader must be read to its end to know.
    pub fn open_blob(&self, d: &Descriptor) -> Result<Verified> {
        let path = self
            .blob_path(&d.digest)
            .ok_or_else(|| Error::not_found(format!("open the blob {}: no store has it", d.digest)))?;
        let file = file::open_plain(&path)?;
        let size = file.metadata().context(|| format!("fstat({path:?})"))?.len();
        if size != d.size {
            return Err(Error::invalid(format!(
                "open the blob {}: it has {size} bytes, and {} were promised",
                d.digest, d.size
            )));
        }
        Ok(Verified { inner: Some(Hashing::new(file)), expect: d.digest, size: d.size })
    }

    /// A JSON blob, checked and parsed.
    pub fn json<T: json::Read + Default>(&self, d: &Descriptor) -> Result<T> {
        let bytes = self.bytes(d)?;
        json::from_slice(&bytes).map_err(|e| e.wrap(format!("parse the blob {}", d.digest)))
    }

    /// A small blob, checked.
    pub fn bytes(&self, d: &Descriptor) -> Result<Vec<u8>> {
        if d.size > MAX_JSON {
            return Err(Error::invalid(format!("read the blob {}: {} bytes are too many", d.digest, d.size)));
        }
        for layout in self.layouts() {
            let bytes = match file::read_plain(&layout.blob(&d.digest)) {
                Err(e) if e.errno() == Some(Errno::ENOENT) => continue,
                other => other?,
            };
            if bytes.len() as u64 != d.size || Digest::of(&bytes) != d.digest {
                return Err(Error::invalid(format!("read the blob {}: its content is another", d.digest)));
            }
            return Ok(bytes);
        }
        Err(Error::not_found(format!("read the blob {}: no store has it", d.digest)))
    }
}

/// A blob's bytes. The last read is an error when they are not those of its digest.
pub struct Verified {
    inner: Option<Hashing<std::fs::File>>,
    expect: Digest,
    size: u64,
}

impl Read for Verified {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let n = inner.read(buf)?;
        if n == 0
            && !buf.is_empty()
            && let Some(inner) = self.inner.take()
        {
            let (digest, size, _) = inner.finish();
            if (digest, size) != (self.expect, self.size) {
                return Err(std::io::Error::other(format!(
                    "the blob {} has the content of {digest}",
                    self.expect
                )));
            }
        }
        Ok(n)
    }
}
