//! Which layer came of which input: a layer whose input is as it was is not made again. The key is a
//! digest of everything that goes into the layer, files by inode, size and change time rather than by
//! content. A lost or damaged entry costs time and nothing else.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_store::image::Descriptor;
use coracle_store::layer::pack::{Archive, Content};
use coracle_store::{Digest, Store, Transaction};
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file, json};
use serde::Serialize;

/// What came of an input.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Made {
    /// The blob.
    pub(crate) descriptor: Descriptor,
    /// The digest of the archive.
    pub(crate) diff_id: Digest,
}

read_json!(Made {
    descriptor: must "descriptor",
    diff_id: must "diff_id",
});

/// The key of an archive that was planned and not yet written.
pub(crate) fn key_of_archive(archive: &Archive) -> Result<Digest> {
    let mut text = String::from("archive 1\n");
    for path in archive.paths() {
        let Some((meta, content)) = archive.get(path) else { continue };
        let _ = writeln!(text, "{path:?} {meta:?}");
        let _ = match content {
            Content::File { path, .. } => writeln!(text, "{}", stamp(path)?),
            other => writeln!(text, "{other:?}"),
        };
    }
    Ok(Digest::of(text.as_bytes()))
}

/// The key of a tar archive.
pub(crate) fn key_of_tar(path: &Path) -> Result<Digest> {
    Ok(Digest::of(format!("tar 1\n{}", stamp(path)?).as_bytes()))
}

fn stamp(path: &Path) -> Result<String> {
    let m = path.metadata().context(|| format!("stat({path:?})"))?;
    let (ino, size) = (m.ino(), m.size());
    Ok(format!(
        "{path:?} {} {ino} {size} {}.{} {}.{}",
        m.dev(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    ))
}

/// What came of this input before, if the store still has it, applied over the stack `below`.
pub(crate) fn look(tx: &Transaction<'_>, key: &Digest, below: &[Digest]) -> Option<Made> {
    let bytes = file::read(&place(tx.store(), key)).ok()?;
    let made: Made = json::from_slice(&bytes).ok()?;
    (tx.has_blob(&made.descriptor) && tx.is_applied(&made.diff_id, below)).then_some(made)
}

/// Remember what came of an input.
pub(crate) fn remember(store: &Store, key: &Digest, made: &Made) -> Result<()> {
    let text = serde_json::to_vec(made).map_err(|e| Error::invalid(e.to_string()))?;
    file::write_atomic(&place(store, key), &text, 0o600)
}

fn place(store: &Store, key: &Digest) -> PathBuf {
    store.main().root().join("cache").join(format!("layer-{}", key.hex()))
}
