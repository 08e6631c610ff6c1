//! The layer kind `dir`: a folder of the recipe. Owners, modes and times are made plain unless the
//! recipe says otherwise, so that the same folder is the same layer on every machine.

use std::path::Path;

use coracle_store::layer::pack::{Archive, Content, FromDir, Meta};
use coracle_sys::Result;

use crate::recipe::Layer;

/// Put the folder `dir` into the archive as the layer says.
pub(crate) fn fill(archive: &mut Archive, dir: &Path, layer: &Layer, latest: i64) -> Result<()> {
    let keep = layer.mode.as_deref() == Some("keep");
    let at = layer.at.as_deref().unwrap_or(Path::new("/"));
    archive.put_dir(dir, at, FromDir { owner: layer.owners()?, latest: Some(latest), xattrs: keep })?;
    if keep {
        return Ok(());
    }
    let paths: Vec<_> = archive.paths().map(Path::to_owned).collect();
    for path in paths {
        let Some((meta, content)) = archive.get(&path) else { continue };
        let mode = match content {
            Content::Dir => 0o755,
            Content::Symlink(_) => 0o777,
            _ if meta.mode & 0o111 != 0 => 0o755,
            _ => 0o644,
        };
        let (meta, content) = (Meta { mode, ..meta.clone() }, content.clone());
        archive.put(&path, meta, content)?;
    }
    Ok(())
}
