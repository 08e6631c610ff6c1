//! Reading a store: from a name to an image and the directories of its layers. A start takes this
//! path, so it takes no lock and makes few system calls. Nothing is written here.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result, json};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::digest::Digest;
use crate::driver::Driver;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use crate::layer::key;
use crate::layout::{Layout, Locations};
use crate::reference::Reference;

/// The stores in use: the first is written, the others are read after it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) main: Layout,
    behind: Vec<Layout>,
}

/// An image that was found.
#[derive(Clone, Debug)]
pub struct Image {
    /// The full name it was found by; none when it was found by its id alone.
    pub name: Option<String>,
    /// The entry that led to it.
    pub descriptor: Descriptor,
    /// The manifest's digest.
    pub manifest_digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The config. The image's id is its digest, [`Image::id`].
    pub config: ImageConfig,
}

impl Image {
    /// The image's id.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// The diff ids of the layers, bottom first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
}

impl Store {
    /// The stores at these places. They need not exist yet: what is not there is empty.
    pub fn open(at: &Locations) -> Result<Self> {
        let main = Layout::open(at.main.clone())?;
        main.suits()?;
        let behind = at.behind.iter().map(|p| Layout::open(p.clone())).collect::<Result<_>>()?;
        Ok(Self { main, behind })
    }

    /// The store that is written.
    pub fn main(&self) -> &Layout {
        &self.main
    }

    /// All stores, the one that is written first.
    pub fn layouts(&self) -> impl Iterator<Item = &Layout> {
        std::iter::once(&self.main).chain(&self.behind)
    }

    /// The driver of the store that is written.
    pub fn driver(&self) -> Driver {
        self.main.driver().unwrap_or(Driver::Overlay)
    }

    /// The image that is meant, for this machine's platform: a name, a name with a digest, or an id
    /// or its unique beginning.
    pub fn resolve(&self, typed: &str) -> Result<Image> {
        self.resolve_for(typed, &Platform::host())
    }

    /// [`Store::resolve`] for a platform.
    pub fn resolve_for(&self, typed: &str, platform: &Platform) -> Result<Image> {
        let (name, descriptor) = self.find(typed)?;
        self.load(name, descriptor, platform).context(|| format!("read the image {typed:?}"))
    }

    /// The entry of an index that is meant, and the name it has there.
    pub fn find(&self, typed: &str) -> Result<(Option<String>, Descriptor)> {
        let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
        // A whole id is no name, whatever an image calls itself.
        let is_id = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let reference: Result<Reference> = match is_id {
            true => Err(Error::not_found(format!("find the image {typed:?}: no store has it"))),
            false => typed.parse(),
        };
        let indexes: Vec<Index> = self.layouts().map(read_index).collect::<Result<_>>()?;
        let entries = || indexes.iter().flat_map(|i| &i.manifests);
        if let Ok(reference) = &reference {
            for wanted in reference.candidates() {
                // By its own name first: a digest also finds the tags of what it is of.
                let own = wanted.to_string();
                let is_it =
                    |d: &&Descriptor| wanted.digest.is_none_or(|w| w == d.digest || w == d.known_as());
                let exact = entries().find(|d| d.ref_name() == Some(own.as_str()) && is_it(d));
                let found = exact.or_else(|| {
                    let digest = wanted.digest?;
                    entries().find(|d| d.ref_name().is_some_and(|n| tags(&wanted, digest, n, d)))
                });
                if let Some(d) = found {
                    return Ok((d.ref_name().map(str::to_owned), d.clone()));
                }
            }
            // Other tools name entries as they were told to, without a registry too.
            let short =
                |n: &str| n == typed || n.parse::<Reference>().is_ok_and(|n| n.local() == reference.local());
            let short = |d: &&Descriptor| reference.digest.is_none() && d.ref_name().is_some_and(short);
            if let Some(d) = entries().find(short) {
                return Ok((d.ref_name().map(str::to_owned), d.clone()));
            }
        }
        if (1..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            // One image may lie here under several manifests: compressed as it came, and as it was made.
            let found = entries().filter(|d| self.has_id(d, hex)).map(|d| (d, self.id_of(d)));
            let found: Vec<(&Descriptor, Digest)> = found.collect();
            // The manifest that was meant, else one with a name.
            let rank = |d: &Descriptor| (!d.digest.hex().starts_with(hex), d.ref_name().is_none());
            if let Some((d, id)) = found.iter().min_by_key(|(d, _)| rank(d)) {
                return match found.iter().all(|(_, other)| other == id) {
                    true => Ok((d.ref_name().map(str::to_owned), (*d).clone())),
                    // Then it is no id, and may be a name that a registry knows.
                    false => {
                        Err(Error::not_found(format!("find the image {typed:?}: more than one id begins so")))
                    }
                };
            }
        }
        reference?;
        Err(Error::not_found(format!("find the image {typed:?}: no store has it")))
    }

    /// Does the entry's manifest, or the config of one of its manifests, have an id that begins so?
    fn has_id(&self, d: &Descriptor, hex: &str) -> bool {
        if d.digest.hex().starts_with(hex) {
            return true;
        }
        if media_type::is_index(&d.media_type) {
            let index: Result<Index> = self.json(d);
            return index.is_ok_and(|i| {
                i.manifests.iter().any(|d| !media_type::is_index(&d.media_type) && self.has_id(d, hex))
            });
        }
        self.id_of(d).hex().starts_with(hex)
    }

    /// The image id of an entry that is one manifest; of any other its digest.
    fn id_of(&self, d: &Descriptor) -> Digest {
        let manifest: Result<Manifest> = self.json(d);
        manifest.map_or(d.digest, |m| m.config.digest)
    }

    /// The image that an entry leads to.
    pub fn load(&self, name: Option<String>, entry: Descriptor, platform: &Platform) -> Result<Image> {
        let mut d = entry.clone();
        // An index may hold indexes, though none needs more than two levels.
        for _ in 0..4 {
            if !media_type::is_index(&d.media_type) {
                return self.load_manifest(name, entry, &d);
            }
            let index: Index = self.json(&d)?;
            d = choose(&index, platform)?.clone();
        }
        Err(Error::invalid("read the index: it is nested too deeply"))
    }

    fn load_manifest(&self, name: Option<String>, descriptor: Descriptor, d: &Descriptor) -> Result<Image> {
        let manifest: Manifest = self.json(d)?;
        if manifest.extra.contains_key("manifests") {
            return Err(Error::invalid("read the manifest: it is an index as well"));
        }
        if let Some(kind) = &manifest.media_type
            && *kind != d.media_type
        {
            return Err(Error::invalid(format!(
                "read the manifest: it calls itself {kind:?}, and what points to it {:?}",
                d.media_type
            )));
        }
        let config: ImageConfig = self.json(&manifest.config).context(|| "read the image's config")?;
        let (diffs, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if diffs != layers {
            return Err(Error::invalid(format!(
                "read the image's config: it has {diffs} diff ids, and the manifest {layers} layers"
            )));
        }
        Ok(Image { name, descriptor, manifest_digest: d.digest, manifest, config })
    }

    /// All entries of all indexes, with the store that each is in; a name that an earlier store has
    /// hides that of a later one.
    pub fn entries(&self) -> Result<Vec<(&Layout, Descriptor)>> {
        let mut all: Vec<(&Layout, Descriptor)> = Vec::new();
        for layout in self.layouts() {
            for d in read_index(layout)?.manifests {
                let hidden = |(_, e): &(&Layout, Descriptor)| {
                    e.ref_name().is_some() && e.ref_name() == d.ref_name() || *e == d
                };
                if !all.iter().any(hidden) {
                    all.push((layout, d));
                }
            }
        }
        Ok(all)
    }

    /// The directories of an image's layers, bottom first, as descriptors to mount; with a driver
    /// that copies, the one directory of the whole stack. [`Kind::NotFound`] names a layer that was
    /// not applied yet.
    pub fn layer_dirs(&self, image: &Image) -> Result<Vec<OwnedFd>> {
        self.stack_dirs(image.diff_ids())
    }

    /// [`Store::layer_dirs`] of a stack of diff ids, bottom first.
    pub fn stack_dirs(&self, diff_ids: &[Digest]) -> Result<Vec<OwnedFd>> {
        let paths = self.stack_paths(diff_ids)?;
        paths
            .iter()
            .map(|p| {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                nix::fcntl::open(p, flags, Mode::empty()).context(|| format!("open({p:?}, O_PATH)"))
            })
            .collect()
    }

    /// The directory to put below all layers of a container, so that what is mounted into it has its places.
    pub fn mount_points(&self) -> Option<PathBuf> {
        let path = self.main.mount_points();
        path.is_dir().then_some(path)
    }

    /// The paths of [`Store::stack_dirs`]. A layer that an image has twice is listed once, where it is
    /// highest: all it holds is seen there, and overlay refuses a directory twice.
    pub fn stack_paths(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>> {
        let copies = self.driver().copies();
        let mut out: Vec<PathBuf> = Vec::with_capacity(diff_ids.len());
        for (n, (diff_id, chain_id)) in diff_ids.iter().zip(key::chain_ids(diff_ids)).enumerate() {
            if copies && n + 1 < diff_ids.len() {
                continue;
            }
            match self.layer_path(diff_id, &chain_id) {
                Some(path) => {
                    out.retain(|p| *p != path);
                    out.push(path);
                }
                None => {
                    let what = format!("find the layer {diff_id}: it was not applied");
                    return Err(Error::new(Kind::NotFound, what));
                }
            }
        }
        Ok(out)
    }

    /// The bytes that the files of each layer of an image have, bottom first; of a layer that is not applied,
    /// those of its blob.
    pub fn layer_sizes(&self, image: &Image) -> Vec<u64> {
        let size = |(tree, d): (Option<PathBuf>, &Descriptor)| {
            tree.and_then(|tree| key::size(&tree)).unwrap_or(d.size)
        };
        self.layer_paths(image).into_iter().zip(&image.manifest.layers).map(size).collect()
    }

    /// Where each layer of an image is applied, bottom first.
    pub fn layer_paths(&self, image: &Image) -> Vec<Option<PathBuf>> {
        let ids = image.diff_ids();
        ids.iter().zip(key::chain_ids(ids)).map(|(id, chain_id)| self.layer_path(id, &chain_id)).collect()
    }

    /// Where a layer is applied, in the first store that has it.
    pub fn layer_path(&self, diff_id: &Digest, chain_id: &Digest) -> Option<PathBuf> {
        let driver = self.driver();
        self.layouts().filter(|l| l.driver().map(Driver::folder) == Some(driver.folder())).find_map(|l| {
            let dir = l.layers(driver);
            let alone = dir.join(key::alone(diff_id)).join(key::TREE);
            if !driver.copies() && alone.exists() {
                return Some(alone);
            }
            let stacked = dir.join(key::stacked(chain_id)).join(key::TREE);
            stacked.exists().then_some(stacked)
        })
    }
}

/// Is an entry with this name in the repository that is wanted, and of the digest?
fn tags(wanted: &Reference, digest: Digest, entry: &str, d: &Descriptor) -> bool {
    let repo = Reference { tag: None, digest: None, ..wanted.clone() }.to_string();
    (digest == d.digest || digest == d.known_as())
        && (entry == wanted.name()
            || entry.strip_prefix(&repo).is_some_and(|r| r.is_empty() || r.starts_with([':', '@'])))
}

/// The manifest of an index that suits the platform best.
pub fn choose<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor> {
    if index.extra.contains_key("config") || index.extra.contains_key("layers") {
        return Err(Error::invalid("read the index: it is a manifest as well"));
    }
    let suits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.runs_on(platform));
    let exact = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.variant == platform.variant);
    let mut fit = index.manifests.iter().filter(suits);
    if let Some(d) = fit.clone().find(exact).or_else(|| fit.next()) {
        return Ok(d);
    }
    if let [only] = &index.manifests[..]
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let have: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    Err(Error::not_found(format!(
        "find the image for {}/{}: there is one for {}",
        platform.os,
        platform.architecture,
        have.join(", ")
    )))
}

/// The index of a store; an empty one when the store is not made yet.
pub fn read_index(layout: &Layout) -> Result<Index> {
    let path = layout.index();
    let bytes = match file::read_plain(&path) {
        // A store that is whole has one: that all images are gone is nothing to act on.
        Err(e) if e.errno() == Some(Errno::ENOENT) && layout.driver().is_none() => {
            return Ok(Index::empty());
        }
        other => other?,
    };
    parse_index(&bytes).map_err(|e| e.wrap(format!("read {path:?}")))
}

/// Parse an index.
pub fn parse_index(bytes: &[u8]) -> Result<Index> {
    json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mutation_of_an_index_makes_the_parser_fail_otherwise_than_by_an_error() {
        let mut index = Index::empty();
        let mut d = Descriptor::new(media_type::MANIFEST, Digest::of(b"x"), 7);
        d.annotations = Some([(crate::image::REF_NAME.to_owned(), "localhost/a:latest".to_owned())].into());
        d.platform = Some(Platform::host());
        index.manifests = vec![d.clone(), d];
        let text = serde_json::to_vec(&index).unwrap();
        assert_eq!(parse_index(&text).unwrap(), index);
        let mut seed = 3u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut t = text.clone();
            for _ in 0..1 + next() % 3 {
                let at = next() % t.len();
                match next() % 3 {
                    0 => t[at] = next() as u8,
                    1 => t.truncate(at.max(1)),
                    _ => t[at] = b"{}[]\",:0"[next() % 8],
                }
            }
            if let Ok(i) = parse_index(&t) {
                let again = serde_json::to_vec(&i).unwrap();
                assert_eq!(parse_index(&again).unwrap(), i);
                read += 1;
            }
        }
        assert!(read > 100);
    }

    #[test]
    fn the_manifest_of_this_platform_is_chosen() {
        let entry = |a: &str, v: Option<&str>| {
            let mut d = Descriptor::new(media_type::MANIFEST, Digest::of(format!("{a}{v:?}").as_bytes()), 1);
            d.platform = Some(Platform {
                architecture: a.into(),
                os: "linux".into(),
                variant: v.map(Into::into),
                ..Default::default()
            });
            d
        };
        let index =
            Index { manifests: vec![entry("amd64", Some("v3")), entry("amd64", None)], ..Default::default() };
        let host = Platform { architecture: "amd64".into(), os: "linux".into(), ..Default::default() };
        assert_eq!(choose(&index, &host).unwrap(), &index.manifests[1]);
        let arm = Platform { architecture: "arm64".into(), os: "linux".into(), ..Default::default() };
        let e = choose(&index, &arm).unwrap_err().to_string();
        assert!(e.contains("linux/arm64") && e.contains("linux/amd64"), "{e}");
    }
}
