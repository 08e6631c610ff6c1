//! Images on their way from one place to another: the store, a registry, a layout, an archive. What comes from
//! outside is checked against what points to it before anything is made of it.

mod layout;
mod place;
mod relay;
mod remote;
mod retype;
mod squeeze;
mod stored;
mod take;
mod tree;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use coracle_store::Digest;
use coracle_store::image::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use coracle_store::ingest::{Source, Wanted};
use coracle_store::read::choose;
use coracle_sys::print::harmless;
use coracle_sys::{Context, Error, Kind, Result, file, json};

pub(crate) use layout::{Folder, choose as choose_entry};
pub(crate) use place::Place;
pub(crate) use relay::{Kept, Open, Sending, Target, relay};
pub(crate) use remote::Remote;
pub(crate) use squeeze::Squeezed;
pub(crate) use stored::Stored;
pub(crate) use take::{keep, take, take_all};
pub(crate) use tree::unpack_into;

/// Manifests, indexes and configs are refused beyond this size.
const MAX_JSON: u64 = 4 << 20;
/// Overlay stacks no more.
pub(crate) const MAX_LAYERS: usize = 500;
/// Schema 1, of 2014.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// Where an image comes from.
pub(crate) trait Origin: Source {
    /// The manifest or the index that is meant.
    fn root(&self) -> Result<(Descriptor, Vec<u8>)>;

    /// A manifest that an index points to. Nothing of it is believed.
    fn manifest(&self, d: &Descriptor) -> Result<Vec<u8>> {
        read(self.open(d, 0)?, d)
    }

    /// The names that the origin has for it, as they are typed.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An image's JSON, read and checked.
pub(crate) struct Loaded {
    /// The manifest.
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    /// The config.
    pub(crate) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
    /// The layers with their diff ids, bottom first.
    pub(crate) layers: Vec<Wanted>,
    /// What it is known by elsewhere: the index that it was chosen from.
    pub(crate) known_as: Option<Digest>,
}

impl Loaded {
    /// In OCI's words, for a layout; the digest that it had is what it is known by elsewhere.
    pub(crate) fn retype(&mut self) -> Result<()> {
        if let Some((d, manifest, bytes)) = retype::retyped(&self.descriptor, &self.manifest)? {
            self.known_as.get_or_insert(self.descriptor.digest);
            for (wanted, layer) in self.layers.iter_mut().zip(&manifest.layers) {
                wanted.descriptor = layer.clone();
            }
            (self.descriptor, self.manifest, self.bytes) = (d, manifest, bytes);
        }
        Ok(())
    }
}

/// A small blob, whole and checked.
pub(crate) fn read(input: impl Read, d: &Descriptor) -> Result<Vec<u8>> {
    if d.size > MAX_JSON {
        return Err(Error::invalid(format!("read the blob {}: {} bytes are too many", d.digest, d.size)));
    }
    let mut bytes = Vec::new();
    input.take(d.size + 1).read_to_end(&mut bytes).map_err(|e| {
        let error = Error::new(Kind::System, e.to_string());
        // Where a source speaks for itself it has named the blob.
        if e.raw_os_error().is_some() { error.wrap(format!("read the blob {}", d.digest)) } else { error }
    })?;
    check(&bytes, d)?;
    Ok(bytes)
}

/// A file that holds a blob, from an offset on.
fn open_at(path: &Path, from: u64) -> Result<File> {
    let mut file = file::open_plain(path)?;
    file.seek(SeekFrom::Start(from)).context(|| format!("lseek({path:?}, {from})"))?;
    Ok(file)
}

/// Are these the bytes that are meant?
fn check(bytes: &[u8], d: &Descriptor) -> Result<()> {
    d.expect(Digest::of(bytes), bytes.len() as u64).context(|| format!("read the blob {}", d.digest))
}

/// What a manifest is: as what points to it says, else as it says itself, else as it looks.
pub(crate) fn kind_of(claimed: &str, bytes: &[u8]) -> Result<String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| Error::invalid(e.to_string()).wrap("read the manifest"))?;
    let own = value["mediaType"].as_str().unwrap_or_default();
    let old = value["schemaVersion"] == 1 || claimed.starts_with(SCHEMA_1);
    if old {
        return Err(Error::unsupported(
            "read the manifest: it has schema 1, which docker itself has given up: push the image again",
        ));
    }
    if value.get("manifests").is_some() && value.get("layers").is_some() {
        return Err(Error::invalid("read the manifest: it is an index as well"));
    }
    let vague = matches!(claimed, "" | "application/json" | "text/plain" | "application/octet-stream");
    let kind = match (vague, own) {
        (false, "") => claimed,
        (false, own) if own == claimed => claimed,
        (false, own) => {
            return Err(Error::invalid(format!(
                "read the manifest: it calls itself {:?}, and what points to it {:?}",
                harmless(own),
                harmless(claimed)
            )));
        }
        (true, "") if value.get("manifests").is_some() => media_type::INDEX,
        (true, "") => media_type::MANIFEST,
        (true, own) => own,
    };
    match kind {
        media_type::INDEX | media_type::DOCKER_INDEX if value.get("manifests").is_some() => {}
        media_type::MANIFEST | media_type::DOCKER_MANIFEST if value.get("layers").is_some() => {}
        media_type::INDEX | media_type::DOCKER_INDEX | media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
            return Err(Error::invalid(format!("read the manifest: it is no {kind:?}")));
        }
        other => {
            return Err(Error::unsupported(format!(
                "read the manifest: its media type {:?} is not known",
                harmless(other)
            )));
        }
    }
    Ok(kind.to_owned())
}

/// Read the image of a platform.
pub(crate) fn load(origin: &dyn Origin, platform: &Platform) -> Result<Loaded> {
    let (mut d, mut bytes) = origin.root()?;
    let mut known_as = None;
    // An index may hold indexes, though none needs more than two levels.
    for _ in 0..4 {
        d.media_type = kind_of(&d.media_type, &bytes)?;
        if !media_type::is_index(&d.media_type) {
            return image(origin, d, bytes, known_as);
        }
        known_as.get_or_insert(d.digest);
        let all: Index = parse(&bytes, "index")?;
        d = choose(&all, platform)?.clone();
        bytes = origin.manifest(&d)?;
        check(&bytes, &d)?;
    }
    Err(Error::invalid("read the index: it is nested too deeply"))
}

/// An image that nobody could mount.
pub(crate) fn too_many(layers: usize) -> Error {
    Error::invalid(format!("it has {layers} layers, and overlay stacks {MAX_LAYERS}"))
}

/// Read the image of a manifest.
pub(crate) fn image(
    origin: &dyn Origin,
    descriptor: Descriptor,
    bytes: Vec<u8>,
    known_as: Option<Digest>,
) -> Result<Loaded> {
    let manifest: Manifest = parse(&bytes, "manifest")?;
    let kind = &*manifest.config.media_type;
    if !matches!(kind, media_type::CONFIG | media_type::DOCKER_CONFIG) {
        let kind = harmless(kind);
        return Err(Error::unsupported(format!(
            "read the manifest: it is no image, its config is a {kind:?}"
        )));
    }
    let layers = manifest.layers.len();
    if layers > MAX_LAYERS {
        return Err(too_many(layers).wrap("read the manifest"));
    }
    let config_bytes = read(origin.open(&manifest.config, 0)?, &manifest.config)?;
    let config: ImageConfig = parse(&config_bytes, "image's config")?;
    let layers = Wanted::of(&manifest, &config)?;
    Ok(Loaded { descriptor, bytes, manifest, config, config_bytes, layers, known_as })
}

pub(crate) fn parse<T: json::Read + Default>(bytes: &[u8], what: &str) -> Result<T> {
    json::from_slice(bytes).context(|| format!("read the {what}"))
}
