//! Into the store: layers are taken in and applied, and the image gets its name last.

use coracle_store::Transaction;
use coracle_store::image::{CREATED, Descriptor, Index, Platform, REGISTRY_DIGEST, media_type};
use coracle_store::ingest::Watch;
use coracle_store::read::read_index;
use coracle_sys::Result;

use super::{Loaded, Origin, image, kind_of, load, parse};
use coracle_sys::time;

/// An image that was taken into the store.
pub(crate) struct Taken {
    /// The entry of the store's index.
    pub(crate) entry: Descriptor,
    /// The image's id.
    pub(crate) id: coracle_store::Digest,
    /// It was there, under this name.
    pub(crate) was_there: bool,
    /// What could not be as in the archives, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Take an image in, and give it a full name, or none.
pub(crate) fn take(
    tx: &Transaction<'_>,
    origin: &dyn Origin,
    mut read: Loaded,
    name: Option<&str>,
    watch: &dyn Watch,
) -> Result<Taken> {
    read.retype()?;
    let warnings = put(tx, origin, &read, watch)?;
    let mut entry =
        Descriptor::new(&read.descriptor.media_type, read.descriptor.digest, read.descriptor.size);
    entry.platform = Some(read.config.platform());
    if let Some(known) = read.known_as {
        entry.annotations.get_or_insert_default().insert(REGISTRY_DIGEST.to_owned(), known.to_string());
    }
    let was_there = keep(tx, name, &mut entry)?;
    Ok(Taken { entry, id: read.manifest.config.digest, was_there, warnings })
}

/// Take the images of all platforms in, under their index.
pub(crate) fn take_all(
    tx: &Transaction<'_>,
    origin: &dyn Origin,
    name: Option<&str>,
    watch: &dyn Watch,
) -> Result<Taken> {
    let (mut d, bytes) = origin.root()?;
    d.media_type = kind_of(&d.media_type, &bytes)?;
    if !media_type::is_index(&d.media_type) {
        return take(tx, origin, load(origin, &Platform::host())?, name, watch);
    }
    let index: Index = parse(&bytes, "index")?;
    let mut warnings = Vec::new();
    for child in &index.manifests {
        let bytes = origin.manifest(child)?;
        super::check(&bytes, child)?;
        let mut child = child.clone();
        child.media_type = kind_of(&child.media_type, &bytes)?;
        let read = image(origin, child, bytes, Some(d.digest))?;
        warnings.extend(put(tx, origin, &read, watch)?);
    }
    tx.put_blob(&bytes[..], Some(&d))?;
    let mut entry = Descriptor::new(&d.media_type, d.digest, d.size);
    let was_there = keep(tx, name, &mut entry)?;
    Ok(Taken { entry, id: d.digest, was_there, warnings })
}

/// Layers first, so that what points to them is never without.
fn put(tx: &Transaction<'_>, origin: &dyn Origin, read: &Loaded, watch: &dyn Watch) -> Result<Vec<String>> {
    let warnings = tx.ingest(&[], &read.layers, origin, watch)?;
    for (bytes, d) in [(&read.config_bytes, &read.manifest.config), (&read.bytes, &read.descriptor)] {
        if tx.store().bytes(d).is_err() || !tx.has_blob(d) {
            tx.put_blob(&bytes[..], Some(d))?;
        }
    }
    Ok(warnings)
}

/// Name it. It was there when the name stood for the same image.
pub(crate) fn keep(tx: &Transaction<'_>, name: Option<&str>, entry: &mut Descriptor) -> Result<bool> {
    let now = time::rfc3339(time::now());
    entry.annotations.get_or_insert_default().insert(CREATED.to_owned(), now);
    let index = read_index(tx.store().main())?;
    // An image without a name is kept once, unless it has one.
    let same = |d: &Descriptor| match name {
        None => d.digest == entry.digest,
        Some(_) => d.ref_name() == name && d.digest == entry.digest && d.known_as() == entry.known_as(),
    };
    let there = index.manifests.iter().any(same);
    match name {
        _ if there => {}
        None => tx.add(entry)?,
        Some(name) => drop(tx.tag(name, entry)?),
    }
    Ok(there)
}
