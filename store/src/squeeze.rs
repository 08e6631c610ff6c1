//! Blobs that were made here are kept uncompressed, the quickest to make. Before they leave they are compressed,
//! once: what came of it is kept beside them for as long as they are, and found by `cache/squeezed/`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use coracle_sys::{Context, Error, Result, file, json};

use crate::digest::{Digest, Hashing};
use crate::image::Descriptor;
use crate::layer::{Compression, compress};
use crate::layout::Layout;
use crate::read::Store;
use crate::temp::Temp;
use crate::write::Transaction;

impl Transaction<'_> {
    /// The compressed likeness of an uncompressed layer, made when there is none yet. A layer that is
    /// compressed is its own.
    pub fn squeeze(&self, d: &Descriptor, how: Compression) -> Result<Descriptor> {
        if Compression::of_media_type(&d.media_type)? != Compression::None || how == Compression::None {
            return Ok(d.clone());
        }
        if let Some(known) = known(self.store(), self.layout(), &d.digest, how) {
            return Ok(known);
        }
        let squeeze = || -> Result<Descriptor> {
            let temp = Temp::file(self.layout())?;
            let input = self.store().open_blob(d)?;
            let mut out = Hashing::new(BufWriter::with_capacity(1 << 20, temp.create()?));
            compress::all(input, &mut out, how)?;
            out.flush().context(|| "write a blob")?;
            let (digest, size, _) = out.finish();
            let file = File::open(temp.path()).context(|| format!("open({:?})", temp.path()))?;
            self.keep_blob(temp, &file, &digest)?;
            let made = Descriptor::new(how.media_type(), digest, size);
            let path = place(self.layout(), &d.digest, how);
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).context(|| format!("mkdir({dir:?})"))?;
            }
            let text = serde_json::to_vec(&made).map_err(|e| Error::invalid(e.to_string()))?;
            file::write_atomic(&path, &text, 0o644)?;
            Ok(made)
        };
        squeeze().map_err(|e| e.wrap(format!("compress the layer {}", d.digest)))
    }
}

/// Where it is noted what is compressed already.
pub(crate) fn notes(layout: &Layout) -> PathBuf {
    layout.root().join("cache/squeezed")
}

fn place(layout: &Layout, digest: &Digest, how: Compression) -> PathBuf {
    let how = if how == Compression::Zstd { "zstd" } else { "gzip" };
    notes(layout).join(format!("{}.{how}", digest.hex()))
}

/// The compressed likeness that there is.
fn known(store: &Store, layout: &Layout, digest: &Digest, how: Compression) -> Option<Descriptor> {
    let made: Descriptor = json::from_slice(&file::read(&place(layout, digest, how)).ok()?).ok()?;
    let path = store.blob_path(&made.digest)?;
    path.metadata().is_ok_and(|m| m.len() == made.size).then_some(made)
}

/// The compressed likenesses of a blob that there are.
pub(crate) fn all(store: &Store, digest: &Digest) -> impl Iterator<Item = Digest> {
    let both = [Compression::Gzip, Compression::Zstd];
    both.into_iter().filter_map(move |how| known(store, store.main(), digest, how)).map(|d| d.digest)
}
