//! Writing archives of images. Both forms are OCI image layouts in a tar; docker's has its layers uncompressed and
//! `manifest.json` besides, so that docker, podman and skopeo read it, each by what it knows.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{Read, Write};

use coracle_store::Digest;
use coracle_store::digest::Hashing;
use coracle_store::image::{Descriptor, Index, LAYOUT, Manifest, Platform, REF_NAME, media_type};
use coracle_store::layer::{Compression, decompress};
use coracle_sys::interrupt::Stoppable;
use coracle_sys::{Context, Error, Result};

use super::docker::Entry;
use crate::transfer::{Kept, Loaded, Open, Origin, Target, load};

/// An archive that is being written.
pub(crate) struct Writer<W: Write> {
    inner: RefCell<Inner<W>>,
}

struct Inner<W: Write> {
    tar: tar::Builder<W>,
    there: HashSet<Digest>,
    index: Index,
    docker: Vec<Entry>,
    /// What the image that is written now is called.
    name: Option<String>,
    begun: bool,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        let inner = Inner {
            tar: tar::Builder::new(out),
            there: HashSet::new(),
            index: Index::empty(),
            docker: Vec::new(),
            name: None,
            begun: false,
        };
        Self { inner: RefCell::new(inner) }
    }

    /// The name of the image that comes next.
    pub(crate) fn name(&self, name: Option<&str>) {
        self.inner.borrow_mut().name = name.map(str::to_owned);
    }

    /// Put an image of one platform as docker wants it, under its names.
    pub(crate) fn put_docker(&self, origin: &dyn Origin, platform: &Platform, tags: &[String]) -> Result<()> {
        let Loaded { manifest, config, config_bytes, .. } = load(origin, platform)?;
        let id = manifest.config.digest;
        let mut layers = Vec::new();
        let mut plain = Vec::new();
        for (d, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let size =
                self.inflated(origin, d, diff_id).context(|| format!("read the layer {}", d.digest))?;
            layers.push(path_of(diff_id));
            plain.push(Descriptor::new(media_type::LAYER, *diff_id, size));
        }
        self.bytes(&id, &config_bytes)?;
        let config = Descriptor::new(media_type::CONFIG, id, config_bytes.len() as u64);
        let bytes =
            serde_json::to_vec(&Manifest::new(config, plain)).map_err(|e| Error::invalid(e.to_string()))?;
        let d = Descriptor::new(media_type::MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        self.bytes(&d.digest, &bytes)?;
        let mut inner = self.inner.borrow_mut();
        let names: Vec<Option<&String>> =
            if tags.is_empty() { vec![None] } else { tags.iter().map(Some).collect() };
        for name in names {
            let mut entry = d.clone();
            if let Some(name) = name {
                entry.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name.clone());
            }
            inner.index.manifests.push(entry);
        }
        let path = path_of(&id);
        match inner.docker.iter_mut().find(|e| e.config == path) {
            Some(entry) => entry.repo_tags.get_or_insert_default().extend(tags.iter().cloned()),
            None => {
                inner.docker.push(Entry {
                    config: path,
                    repo_tags: Some(tags.to_vec()),
                    layers: Some(layers),
                });
            }
        }
        Ok(())
    }

    /// Put a layer's archive, uncompressed. It is read twice where it is compressed: a member's size comes
    /// before its bytes.
    fn inflated(&self, origin: &dyn Origin, d: &Descriptor, diff_id: &Digest) -> Result<u64> {
        let claimed = Compression::of_media_type(&d.media_type)?;
        let open = || -> Result<_> {
            let blob = origin.open(d, 0)?.take(d.size.saturating_add(1));
            decompress(std::io::BufReader::with_capacity(256 << 10, blob), Some(claimed))
        };
        let size = if claimed == Compression::None {
            d.size
        } else {
            let mut count = Stoppable(open()?);
            std::io::copy(&mut count, &mut std::io::sink()).context(|| "decompress it")?
        };
        if !self.inner.borrow_mut().there.insert(*diff_id) {
            return Ok(size);
        }
        self.member(&path_of(diff_id), size, &mut open()?, Some(diff_id))?;
        Ok(size)
    }

    fn bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if !self.inner.borrow_mut().there.insert(*digest) {
            return Ok(());
        }
        self.member(&path_of(digest), bytes.len() as u64, &mut &bytes[..], None)
    }

    /// The folders come first: skopeo would make those that are not named root's, which an ordinary user cannot.
    fn folders(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        if std::mem::replace(&mut inner.begun, true) {
            return Ok(());
        }
        for name in ["blobs/", "blobs/sha256/"] {
            let mut header = header(0o755, 0);
            header.set_entry_type(tar::EntryType::Directory);
            let written = inner.tar.append_data(&mut header, name, std::io::empty());
            written.context(|| format!("write {name:?} to the archive"))?;
        }
        Ok(())
    }

    /// One member, the same whenever it is written.
    fn member(&self, name: &str, size: u64, input: &mut dyn Read, expect: Option<&Digest>) -> Result<()> {
        self.folders()?;
        let mut input = Hashing::new(Stoppable(input));
        let written =
            self.inner.borrow_mut().tar.append_data(&mut header(0o644, size), name, (&mut input).take(size));
        written.context(|| format!("write {name:?} to the archive"))?;
        // One byte more tells whether it was all.
        let more = input.read(&mut [0]).context(|| format!("read {name:?}"))?;
        let (digest, read, _) = input.finish();
        if more > 0 || read != size || expect.is_some_and(|d| *d != digest) {
            return Err(Error::invalid(format!("write {name:?} to the archive: its content is another")));
        }
        Ok(())
    }

    /// Write what names all, and the end.
    pub(crate) fn finish(self) -> Result<W> {
        let (index, docker) = {
            let inner = self.inner.borrow();
            let text = |v: serde_json::Result<Vec<u8>>| v.map_err(|e| Error::invalid(e.to_string()));
            let docker = (!inner.docker.is_empty()).then(|| serde_json::to_vec(&inner.docker));
            (text(serde_json::to_vec(&inner.index))?, docker.map(text).transpose()?)
        };
        let put = |name: &str, bytes: &[u8]| self.member(name, bytes.len() as u64, &mut &bytes[..], None);
        if let Some(docker) = docker {
            put("manifest.json", &docker)?;
        }
        put("oci-layout", LAYOUT)?;
        put("index.json", &index)?;
        let mut out = self.inner.into_inner().tar.into_inner().context(|| "write the archive's end")?;
        out.flush().context(|| "write the archive's end")?;
        Ok(out)
    }
}

/// Root's, at the epoch.
fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl<W: Write> Target for Writer<W> {
    fn blob(&self, d: &Descriptor, open: Open<'_>) -> Result<Kept> {
        if !self.inner.borrow_mut().there.insert(d.digest) {
            return Ok(Kept::Exists);
        }
        self.member(&path_of(&d.digest), d.size, &mut open(0)?, Some(&d.digest))?;
        Ok(Kept::Sent)
    }

    fn manifest(&self, d: &Descriptor, bytes: &[u8], root: bool) -> Result<()> {
        self.bytes(&d.digest, bytes)?;
        if root {
            let mut inner = self.inner.borrow_mut();
            let mut entry = Descriptor::new(&d.media_type, d.digest, d.size);
            entry.platform.clone_from(&d.platform);
            if let Some(name) = inner.name.clone() {
                entry.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name);
            }
            inner.index.manifests.push(entry);
        }
        Ok(())
    }

    fn is_layout(&self) -> bool {
        true
    }
}
