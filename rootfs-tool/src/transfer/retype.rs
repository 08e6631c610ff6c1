//! Docker's manifests in OCI's words. A layout, and so the store, holds OCI's alone: other tools look for nothing else.
//! Config and layers are the same bytes in both, so the image's id stays; the manifest's digest becomes another.

use coracle_store::Digest;
use coracle_store::image::{Descriptor, Manifest, media_type};
use coracle_sys::{Error, Result};

/// The manifest in OCI's words. `None` where it is that already, or has a layer of which OCI knows nothing.
pub(crate) fn retyped(
    d: &Descriptor,
    manifest: &Manifest,
) -> Result<Option<(Descriptor, Manifest, Vec<u8>)>> {
    if d.media_type != media_type::DOCKER_MANIFEST {
        return Ok(None);
    }
    let mut manifest = manifest.clone();
    for layer in &mut manifest.layers {
        match oci(&layer.media_type) {
            Some(kind) => layer.media_type = kind,
            None => return Ok(None),
        }
    }
    media_type::CONFIG.clone_into(&mut manifest.config.media_type);
    manifest.media_type = Some(media_type::MANIFEST.to_owned());
    let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::invalid(e.to_string()))?;
    let platform = d.platform.clone();
    let d = Descriptor {
        platform,
        ..Descriptor::new(media_type::MANIFEST, Digest::of(&bytes), bytes.len() as u64)
    };
    Ok(Some((d, manifest, bytes)))
}

fn oci(layer: &str) -> Option<String> {
    let kind = match layer {
        media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
        media_type::DOCKER_LAYER => media_type::LAYER,
        media_type::LAYER | media_type::LAYER_GZIP | media_type::LAYER_ZSTD => layer,
        _ => return None,
    };
    Some(kind.to_owned())
}
