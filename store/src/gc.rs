//! What nothing refers to any more: blobs and layers of no image and no container, and what killed
//! writers left in `tmp/`. A prune holds the store's lock alone, so no writer is half-way.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coracle_sys::file;
use coracle_sys::{Context, Result};

use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use crate::layer::key::{self, chain_ids};
use crate::lock::Lock;
use crate::read::{Store, read_index};
use crate::squeeze;

/// What a prune took away, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Applied layers, by their keys.
    pub layers: Vec<String>,
    /// What came of blobs whose source broke off.
    pub partials: usize,
    /// Left-overs of `tmp/`.
    pub temps: usize,
    /// Bytes of all but the left-overs.
    pub bytes: u64,
}

/// What to prune.
#[derive(Clone, Debug, Default)]
pub struct Pruning {
    /// Only look.
    pub dry: bool,
    /// What came of blobs whose source broke off goes as well, and what is kept for the next build.
    pub partials: bool,
    /// Packages that were fetched go as well.
    pub packages: bool,
    /// As if these manifests were not in the index any more.
    pub without: HashSet<Digest>,
}

/// What is in use.
#[derive(Default)]
struct Used {
    blobs: HashSet<Digest>,
    layers: HashSet<String>,
}

impl Store {
    /// Is somebody writing at this moment, whom a prune would wait for?
    pub fn is_being_written(&self) -> bool {
        matches!(Lock::try_existing(&self.main().lock()), Ok(None))
    }

    /// Remove what no image and no container uses, waiting until no one writes.
    pub fn prune(&self) -> Result<Pruned> {
        self.prune_with(&Pruning::default())
    }

    /// [`Store::prune`], as it is asked for.
    pub fn prune_with(&self, how: &Pruning) -> Result<Pruned> {
        if self.main().driver().is_none() {
            return Ok(Pruned::default());
        }
        let _alone = Lock::exclusive(&self.main().lock())?;
        self.prune_alone(how).context(|| format!("prune the store {:?}", self.main().root()))
    }

    fn prune_alone(&self, how: &Pruning) -> Result<Pruned> {
        let used = self.used(&how.without)?;
        let root = self.main().root();
        let mut out = Pruned::default();
        if !how.dry {
            out.temps = self.sweep()?;
            self.sweep_mounts()?;
        }
        // Layers first: a layer without its blobs is of use, a blob can be applied again.
        for (name, path) in list(&self.main().layers(self.driver()))? {
            if used.layers.contains(&name) {
                continue;
            }
            out.bytes += key::size(&path.join(key::TREE)).unwrap_or(0);
            if !how.dry {
                file::remove_tree(&self.main().take_out(&path)?)?;
            }
            out.layers.push(name);
        }
        let remove = |path: &Path| -> Result<u64> {
            let size = path.symlink_metadata().map_or(0, |m| m.len());
            if !how.dry {
                fs::remove_file(path).context(|| format!("unlink({path:?})"))?;
            }
            Ok(size)
        };
        for (name, path) in list(&root.join("blobs/sha256"))? {
            let digest = Digest::from_hex(&name);
            if digest.is_some_and(|d| used.blobs.contains(&d)) {
                continue;
            }
            out.bytes += remove(&path)?;
            out.blobs.extend(digest);
        }
        // Notes of what is compressed go with what they are of.
        for (name, path) in list_if_there(&squeeze::notes(self.main()))? {
            let of = name.split('.').next().and_then(Digest::from_hex);
            if !of.is_some_and(|d| used.blobs.contains(&d)) {
                remove(&path)?;
            }
        }
        if how.partials {
            out.bytes += self.prune_builds_alone(None, how.dry)?;
        }
        for (_, path) in list_if_there(&self.main().partials())?.into_iter().filter(|_| how.partials) {
            out.bytes += remove(&path)?;
            out.partials += 1;
        }
        if how.packages {
            out.bytes += self.prune_packages(None, how.dry)?;
        }
        Ok(out)
    }

    /// Remove what is known of steps of builds, and what they keep for the next one, waiting until no one writes; with
    /// `before` only what nobody has used since then. With `packages` those that were fetched, before that, go as well. The bytes.
    pub fn prune_builds(&self, before: Option<SystemTime>, packages: bool) -> Result<u64> {
        if self.main().driver().is_none() {
            return Ok(0);
        }
        let _alone = Lock::exclusive(&self.main().lock())?;
        let fetched = if packages { self.prune_packages(before, false)? } else { 0 };
        Ok(fetched + self.prune_builds_alone(before, false)?)
    }

    fn prune_builds_alone(&self, before: Option<SystemTime>, dry: bool) -> Result<u64> {
        let mut bytes = 0;
        // Some of it may be of subordinate ids.
        let mut remove = |path: &Path| -> Result<()> {
            bytes += tree_size(path);
            if dry { Ok(()) } else { file::remove_tree(&self.main().take_out(path)?) }
        };
        let all = self.main().builds();
        let Some(before) = before else {
            if all.exists() {
                remove(&all)?;
            }
            return Ok(bytes);
        };
        for dir in [all.join("mounts"), all] {
            for (name, path) in list_if_there(&dir)? {
                let used = path.symlink_metadata().and_then(|m| m.modified());
                if name != "mounts" && used.is_ok_and(|used| used < before) {
                    remove(&path)?;
                }
            }
        }
        Ok(bytes)
    }

    /// Packages, those that were fetched `before` alone, and what a killed download left beside them.
    fn prune_packages(&self, before: Option<SystemTime>, dry: bool) -> Result<u64> {
        let mut bytes = 0;
        for dir in ["cache/deb/sha256", "cache/deb"] {
            for (_, path) in list_if_there(&self.main().root().join(dir))? {
                let Ok(m) = path.symlink_metadata() else { continue };
                let kept = before.is_some_and(|before| m.modified().is_ok_and(|at| at >= before));
                if m.is_file() && !kept {
                    bytes += m.len();
                    if !dry {
                        fs::remove_file(&path).context(|| format!("unlink({path:?})"))?;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Remove what killed writers left. Entries that a living one holds stay.
    pub fn sweep(&self) -> Result<usize> {
        if self.main().driver().is_none() {
            return Ok(0);
        }
        let mut swept = 0;
        for (_, path) in list(&self.main().tmp())? {
            let Ok(Some(lock)) = Lock::try_existing(&path) else { continue };
            if lock.is_at(&path) {
                file::remove_tree(&path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Follow every entry of the index, and every image that is in use.
    fn used(&self, without: &HashSet<Digest>) -> Result<Used> {
        let mut used = Used::default();
        for d in read_index(self.main())?.manifests {
            if without.contains(&d.digest) {
                continue;
            }
            self.mark(&d, &mut used)?;
        }
        for (digest, _) in self.users()? {
            let path = self.main().blob(&digest);
            let Ok(size) = path.metadata().map(|m| m.len()) else { continue };
            let kind = media_type::MANIFEST;
            self.mark(&Descriptor::new(kind, digest, size), &mut used)?;
        }
        Ok(used)
    }

    fn mark(&self, d: &Descriptor, used: &mut Used) -> Result<()> {
        if !used.blobs.insert(d.digest) || self.blob_path(&d.digest).is_none() {
            return Ok(());
        }
        if media_type::is_index(&d.media_type) {
            let index: Index = self.json(d)?;
            return index.manifests.iter().try_for_each(|d| self.mark(d, used));
        }
        // What is not an image is kept whole when its blobs are named as an image's are.
        let manifest: Manifest = self.json(d)?;
        used.blobs.insert(manifest.config.digest);
        for layer in &manifest.layers {
            used.blobs.insert(layer.digest);
            used.blobs.extend(squeeze::all(self, &layer.digest));
        }
        let config: Result<ImageConfig> = self.json(&manifest.config);
        let Ok(config) = config else { return Ok(()) };
        let ids = &config.rootfs.diff_ids;
        for (id, chain_id) in ids.iter().zip(chain_ids(ids)) {
            used.layers.insert(key::alone(id));
            used.layers.insert(key::stacked(&chain_id));
        }
        Ok(())
    }
}

fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).context(|| format!("opendir({dir:?})"))? {
        let entry = entry.context(|| format!("readdir({dir:?})"))?;
        out.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(out)
}

/// The entries of a directory, which need not be there.
pub(crate) fn list_if_there(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    if dir.exists() { list(dir) } else { Ok(Vec::new()) }
}

/// The bytes of a file, or of all plain files in a directory, as far as it can be read.
fn tree_size(dir: &Path) -> u64 {
    if let Ok(file) = dir.symlink_metadata()
        && !file.is_dir()
    {
        return file.len();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => tree_size(&e.path()),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
