//! OCI image layouts in folders: `oci:DIR[:ref]`. The image-layout specification, 1.0 and 1.1.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use coracle_store::digest::Hashing;
use coracle_store::image::{Descriptor, Index, LAYOUT, REF_NAME};
use coracle_store::ingest::Source;
use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;

use super::relay::{Kept, Open, Target};
use super::{Origin, open_at, parse};

/// A folder with an OCI image layout, and which of its images is meant.
pub(crate) struct Folder {
    dir: PathBuf,
    reference: Option<String>,
}

impl Folder {
    pub(crate) fn new(dir: &Path, reference: Option<&str>) -> Self {
        Self { dir: dir.to_owned(), reference: reference.map(str::to_owned) }
    }

    fn blob_path(&self, d: &Descriptor) -> PathBuf {
        self.dir.join("blobs/sha256").join(d.digest.hex())
    }

    /// All entries of the index.
    pub(crate) fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        let marker = self.dir.join("oci-layout");
        file::read_plain(&marker).context(|| format!("read the image layout {:?}", self.dir))?;
        parse(&file::read_plain(&path)?, "index").context(|| format!("read {path:?}"))
    }

    /// Make the layout where there is none.
    fn create(&self) -> Result<()> {
        let blobs = self.dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).context(|| format!("mkdir({blobs:?})"))?;
        let marker = self.dir.join("oci-layout");
        if !marker.exists() {
            file::write_atomic(&marker, LAYOUT, 0o644)?;
        }
        Ok(())
    }
}

impl Source for Folder {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(open_at(&self.blob_path(d), from)?))
    }
}

/// The entry of an index that is meant: the one of that name, else the only one.
pub(crate) fn choose<'a>(index: &'a Index, reference: Option<&str>) -> Result<&'a Descriptor> {
    let all = &index.manifests;
    let names = || all.iter().filter_map(|d| d.ref_name()).take(10).collect::<Vec<_>>().join(", ");
    match (reference, &all[..]) {
        (Some(wanted), _) => {
            let found = all.iter().find(|d| d.ref_name() == Some(wanted) || d.digest.to_string() == wanted);
            found.ok_or_else(|| {
                Error::not_found(format!("find the image {wanted:?} in the layout: there is {}", names()))
            })
        }
        (None, [one]) => Ok(one),
        (None, []) => Err(Error::not_found("find an image in the layout: there is none")),
        (None, _) => Err(Error::usage(format!("choose an image of the layout: there is {}", names()))),
    }
}

impl Origin for Folder {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        let index = self.index()?;
        let d = choose(&index, self.reference.as_deref())?.clone();
        let bytes = super::read(self.open(&d, 0)?, &d)?;
        Ok((d, bytes))
    }

    fn names(&self) -> Vec<String> {
        let index = self.index().unwrap_or_default();
        let chosen = choose(&index, self.reference.as_deref()).ok();
        chosen.and_then(|d| d.ref_name()).map(str::to_owned).into_iter().collect()
    }
}

impl Target for Folder {
    fn blob(&self, d: &Descriptor, open: Open<'_>) -> Result<Kept> {
        self.create()?;
        let path = self.blob_path(d);
        if path.metadata().is_ok_and(|m| m.len() == d.size) {
            return Ok(Kept::Exists);
        }
        let temp = self.dir.join(file::unique_name(".blob-"));
        let write = || -> Result<()> {
            let out = File::create_new(&temp).context(|| format!("open({temp:?}, O_CREAT)"))?;
            let mut out = Hashing::new(out);
            let mut input = open(0)?.take(d.size.saturating_add(1));
            std::io::copy(&mut input, &mut out).context(|| format!("write({temp:?})"))?;
            let (digest, size, out) = out.finish();
            d.expect(digest, size).context(|| format!("put the blob {}", d.digest))?;
            out.sync_all().context(|| "fsync(blob)")?;
            fs::rename(&temp, &path).context(|| format!("rename({temp:?}, {path:?})"))
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&temp);
        }
        written.map(|()| Kept::Sent)
    }

    fn manifest(&self, d: &Descriptor, bytes: &[u8], root: bool) -> Result<()> {
        self.create()?;
        file::write_atomic(&self.blob_path(d), bytes, 0o644)?;
        if !root {
            return Ok(());
        }
        let path = self.dir.join("index.json");
        let mut index: Index = match file::read_plain(&path) {
            Ok(bytes) => parse(&bytes, "index").context(|| format!("read {path:?}"))?,
            Err(e) if e.errno() == Some(Errno::ENOENT) => Index::empty(),
            Err(e) => return Err(e),
        };
        let mut entry = Descriptor::new(&d.media_type, d.digest, d.size);
        entry.platform = d.platform.clone();
        if let Some(name) = &self.reference {
            index.manifests.retain(|d| d.ref_name() != Some(name));
            entry.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name.clone());
        } else {
            index.manifests.retain(|old| old.digest != d.digest || old.ref_name().is_some());
        }
        index.manifests.push(entry);
        let text = serde_json::to_vec(&index).map_err(|e| Error::invalid(e.to_string()))?;
        file::write_atomic(&path, &text, 0o644)
    }

    fn is_layout(&self) -> bool {
        true
    }
}
