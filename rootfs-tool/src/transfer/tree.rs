//! To a plain folder: the layers of an image, one on the other, as one tree.

use std::io::{BufReader, Read};
use std::path::Path;

use coracle_store::Digest;
use coracle_store::digest::Hashing;
use coracle_store::image::Platform;
use coracle_store::layer::unpack::{self, Options, unpack};
use coracle_store::layer::{Compression, decompress};
use coracle_sys::{Context, Error, Kind, Result, file};

use super::{Origin, load};

/// Unpack an image into a folder that is empty or not there. What could not be as in the archives comes back.
pub(crate) fn unpack_into(origin: &dyn Origin, platform: &Platform, dir: &Path) -> Result<Vec<String>> {
    let loaded = load(origin, platform)?;
    let empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).context(|| format!("mkdir({dir:?})"))?;
            true
        }
        Err(e) => return Err(e).context(|| format!("opendir({dir:?})")),
    };
    if !empty {
        return Err(Error::new(Kind::Exists, format!("unpack into {dir:?}: it is not empty")));
    }
    let mut warnings = Vec::new();
    let layers = loaded.manifest.layers.iter().zip(&loaded.config.rootfs.diff_ids);
    let mut owners = Vec::new();
    for (d, diff_id) in layers {
        let mut layer = || -> Result<()> {
            let claimed = Compression::of_media_type(&d.media_type)?;
            let blob = origin.open(d, 0)?.take(d.size.saturating_add(1));
            let blob = BufReader::with_capacity(256 << 10, blob);
            let mut archive = Hashing::new(decompress(blob, Some(claimed))?);
            let mut options = Options { plain: true, ..Options::of_this_process() };
            options.limits.size = options.limits.size_of(d.size);
            let none = unpack::Lowers::from(Vec::new());
            let before = std::mem::take(&mut owners);
            let applied = unpack(&mut archive, file::open_dir(dir)?, none, before, options)?;
            owners = applied.owners;
            warnings.extend(applied.warnings);
            same(archive.finish().0, diff_id)
        };
        layer().map_err(|e| e.wrap(format!("unpack the layer {}", d.digest)))?;
    }
    if !owners.is_empty() {
        warnings.push(format!("{} files could not be given their owners, or are devices", owners.len()));
    }
    Ok(warnings)
}

fn same(is: Digest, wanted: &Digest) -> Result<()> {
    match is == *wanted {
        true => Ok(()),
        false => Err(Error::invalid(format!("its content is {is}, and the config says {wanted}"))),
    }
}
