//! `mounts`: one entry of the list.

use std::path::PathBuf;

use coracle_sys::read_json;
use serde::Serialize;

use super::IdMapping;

/// One mount. Its options are fstab's words; the plan knows what they mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the root.
    pub destination: PathBuf,
    /// File-system type; `none` or absent for a bind.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Device name, or the path to bind: absolute, or relative to the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// fstab words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The mount's own user ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// The mount's own group ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

read_json!(Mount {
    destination: must "destination",
    kind: may "type",
    source: may "source",
    options: may "options",
    uid_mappings: may "uidMappings",
    gid_mappings: may "gidMappings",
});
