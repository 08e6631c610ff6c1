//! Putting one layer, and applying it: it is made in a directory of `tmp/`, synced, and counts from its
//! rename on. Those of a whole image are put side by side: see [`crate::ingest`].

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use coracle_sys::file;
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, media_type};
use crate::ingest::stream::{Begin, End, Reached};
use crate::ingest::{Absent, Quiet, Wanted};
use crate::layer::pack::Archive;
use crate::layer::unpack::{self, Applied, Lowers};
use crate::layer::{Compression, Limits, copy, key, owners};
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
            self.apply(archive, self.limits, || self.store().stack_paths(below)).map(Some)
        };
        let Reached { blob: (digest, size), diff_id, compression, end } =
            begin.run(End { out: Some(&out), watch: &|_| true, apply: &apply })?;
        let kind = match compression {
            Compression::None => media_type::LAYER,
            Compression::Gzip => media_type::LAYER_GZIP,
            Compression::Zstd => media_type::LAYER_ZSTD,
        };
        let mut warnings = Vec::new();
        if let Some((dir, applied)) = end {
            // One syncfs makes the blob and the layer durable.
            self.dress_layer(&dir, &applied)?;
            file::sync_fs(file::open_dir(dir.path())?.as_fd())?;
            self.name_layer(dir, &diff_id, below, &applied)?;
            warnings = applied.warnings;
        }
        self.name_blob(temp, &digest)?;
        Ok(PutLayer { descriptor: Descriptor::new(kind, digest, size), diff_id, warnings })
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
            applied = Some(self.apply(&mut open()?, self.limits, || self.store().stack_paths(below))?);
        }
        if !self.has_blob(&descriptor) {
            let file = open()?;
            self.keep_blob(temp, &file, &diff_id)?;
        }
        if let Some((dir, applied)) = applied {
            self.dress_layer(&dir, &applied)?;
            file::sync_fs(file::open_dir(dir.path())?.as_fd())?;
            self.name_layer(dir, &diff_id, below, &applied)?;
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

    /// Apply an archive in a directory of `tmp/`, over the trees at `lowers`, bottom first, which are asked
    /// for when something in the archive leans on them.
    pub(crate) fn apply(
        &self,
        input: &mut (impl Read + ?Sized),
        limits: Limits,
        lowers: impl FnOnce() -> Result<Vec<PathBuf>>,
    ) -> Result<(Temp, Applied)> {
        let temp = Temp::dir(self.layout())?;
        let tree = temp.path().join(key::TREE);
        DirBuilder::new().mode(0o755).create(&tree).context(|| format!("mkdir({tree:?})"))?;
        let mode = Mode::from_bits_truncate(0o755);
        fchmodat(AT_FDCWD, &tree, mode, FchmodatFlags::FollowSymlink)
            .context(|| format!("chmod({tree:?}, 0755)"))?;
        let mut options = unpack::Options { limits, ..unpack::Options::of_this_process() };
        let mut table = Vec::new();
        let lowers: Lowers<'_> = if self.store().driver().copies() {
            options.plain = true;
            if let [path] = &lowers()?[..] {
                copy::tree_at(path, &tree)?;
                table = owners::read(path)?;
            }
            Lowers::from(Vec::new())
        } else {
            Lowers::later(|| -> Result<Vec<OwnedFd>> {
                lowers()?.iter().rev().map(|p| file::open_dir(p)).collect()
            })
        };
        let applied = unpack::unpack(input, file::open_dir(&tree)?, lowers, table, options)?;
        Ok((temp, applied))
    }

    /// Write what lies beside a layer's tree.
    pub(crate) fn dress_layer(&self, temp: &Temp, applied: &Applied) -> Result<()> {
        owners::write(temp.path(), &applied.owners)?;
        let path = temp.path().join(key::SIZE);
        fs::write(&path, applied.size.to_string()).context(|| format!("write({path:?})"))?;
        // A copy of all that is below has its root as well.
        if applied.root || self.store().driver().copies() {
            let path = temp.path().join(key::ROOT);
            fs::write(&path, "").context(|| format!("write({path:?})"))?;
        }
        Ok(())
    }

    /// Give a layer's directory, which is synced, its name.
    pub(crate) fn name_layer(
        &self,
        temp: Temp,
        diff_id: &Digest,
        below: &[Digest],
        applied: &Applied,
    ) -> Result<()> {
        let driver = self.store().driver();
        let name = if driver.copies() || applied.leans {
            key::stacked(&chain_id(below, diff_id))
        } else {
            key::alone(diff_id)
        };
        let layers = self.layout().layers(driver);
        match temp.rename(&layers.join(name)) {
            // Another process was quicker, with the same content.
            Err(e) if matches!(e.errno(), Some(Errno::ENOTEMPTY | Errno::EEXIST)) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => file::sync_dir(&layers),
        }
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
