//! Taking in the layers of an image, side by side and each in one pass: receive, verify the blob, decompress,
//! verify the archive, write the files. What is there is neither fetched nor unpacked again, and what came of
//! a blob before its source broke off is kept for the next time. Nothing counts before all is synced.

pub(crate) mod pipe;
mod slots;
pub(crate) mod stream;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result, order};
use nix::errno::Errno;

use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Manifest};
use crate::layer::key::chain_ids;
use crate::layer::{Compression, Limits};
use crate::lock::{Lock, Named};
use crate::write::Transaction;
use slots::{Made, Slots};
use stream::{Begin, End, Reached};

/// Layers that are taken in at the same time.
const AT_ONCE: usize = 3;

/// A layer to take in.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The blob.
    pub descriptor: Descriptor,
    /// What its archive must be.
    pub diff_id: Digest,
}

impl Wanted {
    /// The layers of an image, bottom first.
    pub fn of(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Self>> {
        let (layers, ids) = (&manifest.layers, &config.rootfs.diff_ids);
        if layers.len() != ids.len() {
            return Err(Error::invalid(format!(
                "read the image's config: it has {} diff ids, and the manifest {} layers",
                ids.len(),
                layers.len()
            )));
        }
        Ok(layers.iter().zip(ids).map(|(d, id)| Self { descriptor: d.clone(), diff_id: *id }).collect())
    }
}

/// Where blobs come from.
pub trait Source: Sync {
    /// The bytes of a blob from `from` on. Nothing of them is believed.
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Is it worth it to keep what came of a blob, when the rest did not?
    fn resumes(&self) -> bool {
        false
    }
}

/// No source: all blobs are in a store.
pub struct Absent;

impl Source for Absent {
    fn open(&self, d: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>> {
        Err(Error::not_found(format!("open the blob {}: no store has it", d.digest)))
    }
}

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there already.
    Exists,
    /// Somebody else is taking it in.
    Waiting,
    /// It is coming; so many bytes of it are here from an earlier time.
    Coming(u64),
    /// Its files are written.
    Done,
}

/// Who is told how it goes. `n` counts the layers from the bottom.
pub trait Watch: Sync {
    /// A layer is in another state.
    fn state(&self, _n: usize, _state: State) {}
    /// So many more bytes of a blob came.
    fn received(&self, _n: usize, _bytes: u64) {}
    /// Is it to stop?
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody is told.
pub struct Quiet;

impl Watch for Quiet {}

impl Transaction<'_> {
    /// Take in layers, bottom first, on top of the stack `below`. What could not be as in the archives comes
    /// back, one sentence each.
    pub fn ingest(
        &self,
        below: &[Digest],
        layers: &[Wanted],
        source: &dyn Source,
        watch: &dyn Watch,
    ) -> Result<Vec<String>> {
        let ids = below.iter().chain(layers.iter().map(|l| &l.diff_id));
        let chains = chain_ids(ids).skip(below.len()).collect();
        let task = Task { tx: self, below, layers, chains, source, watch, slots: Slots::new(layers.len()) };
        let _ours = task.lock()?;
        task.expect_room()?;
        let next = AtomicUsize::new(0);
        let (ended, end) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(|| self.write_back(end));
            let work = || {
                while let n = next.fetch_add(1, Relaxed)
                    && n < layers.len()
                {
                    let digest = layers[n].descriptor.digest;
                    match task.layer(n) {
                        Ok(made) => task.slots.done(n, made),
                        Err(e) => task.slots.failed(e.wrap(format!("take in the layer {digest}"))),
                    }
                }
            };
            let workers: Vec<_> = (0..AT_ONCE.min(layers.len())).map(|_| scope.spawn(work)).collect();
            workers.into_iter().for_each(|w| drop(w.join()));
            drop(ended);
        });
        task.commit()
    }

    /// Have the disk write what is there until the end, so that little is left to wait for then. Who takes long
    /// asks less often: others use the disk as well.
    fn write_back(&self, end: Receiver<()>) {
        let Ok(tmp) = file::open_dir(&self.layout().tmp()) else { return };
        let mut pause = Duration::from_millis(100);
        while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let _ = file::sync_fs(tmp.as_fd());
            pause = (pause * 5 / 4).min(Duration::from_secs(3));
        }
    }
}

struct Task<'a> {
    tx: &'a Transaction<'a>,
    below: &'a [Digest],
    layers: &'a [Wanted],
    /// The chain id of each.
    chains: Vec<Digest>,
    source: &'a dyn Source,
    watch: &'a dyn Watch,
    slots: Slots,
}

impl Task<'_> {
    /// The tree of a layer, when it is applied.
    fn applied(&self, n: usize) -> Option<PathBuf> {
        self.tx.store().layer_path(&self.layers[n].diff_id, &self.chains[n])
    }

    /// Is there nothing to do?
    fn is_there(&self, n: usize) -> bool {
        self.tx.has_blob(&self.layers[n].descriptor) && self.applied(n).is_some()
    }

    /// Lock what is missing, so that of two who want a layer one waits. All take the locks in one order.
    fn lock(&self) -> Result<Vec<Named>> {
        let mut missing: Vec<usize> = (0..self.layers.len()).filter(|n| !self.is_there(*n)).collect();
        order::sort_by(&mut missing, |a, b| {
            self.layers[*a].descriptor.digest.cmp(&self.layers[*b].descriptor.digest)
        });
        missing.dedup_by_key(|n| self.layers[*n].descriptor.digest);
        let waiting = |n| self.watch.state(n, State::Waiting);
        missing
            .into_iter()
            .map(|n| {
                let name = format!("{}.lock", self.layers[n].descriptor.digest.hex());
                Lock::named(&self.tx.layout().tmp().join(name), || waiting(n))
            })
            .collect()
    }

    /// A blob that cannot be held is not begun.
    fn expect_room(&self) -> Result<()> {
        let tmp = self.tx.layout().tmp();
        let mut missing: Vec<&Descriptor> = self.layers.iter().map(|l| &l.descriptor).collect();
        missing.retain(|d| !self.tx.has_blob(d));
        order::sort_by(&mut missing, |a, b| a.digest.cmp(&b.digest));
        missing.dedup_by_key(|d| d.digest);
        let have = |d: &Descriptor| self.tx.layout().partial(&d.digest).metadata().map_or(0, |m| m.len());
        let need = missing.iter().fold(0u64, |sum, d| sum.saturating_add(d.size.saturating_sub(have(d))));
        let disk = nix::sys::statvfs::statvfs(&tmp).context(|| format!("statvfs({tmp:?})"))?;
        let room = disk.blocks_available() as u64 * disk.fragment_size() as u64;
        match need > room {
            true => Err(Error::syscall(
                format!("hold blobs of {need} bytes: the disk of {tmp:?} has room for {room}"),
                Errno::ENOSPC,
            )),
            false => Ok(()),
        }
    }

    fn layer(&self, n: usize) -> Result<Made> {
        let tree = self.applied(n);
        let wanted = &self.layers[n];
        if let Some(tree) = &tree
            && self.tx.has_blob(&wanted.descriptor)
        {
            self.watch.state(n, State::Exists);
            return Ok(Made::there(tree.clone()));
        }
        let twin =
            |l: &Wanted| l.diff_id == wanted.diff_id && l.descriptor.digest == wanted.descriptor.digest;
        if let Some(first) = self.layers[..n].iter().position(twin) {
            // It comes once. Where it leans on what is below, it is applied twice.
            let (blob, same) = self.slots.twin(first)?;
            if let Some(tree) = tree.clone().or(same) {
                self.watch.state(n, State::Exists);
                return Ok(Made::there(tree));
            }
            if let Some(blob) = blob {
                let made = self.through(n, tree, Origin::File(blob, false))?;
                self.watch.state(n, State::Done);
                return Ok(made);
            }
        }
        let made = match self.at_hand(wanted) {
            None => self.fetch(n, tree),
            Some((path, keep)) => match self.through(n, tree.clone(), Origin::File(path, keep)) {
                // What the disk has changed is fetched again.
                Err(e) if e.kind() == Kind::Invalid && !self.slots.is_stopped() => {
                    let again = self.fetch(n, tree);
                    again.map_err(|f| if f.kind() == Kind::NotFound { e } else { f })
                }
                other => other,
            },
        }?;
        self.watch.state(n, State::Done);
        Ok(made)
    }

    /// A blob that a store has, and whether it is to be kept in the one that is written.
    fn at_hand(&self, wanted: &Wanted) -> Option<(PathBuf, bool)> {
        let d = &wanted.descriptor;
        if self.tx.has_blob(d) {
            return Some((self.tx.layout().blob(&d.digest), false));
        }
        let elsewhere = self.tx.store().blob_path(&d.digest);
        elsewhere.filter(|p| p.metadata().is_ok_and(|m| m.len() == d.size)).map(|p| (p, true))
    }

    /// From the source. What an earlier time has left is tried once, and nothing built on it where it does
    /// not fit.
    fn fetch(&self, n: usize, tree: Option<PathBuf>) -> Result<Made> {
        let d = &self.layers[n].descriptor;
        let path = self.tx.layout().partial(&d.digest);
        let mut have = path.metadata().map_or(0, |m| m.len());
        if have > d.size {
            have = 0;
        }
        loop {
            let made = self.through(n, tree.clone(), Origin::Source { have });
            let Err(e) = made else { return made };
            let lost = e.kind() == Kind::Invalid || e.errno() == Some(Errno::ENOSPC);
            if (lost || !self.source.resumes()) && !self.slots.is_stopped() {
                let _ = fs::remove_file(&path);
            }
            if have == 0 || e.kind() != Kind::Invalid || self.slots.is_stopped() {
                return Err(e);
            }
            have = 0;
        }
    }

    /// One layer through the threads. While those below are on their way, what it leans on there is guessed; where
    /// that fails, it goes once more, when they are there.
    fn through(&self, n: usize, tree: Option<PathBuf>, origin: Origin) -> Result<Made> {
        let open = Cell::new(false);
        let guess = (n > 0 && !self.slots.are_there(n)).then_some(&open);
        if let Some(made) = self.pass(n, tree.clone(), origin.clone(), guess)? {
            return Ok(made);
        }
        let again = match origin {
            Origin::File(..) => origin,
            Origin::Source { .. } => {
                let partial = self.tx.layout().partial(&self.layers[n].descriptor.digest);
                Origin::Source { have: partial.metadata().map_or(0, |m| m.len()) }
            }
        };
        let made = self.pass(n, tree, again, None)?;
        made.ok_or_else(|| Error::invalid("apply the layer: it was to be applied once more"))
    }

    /// One pass of a layer; none when a guess was wrong or an error came while one was open.
    fn pass(
        &self,
        n: usize,
        tree: Option<PathBuf>,
        origin: Origin,
        guess: Option<&Cell<bool>>,
    ) -> Result<Option<Made>> {
        let Wanted { descriptor: d, diff_id } = &self.layers[n];
        let claimed = Compression::of_media_type(&d.media_type)?;
        let partial = self.tx.layout().partial(&d.digest);
        let (out, have);
        let input: Box<dyn Read + Send> = match origin {
            Origin::File(path, keep) => {
                have = 0;
                out = keep.then(|| self.tx.layout().create_partial(&d.digest, 0)).transpose()?;
                self.watch.state(n, State::Coming(d.size));
                Box::new(File::open(&path).context(|| format!("open({path:?})"))?)
            }
            Origin::Source { have: before } => {
                have = before;
                self.watch.state(n, State::Coming(have));
                let rest: Box<dyn Read + Send> = match d.size - have {
                    0 if d.size > 0 => Box::new(io::empty()),
                    _ => self.source.open(d, have)?,
                };
                out = Some(self.tx.layout().create_partial(&d.digest, have)?);
                let first = File::open(&partial).context(|| format!("open({partial:?})"))?;
                Box::new(first.take(have).chain(rest))
            }
        };
        let fetched = out.is_some();
        let told = AtomicU64::new(have);
        let watch = |bytes: u64| {
            let old = told.fetch_update(Relaxed, Relaxed, |t| Some(t.saturating_sub(bytes))).unwrap_or(0);
            if fetched && bytes > old {
                self.watch.received(n, bytes - old);
            }
            !self.slots.is_stopped() && !self.watch.stop()
        };
        let limits = Limits { size: self.tx.limits.size_of(d.size), ..self.tx.limits };
        let apply = |archive: &mut dyn Read| match &tree {
            // The files are there; the archive is read for its digest alone.
            Some(_) => io::copy(archive, &mut io::sink()).map(|_| Some(None)).context(|| "read the layer"),
            None => match self.tx.apply(archive, limits, guess, || self.lowers(n)) {
                Err(_) if guess.is_some_and(Cell::get) => Ok(None),
                other => other.map(|layer| Some(Some(layer))),
            },
        };
        let begin = Begin { input, have, claimed: Some(claimed), expect: Some(d) };
        let Reached { diff_id: is, end, .. } =
            begin.run(End { out: out.as_ref(), watch: &watch, apply: &apply })?;
        let Some(layer) = end else { return Ok(None) };
        if is != *diff_id {
            return Err(Error::invalid(format!("its content is {is}, and the config says {diff_id}")));
        }
        let blob = fetched.then_some(partial);
        Ok(Some(Made { tree: tree.unwrap_or_default(), blob, layer }))
    }

    /// The trees below a layer, bottom first, once they are there.
    fn lowers(&self, n: usize) -> Result<Vec<PathBuf>> {
        let copies = self.tx.store().driver().copies();
        let mut out = match copies && n > 0 {
            true => Vec::new(),
            false => self.tx.store().stack_paths(self.below)?,
        };
        for below in 0..n {
            let path = self.slots.tree(below)?;
            if !copies || below + 1 == n {
                out.retain(|p| *p != path);
                out.push(path);
            }
        }
        Ok(out)
    }

    /// Sync once, then name all that was made.
    fn commit(self) -> Result<Vec<String>> {
        let made = self.slots.finish()?;
        let mut warnings = Vec::new();
        if made.iter().all(|m| m.blob.is_none() && m.layer.is_none()) {
            return Ok(warnings);
        }
        for (temp, applied) in made.iter().filter_map(|m| m.layer.as_ref()) {
            self.tx.dress_layer(temp, applied)?;
        }
        file::sync_fs(file::open_dir(&self.tx.layout().tmp())?.as_fd())?;
        for (n, made) in made.into_iter().enumerate() {
            let Wanted { descriptor, diff_id } = &self.layers[n];
            if let Some(partial) = made.blob {
                let path = self.tx.layout().blob(&descriptor.digest);
                fs::rename(&partial, &path).context(|| format!("rename({partial:?}, {path:?})"))?;
            }
            if let Some((temp, applied)) = made.layer {
                self.tx.name_layer(temp, diff_id, &self.chains[n], &applied)?;
                warnings.extend(applied.warnings);
            }
        }
        file::sync_dir(&self.tx.layout().root().join("blobs/sha256"))?;
        Ok(warnings)
    }
}

/// Where a layer's blob comes from.
#[derive(Clone)]
enum Origin {
    /// A file, and whether it is to be kept in the store that is written.
    File(PathBuf, bool),
    /// The source, but for the first bytes, which an earlier time has left.
    Source { have: u64 },
}
