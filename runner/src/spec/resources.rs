//! `linux.resources`: limits and device rules. Pure data: what a host can do of it is decided in
//! the cgroup plan, and a member left out changes nothing.

use std::collections::BTreeMap;

use coracle_sys::read_json;
use serde::Serialize;

/// Limits of a container's cgroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxResources {
    /// What device nodes may be made and opened; later rules win over earlier ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRule>,
    /// Memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// CPU time and placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Number of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block device bandwidth.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages, one entry for each page size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Class and priorities of network traffic (v1 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// RDMA objects, by device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 and what is written into them, verbatim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

read_json!(LinuxResources {
    devices: may "devices",
    memory: may "memory",
    cpu: may "cpu",
    pids: may "pids",
    block_io: may "blockIO",
    hugepage_limits: may "hugepageLimits",
    network: may "network",
    rdma: may "rdma",
    unified: may "unified",
});

/// A rule about device nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceRule {
    /// Whether the rule allows.
    pub allow: bool,
    /// a (all), b or c; all when absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Major number; all when absent or -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; all when absent or -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Letters of r, w and m; all when absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

read_json!(DeviceRule {
    allow: may "allow",
    kind: may "type",
    major: may "major",
    minor: may "minor",
    access: may "access",
});

/// Memory limits in bytes; -1 is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What is left to it when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// The limit of memory *and* swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Limit of kernel memory. Obsolete: ignored, as runc does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// Limit of TCP's kernel memory. Obsolete: ignored, as runc does.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100, v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Tasks wait at the limit instead of being killed; v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Groups below are accounted here too; v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// A limit below what is in use is refused before it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

read_json!(Memory {
    limit: may "limit",
    reservation: may "reservation",
    swap: may "swap",
    kernel: may "kernel",
    kernel_tcp: may "kernelTCP",
    swappiness: may "swappiness",
    disable_oom_killer: may "disableOOMKiller",
    use_hierarchy: may "useHierarchy",
    check_before_update: may "checkBeforeUpdate",
});

/// CPU limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Relative weight as v1 has it, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Microseconds that may be run in one period; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds that unused quota may add up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period's length in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Microseconds for realtime tasks in one realtime period; v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The realtime period in microseconds; v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// A list of CPUs such as `0-3,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// A list of memory nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 for SCHED_IDLE, 0 for ordinary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

read_json!(Cpu {
    shares: may "shares",
    quota: may "quota",
    burst: may "burst",
    period: may "period",
    realtime_runtime: may "realtimeRuntime",
    realtime_period: may "realtimePeriod",
    cpus: may "cpus",
    mems: may "mems",
    idle: may "idle",
});

/// How many tasks there may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// The limit; -1 is none, 0 and absent change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

read_json!(Pids {
    limit: may "limit",
});

/// Limits of block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Relative weight, 10 to 1000; 0 is none asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight against groups below; v1 only, and gone since Linux 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads a second.
    #[serde(rename = "throttleReadIOPSDevice", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes a second.
    #[serde(rename = "throttleWriteIOPSDevice", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

read_json!(BlockIo {
    weight: may "weight",
    leaf_weight: may "leafWeight",
    weight_device: may "weightDevice",
    throttle_read_bps_device: may "throttleReadBpsDevice",
    throttle_write_bps_device: may "throttleWriteBpsDevice",
    throttle_read_iops_device: may "throttleReadIOPSDevice",
    throttle_write_iops_device: may "throttleWriteIOPSDevice",
});

/// A device's weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// The weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight against groups below; gone since Linux 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

read_json!(WeightDevice {
    major: may "major",
    minor: may "minor",
    weight: may "weight",
    leaf_weight: may "leafWeight",
});

/// A device's throttle.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations a second.
    pub rate: u64,
}

read_json!(ThrottleDevice {
    major: may "major",
    minor: may "minor",
    rate: may "rate",
});

/// A limit of huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB`, `1GB` and the like.
    pub page_size: String,
    /// Bytes. Values above an i64's are in use as "no limit".
    pub limit: u64,
}

read_json!(HugepageLimit {
    page_size: may "pageSize",
    limit: may "limit",
});

/// Network classes of v1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Network {
    /// `net_cls.classid`.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// `net_prio.ifpriomap`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<InterfacePriority>,
}

read_json!(Network {
    class_id: may "classID",
    priorities: may "priorities",
});

/// An interface's priority.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InterfacePriority {
    /// Its name.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

read_json!(InterfacePriority {
    name: may "name",
    priority: may "priority",
});

/// Limits of one RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// Open handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

read_json!(Rdma {
    hca_handles: may "hcaHandles",
    hca_objects: may "hcaObjects",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_the_specification_comes_back_from_a_round_trip() {
        let json = serde_json::json!({
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "rw"}],
            "memory": {"limit": 1, "reservation": 2, "swap": -1, "kernel": 3, "kernelTCP": 4, "swappiness": 0,
                "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
            "cpu": {"shares": 2, "quota": -1, "burst": 5, "period": 6, "realtimeRuntime": 7, "realtimePeriod": 8,
                "cpus": "0-1", "mems": "0", "idle": 1},
            "pids": {"limit": 9},
            "blockIO": {"weight": 10, "leafWeight": 11,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 12, "leafWeight": 13}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 14}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 15}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 16}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 17}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 18446744073709551615u64}],
            "network": {"classID": 18, "priorities": [{"name": "lo", "priority": 19}]},
            "rdma": {"mlx5_1": {"hcaHandles": 20, "hcaObjects": 21}},
            "unified": {"memory.high": "max"}
        });
        let read: LinuxResources = coracle_sys::json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let read: LinuxResources = coracle_sys::json::from_slice(
            r#"{"devices": null, "memory": null, "unified": null, "pids": {"limit": null}}"#.as_bytes(),
        )
        .unwrap();
        assert_eq!(read, LinuxResources { pids: Some(Pids::default()), ..LinuxResources::default() });
    }
}
