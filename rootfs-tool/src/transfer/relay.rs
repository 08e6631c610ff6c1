//! To a place that keeps blobs and manifests as they are: blobs first, then what points to them.

use std::collections::HashSet;
use std::io::Read;

use coracle_store::Digest;
use coracle_store::image::{Descriptor, Index, Manifest, Platform, media_type};
use coracle_store::ingest::{State, Watch};
use coracle_sys::{Error, Kind, Result};

use super::{Loaded, Origin, check, kind_of, load, parse};
use crate::progress::{Progress, Words};

/// What became of a blob.
pub(crate) enum Kept {
    /// It was there.
    Exists,
    /// It was there, in another repository of this name.
    Mounted(String),
    /// It came.
    Sent,
}

/// Opens a blob at an offset. What it gives is not believed.
pub(crate) type Open<'a> = &'a (dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>> + 'a);

/// A place that images go to.
pub(crate) trait Target {
    /// Keep a blob, whose content the target checks.
    fn blob(&self, d: &Descriptor, open: Open<'_>) -> Result<Kept>;

    /// Keep a manifest or an index, whose parts are there. The last of an image is its `root`.
    fn manifest(&self, d: &Descriptor, bytes: &[u8], root: bool) -> Result<()>;
}

/// Send an image, of one platform or with all that its index has. The root's descriptor comes back.
pub(crate) fn relay(
    origin: &dyn Origin,
    target: &dyn Target,
    platform: Option<&Platform>,
    words: Words,
    quiet: bool,
) -> Result<Descriptor> {
    if let Some(platform) = platform {
        let Loaded { descriptor, bytes, manifest, .. } = load(origin, platform)?;
        parts(origin, target, &manifest, words, quiet)?;
        target.manifest(&descriptor, &bytes, true)?;
        return Ok(descriptor);
    }
    let (mut d, bytes) = origin.root()?;
    d.media_type = kind_of(&d.media_type, &bytes)?;
    tree(origin, target, &d, &bytes, (words, quiet), &mut HashSet::new(), true)?;
    Ok(d)
}

fn tree(
    origin: &dyn Origin,
    target: &dyn Target,
    d: &Descriptor,
    bytes: &[u8],
    say: (Words, bool),
    seen: &mut HashSet<Digest>,
    root: bool,
) -> Result<()> {
    if !seen.insert(d.digest) {
        return Ok(());
    }
    if seen.len() > 1000 {
        return Err(Error::invalid("read the index: it leads to more than 1000 manifests"));
    }
    if media_type::is_index(&d.media_type) {
        let index: Index = parse(bytes, "index")?;
        for child in &index.manifests {
            let bytes = origin.manifest(child)?;
            check(&bytes, child)?;
            tree(origin, target, child, &bytes, say, seen, false)?;
        }
    } else {
        parts(origin, target, &parse::<Manifest>(bytes, "manifest")?, say.0, say.1)?;
    }
    target.manifest(d, bytes, root)
}

/// The blobs of one manifest, several at a time.
fn parts(
    origin: &dyn Origin,
    target: &dyn Target,
    manifest: &Manifest,
    words: Words,
    quiet: bool,
) -> Result<()> {
    let progress = Progress::new(words, &manifest.layers, quiet);
    let mut seen = HashSet::new();
    let layers = manifest.layers.iter().enumerate().map(|(n, d)| (Some(n), d));
    for (n, d) in layers.chain([(None, &manifest.config)]) {
        if progress.stop() {
            return Err(Error::new(Kind::System, "interrupted"));
        }
        if !seen.insert(d.digest) {
            continue;
        }
        if let Some(n) = n {
            progress.state(n, State::Coming(0));
        }
        let kept = target.blob(d, &|from| {
            let inner = origin.open(d, from)?;
            Ok(Box::new(Counted { inner, n, progress: &progress }))
        })?;
        match (n, kept) {
            (None, _) => {}
            (Some(n), Kept::Exists) => progress.state(n, State::Exists),
            (Some(n), Kept::Mounted(from)) => progress.say(n, &format!("Mounted from {from}")),
            (Some(n), Kept::Sent) => progress.state(n, State::Done),
        }
    }
    Ok(())
}

/// Tells how much was read, and ends when it is to stop.
struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    n: Option<usize>,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.progress.stop() {
            return Err(std::io::Error::other("interrupted"));
        }
        let got = self.inner.read(buf)?;
        if let Some(n) = self.n {
            self.progress.received(n, got as u64);
        }
        Ok(got)
    }
}
