//! Writing a store. A [`Transaction`] holds the store's lock shared, so that no prune takes away what
//! it has just put and not yet named. Everything is made in `tmp/`, synced, and renamed into place:
//! being killed at any moment leaves a valid store, and at worst an entry of `tmp/` to sweep.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use serde::Serialize;

use crate::digest::{Digest, Hashing};
use crate::driver::Driver;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, REF_NAME, media_type};
use crate::layer::pack::Archive;
use crate::layer::unpack::{self, Applied};
use crate::layer::{Compression, Limits, copy, decompress, key, owners};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::read::{Image, Store, parse_index, read_index};

/// A right to write, held until it is dropped.
pub struct Transaction<'a> {
    store: &'a Store,
    /// What an archive may cost.
    pub limits: Limits,
    _shared: Lock,
}

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

    fn layout(&self) -> &Layout {
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
        if let Some(d) = expect
            && (digest, size) != (d.digest, d.size)
        {
            return Err(Error::invalid(format!(
                "put the blob {}: what came has {size} bytes and the digest {digest}, {} bytes were promised",
                d.digest, d.size
            )));
        }
        self.keep_blob(temp, &out, &digest)?;
        Ok((digest, size))
    }

    fn keep_blob(&self, temp: Temp, file: &File, digest: &Digest) -> Result<()> {
        file.sync_all().context(|| "fsync(blob)")?;
        let path = self.layout().blob(digest);
        temp.rename(&path)?;
        file::sync_dir(&self.layout().root().join("blobs/sha256"))
    }

    /// Put a value as a JSON blob.
    pub fn put_json(&self, media_type: &str, value: &impl Serialize) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::invalid(e.to_string()).wrap(format!("write a {media_type}")))?;
        let d = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        // By its content, not by its size: one that the disk has changed is written again.
        if !fs::read(self.layout().blob(&d.digest)).is_ok_and(|there| there == bytes) {
            self.put_blob(&bytes[..], Some(&d))?;
        }
        Ok(d)
    }

    /// Put a layer from its archive, compressed or not, and apply it over the stack `below` (diff
    /// ids, bottom first) in the same pass. The blob is kept uncompressed: the quickest to make.
    pub fn put_layer_from_tar(&self, input: impl Read, below: &[Digest]) -> Result<PutLayer> {
        let temp = Temp::file(self.layout())?;
        let mut tee =
            Tee { input: decompress(input, None)?, output: Hashing::new(temp.create()?), failed: None };
        let made = self.apply(&mut tee, below);
        if let Some(e) = tee.failed {
            return Err(e).context(|| "write a blob");
        }
        let (digest, size, file) = tee.output.finish();
        let (dir, applied) = made?;
        // One syncfs makes the blob and the layer durable; each counts from its rename on.
        let path = self.layout().blob(&digest);
        self.keep_layer(dir, &digest, below, &applied)?;
        drop(file);
        temp.rename(&path)?;
        file::sync_dir(&self.layout().root().join("blobs/sha256"))?;
        Ok(PutLayer {
            descriptor: Descriptor::new(media_type::LAYER, digest, size),
            diff_id: digest,
            warnings: applied.warnings,
        })
    }

    /// Put a layer from entries, and apply it over the stack `below`. A blob or a layer that the store
    /// has is not made again.
    pub fn put_layer(&self, archive: &Archive, below: &[Digest]) -> Result<PutLayer> {
        let temp = Temp::file(self.layout())?;
        let out = std::io::BufWriter::with_capacity(256 * 1024, temp.create()?);
        let mut out = Hashing::new(out);
        archive.write(&mut out)?;
        let (diff_id, size, _) = out.finish();
        let descriptor = Descriptor::new(media_type::LAYER, diff_id, size);
        let mut warnings = archive.warnings.clone();
        let mut applied = None;
        if !self.is_applied(&diff_id, below) {
            let mut input = File::open(&temp.path).context(|| format!("open({:?})", temp.path))?;
            applied = Some(self.apply(&mut input, below)?);
        }
        if !self.has_blob(&descriptor) {
            let file = File::open(&temp.path).context(|| format!("open({:?})", temp.path))?;
            self.keep_blob(temp, &file, &diff_id)?;
        }
        if let Some((dir, applied)) = applied {
            self.keep_layer(dir, &diff_id, below, &applied)?;
            warnings.extend(applied.warnings);
        }
        Ok(PutLayer { descriptor, diff_id, warnings })
    }

    /// Is a layer applied over this stack, in any store?
    pub fn is_applied(&self, diff_id: &Digest, below: &[Digest]) -> bool {
        self.store.layer_path(diff_id, &chain_id(below, diff_id)).is_some()
    }

    /// Apply a layer whose blob is in a store over the stack `below`, unless it is. The media type,
    /// the digest and the diff id are checked.
    pub fn apply_layer(&self, d: &Descriptor, diff_id: &Digest, below: &[Digest]) -> Result<Vec<String>> {
        if self.is_applied(diff_id, below) {
            return Ok(Vec::new());
        }
        let chain = chain_id(below, diff_id);
        let lock = self.layout().tmp().join(format!("{}.lock", chain.hex()));
        let _one = Lock::exclusive(&lock)?;
        if self.is_applied(diff_id, below) {
            return Ok(Vec::new());
        }
        let claimed = Compression::of_media_type(&d.media_type)?;
        let applied = (|| {
            let blob = self.store.open_blob(d)?;
            let mut archive = Hashing::new(decompress(blob, Some(claimed))?);
            let (dir, applied) = self.apply(&mut archive, below)?;
            // The walk has read to the end of the archive; what is left is the end of the blob.
            std::io::copy(&mut archive, &mut std::io::sink()).context(|| "read the layer")?;
            let (digest, _, _) = archive.finish();
            if digest != *diff_id {
                return Err(Error::invalid(format!(
                    "its content is {digest}, and the config says {diff_id}"
                )));
            }
            self.keep_layer(dir, diff_id, below, &applied)?;
            Ok(applied)
        })();
        // Whoever waits for it finds the layer applied, or begins again alone.
        let _ = fs::remove_file(&lock);
        Ok(applied.map_err(|e| e.wrap(format!("apply the layer {}", d.digest)))?.warnings)
    }

    /// Apply every layer of an image that is not applied yet.
    pub fn apply_image(&self, image: &Image) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let ids = image.diff_ids();
        for (n, (d, diff_id)) in image.manifest.layers.iter().zip(ids).enumerate() {
            warnings.extend(self.apply_layer(d, diff_id, &ids[..n])?);
        }
        Ok(warnings)
    }

    /// Apply an archive in a directory of `tmp/`.
    fn apply(&self, input: &mut impl Read, below: &[Digest]) -> Result<(Temp, Applied)> {
        let temp = Temp::dir(self.layout())?;
        let tree = temp.path.join(key::TREE);
        fs::DirBuilder::new().mode(0o755).create(&tree).context(|| format!("mkdir({tree:?})"))?;
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            &tree,
            nix::sys::stat::Mode::from_bits_truncate(0o755),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .context(|| format!("chmod({tree:?}, 0755)"))?;
        let mut options = unpack::Options { limits: self.limits, ..unpack::Options::of_this_process() };
        let mut table = Vec::new();
        let lowers: Vec<OwnedFd> = if self.store.driver().copies() {
            options.plain = true;
            if let [path] = &self.store.stack_paths(below)?[..] {
                copy::tree_at(path, &tree)?;
                table = owners::read(path)?;
            }
            Vec::new()
        } else {
            let paths = self.store.stack_paths(below)?;
            paths.iter().rev().map(|p| file::open_dir(p)).collect::<Result<_>>()?
        };
        let applied = unpack::unpack(input, file::open_dir(&tree)?, lowers, table, options)?;
        Ok((temp, applied))
    }

    /// Sync a layer's directory and give it its name: from then on it counts.
    fn keep_layer(&self, temp: Temp, diff_id: &Digest, below: &[Digest], applied: &Applied) -> Result<()> {
        owners::write(&temp.path, &applied.owners)?;
        let driver = self.store.driver();
        let path = temp.path.join(key::SIZE);
        fs::write(&path, applied.size.to_string()).context(|| format!("write({path:?})"))?;
        // A copy of all that is below has its root as well.
        if applied.root || driver.copies() {
            let path = temp.path.join(key::ROOT);
            fs::write(&path, "").context(|| format!("write({path:?})"))?;
        }
        let name = if driver.copies() || applied.leans {
            key::stacked(&chain_id(below, diff_id))
        } else {
            key::alone(diff_id)
        };
        let layers = self.layout().layers(driver);
        file::sync_fs(file::open_dir(&temp.path)?.as_fd())?;
        match temp.rename(&layers.join(name)) {
            // Another process was quicker, with the same content.
            Err(e) if matches!(e.errno(), Some(Errno::ENOTEMPTY | Errno::EEXIST)) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => file::sync_dir(&layers),
        }
    }

    /// Put an image: its config and manifest, of layers that were put before, bottom first. The
    /// config's diff ids must be theirs.
    pub fn put_image(&self, config: &ImageConfig, layers: Vec<Descriptor>) -> Result<Descriptor> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(Error::invalid(format!(
                "put an image: it has {} layers, and its config {} diff ids",
                layers.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let config = self.put_json(media_type::CONFIG, config)?;
        self.put_json(media_type::MANIFEST, &Manifest::new(config, layers))
    }

    /// Give a manifest, or an index, this name, taking it from another that has it. `name` is a full
    /// one, such as [`crate::Reference::local`] makes. The old holder of the name is returned.
    pub fn tag(&self, name: &str, d: &Descriptor) -> Result<Option<Descriptor>> {
        let mut entry = d.clone();
        entry.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name.to_owned());
        self.change_index(|index| {
            let old = index.manifests.iter().position(|d| d.ref_name() == Some(name));
            let old = old.map(|at| index.manifests.remove(at));
            index.manifests.push(entry);
            old
        })
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

    /// Read, change and replace the index, alone.
    fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T> {
        let _alone = Lock::exclusive(&self.layout().index_lock())?;
        let mut index = read_index(self.layout())?;
        let before = index.clone();
        let out = change(&mut index);
        if index != before {
            let text = serde_json::to_vec(&index).map_err(|e| Error::invalid(e.to_string()))?;
            debug_assert!(parse_index(&text).is_ok());
            let temp = Temp::file(self.layout())?;
            let mut out = temp.create()?;
            out.write_all(&text).context(|| "write the index")?;
            out.sync_all().context(|| "fsync(index.json)")?;
            temp.rename(&self.layout().index())?;
            file::sync_dir(self.layout().root())?;
        }
        Ok(out)
    }
}

/// The chain id of a layer on a stack.
pub fn chain_id(below: &[Digest], diff_id: &Digest) -> Digest {
    let mut chain = None;
    for id in below.iter().chain([diff_id]) {
        chain = Some(Digest::chain(chain.as_ref(), id));
    }
    chain.unwrap_or(*diff_id)
}

/// An entry of `tmp/`, locked while it is made, removed when it is dropped.
pub(crate) struct Temp {
    path: PathBuf,
    lock: Lock,
}

impl Temp {
    fn file(layout: &Layout) -> Result<Self> {
        Self::make(layout, |path| {
            File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .context(|| format!("open({path:?}, O_CREAT)"))?;
            Ok(())
        })
    }

    pub(crate) fn dir(layout: &Layout) -> Result<Self> {
        Self::make(layout, |path| {
            fs::DirBuilder::new().mode(0o700).create(path).context(|| format!("mkdir({path:?})"))
        })
    }

    /// Between its making and its locking a sweep may take the entry away: then make another.
    fn make(layout: &Layout, make: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        loop {
            let path = layout.tmp().join(file::unique_name(""));
            make(&path)?;
            match Lock::try_existing(&path) {
                Ok(Some(lock)) if lock.is_at(&path) => return Ok(Self { path, lock }),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn create(&self) -> Result<File> {
        File::options().write(true).open(&self.path).context(|| format!("open({:?})", self.path))
    }

    fn rename(mut self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).context(|| format!("rename({:?}, {to:?})", self.path))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && self.lock.is_at(&self.path) {
            let _ = file::remove_tree(&self.path);
        }
    }
}

/// A reader that writes down what it reads.
struct Tee<R, W> {
    input: R,
    output: W,
    failed: Option<std::io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        if let Err(e) = self.output.write_all(&buf[..n]) {
            let kind = e.kind();
            self.failed = Some(e);
            return Err(kind.into());
        }
        Ok(n)
    }
}
