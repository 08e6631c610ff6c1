//! What is kept of a container of an OCI client beside what is kept of all.

use std::path::PathBuf;

use coracle_sys::read_json;
use serde::Serialize;

use crate::rdt::Class;
use crate::spec::Spec;

/// What a client is told of it, and what later calls need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Its class of cache and memory bandwidth.
    #[serde(skip_serializing_if = "Class::is_none")]
    pub class: Class,
}

read_json!(Oci {
    created: must "created",
    owner: must "owner",
    rootfs: must "rootfs",
    spec: must "spec",
    gate: may "gate",
    class: may "class",
});
