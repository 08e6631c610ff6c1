//! To a place that keeps blobs and manifests as they are: blobs first, then what points to them.

use std::collections::HashSet;
use std::io::Read;

use coracle_store::Digest;
use coracle_store::image::{Descriptor, Index, Manifest, Platform, media_type};
use coracle_store::ingest::{State, Watch};
use coracle_sys::interrupt::{self, Stoppable};
use coracle_sys::{Error, Result};

use super::retype::retyped;
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

    /// Is it a layout, in which other tools look for OCI's manifests alone?
    fn is_layout(&self) -> bool {
        false
    }
}

/// What is sent of an image, and how.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sending<'a> {
    /// Of several platforms this one; all that there are where none is named.
    pub(crate) platform: Option<&'a Platform>,
    /// No manifest becomes another, not even one of docker's in a layout.
    pub(crate) as_it_is: bool,
    /// Nothing is told of how it goes.
    pub(crate) quiet: bool,
}

/// Send an image, of one platform or with all that its index has. The root's descriptor comes back.
pub(crate) fn relay(
    origin: &dyn Origin,
    target: &dyn Target,
    words: Words,
    how: Sending<'_>,
) -> Result<Descriptor> {
    let mut relay = Relay { origin, target, words, quiet: how.quiet, seen: HashSet::new() };
    let retype = target.is_layout() && !how.as_it_is;
    if let Some(platform) = how.platform {
        let mut loaded = load(origin, platform)?;
        if retype {
            loaded.retype()?;
        }
        let Loaded { descriptor, bytes, manifest, .. } = loaded;
        relay.parts(&manifest)?;
        target.manifest(&descriptor, &bytes, true)?;
        return Ok(descriptor);
    }
    let (mut d, mut bytes) = origin.root()?;
    d.media_type = kind_of(&d.media_type, &bytes)?;
    // An index stays whole, with the digests of all that it points to.
    if retype
        && !media_type::is_index(&d.media_type)
        && let Some(oci) = retyped(&d, &parse(&bytes, "manifest")?)?
    {
        (d, bytes) = (oci.0, oci.2);
    }
    relay.tree(&d, &bytes, true)?;
    Ok(d)
}

struct Relay<'a> {
    origin: &'a dyn Origin,
    target: &'a dyn Target,
    words: Words,
    quiet: bool,
    /// Manifests and indexes that were met.
    seen: HashSet<Digest>,
}

impl Relay<'_> {
    /// A manifest or an index, after all that it points to.
    fn tree(&mut self, d: &Descriptor, bytes: &[u8], root: bool) -> Result<()> {
        if !self.seen.insert(d.digest) {
            return Ok(());
        }
        if self.seen.len() > 1000 {
            return Err(Error::invalid("read the index: it leads to more than 1000 manifests"));
        }
        if media_type::is_index(&d.media_type) {
            let index: Index = parse(bytes, "index")?;
            for child in &index.manifests {
                let bytes = self.origin.manifest(child)?;
                check(&bytes, child)?;
                self.tree(child, &bytes, false)?;
            }
        } else {
            self.parts(&parse(bytes, "manifest")?)?;
        }
        self.target.manifest(d, bytes, root)
    }

    /// The blobs of one manifest, one after the other.
    fn parts(&self, manifest: &Manifest) -> Result<()> {
        let progress = Progress::new(self.words, &manifest.layers, self.quiet);
        let mut seen = HashSet::new();
        let layers = manifest.layers.iter().enumerate().map(|(n, d)| (Some(n), d));
        for (n, d) in layers.chain([(None, &manifest.config)]) {
            interrupt::check()?;
            if !seen.insert(d.digest) {
                continue;
            }
            if let Some(n) = n {
                progress.state(n, State::Coming(0));
            }
            let kept = self.target.blob(d, &|from| {
                let inner = Stoppable(self.origin.open(d, from)?);
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
}

/// Tells how much was read.
struct Counted<'a> {
    inner: Stoppable<Box<dyn Read + Send + 'a>>,
    n: Option<usize>,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buf)?;
        if let Some(n) = self.n {
            self.progress.received(n, got as u64);
        }
        Ok(got)
    }
}
