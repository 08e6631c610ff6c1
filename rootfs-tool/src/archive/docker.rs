//! docker's archives (`docker save`): `manifest.json` names each image's config and layers.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Known;
use std::io::Read;

use coracle_store::digest::Hashing;
use coracle_store::image::{Descriptor, ImageConfig, Manifest, media_type};
use coracle_store::ingest::Source;
use coracle_store::layer::Compression;
use coracle_store::{Digest, Reference};
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, json};
use serde::Serialize;

use super::members::Members;
use crate::transfer::{MAX_LAYERS, Origin, too_many};

/// An image, as `manifest.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The member with the config.
    pub config: String,
    /// Its names.
    pub repo_tags: Option<Vec<String>>,
    /// The members with the layers, bottom first.
    pub layers: Option<Vec<String>>,
}

read_json!(Entry {
    config: must "Config",
    repo_tags: may "RepoTags",
    layers: may "Layers",
});

/// Parse `manifest.json`.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    json::from_slice(bytes).context(|| "read manifest.json of the archive")
}

/// Images of one archive.
const MAX_IMAGES: usize = 1000;

/// A member, and the diff id that it is to have.
type Layer = (String, Digest);

/// One image of docker's archive, with a manifest made for it.
pub(crate) struct Docker<'a> {
    members: &'a Members,
    root: (Descriptor, Vec<u8>),
    /// Which member has a blob.
    blobs: HashMap<Digest, String>,
    names: Vec<String>,
}

/// All images of an archive.
pub(crate) fn images(members: &Members) -> Result<Vec<Docker<'_>>> {
    let entries = parse(&members.bytes("manifest.json")?)?;
    if entries.is_empty() {
        return Err(Error::invalid("read manifest.json of the archive: there is no image in it"));
    }
    if entries.len() > MAX_IMAGES {
        return Err(Error::invalid(format!(
            "read manifest.json of the archive: it names more than {MAX_IMAGES} images"
        )));
    }
    let mut known = HashMap::new();
    entries.into_iter().map(|e| Docker::new(members, e, &mut known)).collect()
}

impl<'a> Docker<'a> {
    /// `known` are the layers that were looked at.
    fn new(members: &'a Members, entry: Entry, known: &mut HashMap<Layer, Descriptor>) -> Result<Self> {
        let config = members.bytes(&entry.config)?;
        let parsed: ImageConfig =
            json::from_slice(&config).context(|| format!("read {:?} of the archive", entry.config))?;
        let layers = entry.layers.unwrap_or_default();
        let ids = &parsed.rootfs.diff_ids;
        if layers.len() > MAX_LAYERS {
            return Err(too_many(layers.len()).wrap("read manifest.json of the archive"));
        }
        if ids.len() != layers.len() {
            return Err(Error::invalid(format!(
                "read the archive: {:?} has {} diff ids, and manifest.json {} layers",
                entry.config,
                ids.len(),
                layers.len()
            )));
        }
        let config = Descriptor::new(media_type::CONFIG, Digest::of(&config), config.len() as u64);
        let mut blobs = HashMap::from([(config.digest, entry.config)]);
        let mut descriptors = Vec::new();
        for (name, id) in layers.into_iter().zip(ids) {
            let d = match known.entry((name.clone(), *id)) {
                Known::Occupied(known) => known.get().clone(),
                Known::Vacant(new) => {
                    let d = layer(members, &name, id);
                    new.insert(d.context(|| format!("read {name:?} of the archive"))?).clone()
                }
            };
            blobs.insert(d.digest, name);
            descriptors.push(d);
        }
        let bytes = serde_json::to_vec(&Manifest::new(config, descriptors))
            .map_err(|e| Error::invalid(e.to_string()))?;
        let d = Descriptor::new(media_type::MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        let tags = entry.repo_tags.unwrap_or_default();
        // As docker reads them: without a registry they are docker.io's.
        let full = |tag: &String| match tag.parse::<Reference>()? {
            // What has a digest is found by its content.
            r if r.digest.is_some() => Err(Error::invalid(format!("{tag:?}: a name has no digest"))),
            r => Ok(r.qualified().to_string()),
        };
        let names =
            tags.iter().map(full).collect::<Result<_>>().context(|| "read manifest.json of the archive")?;
        Ok(Self { members, root: (d, bytes), blobs, names })
    }
}

/// A layer's descriptor: of one that is not compressed the digest is known, another one is read for it.
fn layer(members: &Members, name: &str, id: &Digest) -> Result<Descriptor> {
    let mut head = [0; 4];
    let n = members.open_at(name, 0)?.read(&mut head).context(|| "read it")?;
    let how = Compression::of_bytes(&head[..n]);
    if how == Compression::None {
        return Ok(Descriptor::new(how.media_type(), *id, members.size(name)?));
    }
    let mut hash = Hashing::new(members.open_at(name, 0)?);
    std::io::copy(&mut hash, &mut std::io::sink()).context(|| "read it")?;
    let (digest, size, _) = hash.finish();
    Ok(Descriptor::new(how.media_type(), digest, size))
}

impl Source for Docker<'_> {
    fn open(&self, d: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>> {
        let name = self.blobs.get(&d.digest);
        let name =
            name.ok_or_else(|| Error::not_found(format!("find the blob {} in the archive", d.digest)))?;
        Ok(Box::new(self.members.open_at(name, from)?))
    }
}

impl Origin for Docker<'_> {
    fn root(&self) -> Result<(Descriptor, Vec<u8>)> {
        Ok(self.root.clone())
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}
