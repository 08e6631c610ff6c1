//! `linux`: what no other system has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_sys::read_json;
use serde::Serialize;

use super::LinuxSeccomp;
use super::resources::LinuxResources;

/// Namespaces, devices, limits, filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// User ids of the user namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of the user namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters, dotted name to value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits and device rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<LinuxResources>,
    /// Where in the cgroup hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// New namespaces, or paths of those to join.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Devices beyond the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Network devices moved in: the host's name to the name inside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// System call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<LinuxSeccomp>,
    /// Propagation of the root mount: shared, slave, private, unbindable, or with an `r` before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Paths that are hidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<PathBuf>,
    /// Paths that are read only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux context of the mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Intel Resource Director.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Clock offsets of a new time namespace: `monotonic`, `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

read_json!(Linux {
    uid_mappings: may "uidMappings",
    gid_mappings: may "gidMappings",
    sysctl: may "sysctl",
    resources: may "resources",
    cgroups_path: may "cgroupsPath",
    namespaces: may "namespaces",
    devices: may "devices",
    net_devices: may "netDevices",
    seccomp: may "seccomp",
    rootfs_propagation: may "rootfsPropagation",
    masked_paths: may "maskedPaths",
    readonly_paths: may "readonlyPaths",
    mount_label: may "mountLabel",
    intel_rdt: may "intelRdt",
    memory_policy: may "memoryPolicy",
    personality: may "personality",
    time_offsets: may "timeOffsets",
});

/// A run of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

read_json!(IdMapping {
    container_id: must "containerID",
    host_id: must "hostID",
    size: must "size",
});

/// A namespace: new, or joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Namespace {
    /// pid, network, mount, ipc, uts, user, cgroup or time.
    #[serde(rename = "type")]
    pub kind: String,
    /// The one to join; a new one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

read_json!(Namespace {
    kind: must "type",
    path: may "path",
});

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// c, b, u or p.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where, inside.
    pub path: PathBuf,
    /// Major number; not of a fifo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; not of a fifo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

read_json!(Device {
    kind: must "type",
    path: must "path",
    major: may "major",
    minor: may "minor",
    file_mode: may "fileMode",
    uid: may "uid",
    gid: may "gid",
});

/// A network device that is moved in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NetDevice {
    /// Its name inside; the host's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

read_json!(NetDevice {
    name: may "name",
});

/// Intel Resource Director Technology.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Lines for its schemata file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// L3 cache schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Whether a monitoring group is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_monitoring: Option<bool>,
}

read_json!(IntelRdt {
    clos_id: may "closID",
    schemata: may "schemata",
    l3_cache_schema: may "l3CacheSchema",
    mem_bw_schema: may "memBwSchema",
    enable_monitoring: may "enableMonitoring",
});

/// set_mempolicy(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryPolicy {
    /// MPOL_NAME.
    pub mode: String,
    /// A list of nodes such as `0-1`.
    pub nodes: String,
    /// MPOL_F_NAMES.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

read_json!(MemoryPolicy {
    mode: may "mode",
    nodes: may "nodes",
    flags: may "flags",
});

/// personality(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Personality {
    /// LINUX or LINUX32.
    pub domain: String,
    /// None is defined yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

read_json!(Personality {
    domain: must "domain",
    flags: may "flags",
});

/// A clock's offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TimeOffset {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds beside them.
    pub nanosecs: u32,
}

read_json!(TimeOffset {
    secs: may "secs",
    nanosecs: may "nanosecs",
});
