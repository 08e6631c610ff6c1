//! What is kept of a container of an OCI client beside what is kept of all.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::Spec;

/// What a client is told of it, and what later calls need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Oci {
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it.
    pub owner: u32,
    /// Its root file system on the host.
    pub rootfs: PathBuf,
    /// Its config.json as it was when it was made: what is changed there since means nothing.
    pub spec: Spec,
    /// Where it waits for its start, in the directory of states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}
