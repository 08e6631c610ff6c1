//! Writing a store. A [`Transaction`] holds the store's lock shared, so that no prune takes away what
//! it has just put and not yet named. Everything is made in `tmp/`, synced, and renamed into place:
//! being killed at any moment leaves a valid store, and at worst an entry of `tmp/` to sweep.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use serde::Serialize;

use crate::digest::{Digest, Hashing};
use crate::driver::Driver;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, REF_NAME, media_type};
use crate::layer::Limits;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::read::{Store, parse_index, read_index};
use crate::reserve;
use crate::temp::Temp;

/// A right to write, held until it is dropped.
pub struct Transaction<'a> {
    store: &'a Store,
    /// What an archive may cost.
    pub limits: Limits,
    _shared: Lock,
}

impl Store {
    /// Begin to write. The store is made when it is not there.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        self.main.create(None)?;
        let shared = Lock::shared(&self.main.lock())?;
        // What a killed writer left may be as large as an image, and the next writer may be long in coming.
        self.sweep()?;
        Ok(Transaction { store: self, limits: Limits::default(), _shared: shared })
    }

    /// Make the store with a driver. An existing store keeps its own, and refuses another.
    pub fn create(&mut self, driver: Option<Driver>) -> Result<()> {
        self.main.create(driver)
    }
}

impl Transaction<'_> {
    /// The store that is written.
    pub fn store(&self) -> &Store {
        self.store
    }

    pub(crate) fn layout(&self) -> &Layout {
        self.store.main()
    }

    /// Does the store that is written have this blob? Then it needs no second download.
    pub fn has_blob(&self, d: &Descriptor) -> bool {
        self.layout().blob(&d.digest).metadata().is_ok_and(|m| m.len() == d.size)
    }

    /// Put a blob. When it is known what it must be, other content is refused, and nothing is read
    /// beyond its size.
    pub fn put_blob(&self, input: impl Read, expect: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let most = expect.map_or(u64::MAX, |d| d.size.saturating_add(1));
        let temp = Temp::file(self.layout())?;
        let mut out = Hashing::new(temp.create()?);
        std::io::copy(&mut input.take(most), &mut out).context(|| "write a blob")?;
        let (digest, size, out) = out.finish();
        if let Some(d) = expect {
            d.expect(digest, size).context(|| format!("put the blob {}", d.digest))?;
        }
        self.keep_blob(temp, &out, &digest)?;
        Ok((digest, size))
    }

    /// Sync a blob and name it.
    pub(crate) fn keep_blob(&self, temp: Temp, file: &File, digest: &Digest) -> Result<()> {
        file.sync_all().context(|| "fsync(blob)")?;
        self.name_blob(temp, digest)
    }

    /// Give a blob, which is synced, its name.
    pub(crate) fn name_blob(&self, temp: Temp, digest: &Digest) -> Result<()> {
        let path = self.layout().blob(digest);
        temp.rename(&path)?;
        file::sync_dir(&self.layout().root().join("blobs/sha256"))
    }

    /// Put a value as a JSON blob.
    pub fn put_json(&self, media_type: &str, value: &impl Serialize) -> Result<Descriptor> {
        let (d, temp) = self.json_blob(media_type, value)?;
        if let Some(temp) = temp {
            self.name_blob(temp, &d.digest)?;
        }
        Ok(d)
    }

    /// A value as a JSON blob, synced, which lacks nothing but its name; nothing where the store has it.
    fn json_blob(&self, media_type: &str, value: &impl Serialize) -> Result<(Descriptor, Option<Temp>)> {
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::invalid(e.to_string()).wrap(format!("write a {media_type}")))?;
        let d = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        // By its content, not by its size: one that the disk has changed is written again.
        if fs::read(self.layout().blob(&d.digest)).is_ok_and(|there| there == bytes) {
            return Ok((d, None));
        }
        let temp = Temp::file(self.layout())?;
        let mut out = temp.create()?;
        out.write_all(&bytes).context(|| "write a blob")?;
        out.sync_all().context(|| "fsync(blob)")?;
        Ok((d, Some(temp)))
    }

    /// Put an image: its config and manifest, of layers that were put before, bottom first. The
    /// config's diff ids must be theirs.
    pub fn put_image(&self, config: &ImageConfig, layers: Vec<Descriptor>) -> Result<Descriptor> {
        self.put_image_noted(config, layers, None)
    }

    /// [`Transaction::put_image`] with annotations of the manifest.
    pub fn put_image_noted(
        &self,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        annotations: Option<BTreeMap<String, String>>,
    ) -> Result<Descriptor> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(Error::invalid(format!(
                "put an image: it has {} layers, and its config {} diff ids",
                layers.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let (config, first) = self.json_blob(media_type::CONFIG, config)?;
        let manifest = Manifest { annotations, ..Manifest::new(config.clone(), layers) };
        let (manifest, second) = self.json_blob(media_type::MANIFEST, &manifest)?;
        if let Some(temp) = first {
            temp.rename(&self.layout().blob(&config.digest))?;
        }
        match second {
            // Both names are synced at once.
            Some(temp) => self.name_blob(temp, &manifest.digest)?,
            None => file::sync_dir(&self.layout().root().join("blobs/sha256"))?,
        }
        Ok(manifest)
    }

    /// Give a manifest, or an index, this name, taking it from another that has it. `name` is a full
    /// one, such as [`crate::Reference::local`] makes. The old holder of the name is returned; where that was its
    /// last one it stays in the store without a name, until a prune; an entry of the new one without a name goes.
    pub fn tag(&self, name: &str, d: &Descriptor) -> Result<Option<Descriptor>> {
        let mut entry = d.clone();
        entry.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name.to_owned());
        self.change_index(|index| {
            // What has a name now needs no entry without.
            index.manifests.retain(|d| d.digest != entry.digest || d.ref_name().is_some());
            let at = index.manifests.iter().position(|d| d.ref_name() == Some(name));
            let old = at.map(|at| index.manifests.remove(at));
            index.manifests.push(entry);
            if let Some(old) = &old
                && !index.manifests.iter().any(|d| d.digest == old.digest)
            {
                let mut nameless = old.clone();
                nameless.annotations.get_or_insert_default().remove(REF_NAME);
                index.manifests.push(nameless);
            }
            old
        })
    }

    /// Note something of a name, as long as it stands for this manifest.
    pub fn note(&self, name: &str, manifest: &Digest, key: &str, value: &str) -> Result<()> {
        self.change_index(|index| {
            let is_meant = |d: &&mut Descriptor| d.ref_name() == Some(name) && d.digest == *manifest;
            if let Some(d) = index.manifests.iter_mut().find(is_meant) {
                d.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }
        })
    }

    /// List a manifest, or an index, without a name.
    pub fn add(&self, d: &Descriptor) -> Result<()> {
        self.change_index(|index| index.manifests.push(d.clone()))
    }

    /// Take a name away. Its blobs and layers stay until a prune.
    pub fn untag(&self, name: &str) -> Result<Descriptor> {
        let old = self.change_index(|index| {
            let at = index.manifests.iter().position(|d| d.ref_name() == Some(name))?;
            Some(index.manifests.remove(at))
        })?;
        old.ok_or_else(|| Error::not_found(format!("remove the name {name:?}: the store has no such image")))
    }

    /// Take every entry of a manifest away, named or not.
    pub fn forget(&self, manifest: &Digest) -> Result<Vec<Descriptor>> {
        self.change_index(|index| index.manifests.extract_if(.., |d| d.digest == *manifest).collect())
    }

    /// Take these entries away, as far as they are still as they were seen.
    pub fn forget_entries(&self, seen: &[Descriptor]) -> Result<Vec<Descriptor>> {
        self.change_index(|index| index.manifests.extract_if(.., |d| seen.contains(d)).collect())
    }

    /// Read, change and replace the index, alone.
    fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T> {
        let _alone = Lock::exclusive(&self.layout().index_lock())?;
        let mut index = read_index(self.layout())?;
        let before = index.clone();
        let out = change(&mut index);
        if index != before {
            let text = serde_json::to_vec(&index).map_err(|e| Error::invalid(e.to_string()))?;
            debug_assert!(parse_index(&text).is_ok());
            let shrinks = index.manifests.len() < before.manifests.len();
            match self.replace_index(&text) {
                // Who takes an image away makes room: that is not to fail for want of it.
                Err(e) if shrinks && reserve::is_full(&e) && reserve::free(self.layout()) => {
                    self.replace_index(&text)?;
                }
                done => done?,
            }
            reserve::keep(self.layout());
        }
        Ok(out)
    }

    fn replace_index(&self, text: &[u8]) -> Result<()> {
        let temp = Temp::file(self.layout())?;
        let mut out = temp.create()?;
        out.write_all(text).context(|| "write the index")?;
        out.sync_all().context(|| "fsync(index.json)")?;
        temp.rename(&self.layout().index())?;
        file::sync_dir(self.layout().root())
    }
}

/// A directory of `tmp/` that is gone when it is dropped, and swept when its maker was killed.
pub struct Scratch(Temp);

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Transaction<'_> {
    /// An empty directory for what is on its way into the store.
    pub fn scratch(&self) -> Result<Scratch> {
        Temp::dir(self.layout()).map(Scratch)
    }
}
