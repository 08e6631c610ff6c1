//! The table of owners beside a layer: what the files are in the archive, where the disk could not hold it,
//! since an ordinary user without subordinate ids has one id and makes no devices.

use std::path::Path;

use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file, json};
use nix::errno::Errno;
use serde::Serialize;

use super::key;

/// What a file is in the archive, where the disk could not hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The path from the layer's root; bytes that are not UTF-8 as `%XX`, and `%` as `%25`.
    pub path: String,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// The mode with the file's type, as in st_mode.
    pub mode: u32,
    /// A device's major and minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
}

read_json!(Owner {
    path: must "path",
    uid: must "uid",
    gid: must "gid",
    mode: must "mode",
    device: may "device",
});

/// Write the table into the directory of a layer, unless it is empty.
pub(crate) fn write(layer: &Path, owners: &[Owner]) -> Result<()> {
    if owners.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(owners).map_err(|e| Error::invalid(e.to_string()))?;
    let path = layer.join(key::OWNERS);
    std::fs::write(&path, text).context(|| format!("write({path:?})"))
}

/// The table beside the tree of a layer; empty where there is none.
pub fn read(tree: &Path) -> Result<Vec<Owner>> {
    let path = tree.with_file_name(key::OWNERS);
    match file::read(&path) {
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        text => json::from_slice(&text?).map_err(|e| e.wrap(format!("read {path:?}"))),
    }
}
