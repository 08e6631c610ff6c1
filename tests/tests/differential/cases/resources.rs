//! `linux.resources` and `linux.cgroupsPath`. The limits are read where the kernel shows them.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn limits(name: &str, kind: &str, value: Value) -> Case {
    case(format!("resources: {name}")).set(&format!("/linux/resources/{kind}"), value).groups()
}

pub(super) fn cases() -> Vec<Case> {
    let memory = |name: &str, value: Value| limits(name, "memory", value);
    let cpu = |name: &str, value: Value| limits(name, "cpu", value);
    let block = |name: &str, value: Value| limits(name, "blockIO", value);
    let m = 1 << 20;
    let rate = |minor: u32, rate: u64| json!([{"major": 254, "minor": minor, "rate": rate}]);
    vec![
        case("resources: none but the devices").groups(),
        case("resources: none").without("/linux/resources").groups(),
        memory("a limit of memory", json!({"limit": 64 * m})),
        memory("a limit of memory that is no multiple of a page", json!({"limit": 64 * m + 1})),
        memory("a limit of memory and swap", json!({"limit": 64 * m, "swap": 128 * m})),
        memory("swap as much as memory", json!({"limit": 64 * m, "swap": 64 * m})),
        memory("swap without a limit", json!({"limit": 64 * m, "swap": -1})),
        memory("swap below memory", json!({"limit": 64 * m, "swap": 32 * m})),
        memory("swap alone", json!({"swap": 64 * m})),
        memory("memory of -1", json!({"limit": -1})),
        memory("memory of -1 and swap of -1", json!({"limit": -1, "swap": -1})),
        memory("memory of 0", json!({"limit": 0})),
        memory("memory of -2", json!({"limit": -2})),
        memory("a reservation", json!({"limit": 64 * m, "reservation": 32 * m})),
        memory("a reservation above the limit", json!({"limit": 64 * m, "reservation": 128 * m})),
        memory("swappiness", json!({"swappiness": 30})),
        memory("swappiness 0", json!({"swappiness": 0})),
        memory("swappiness beyond 100", json!({"swappiness": 101})),
        memory("disableOOMKiller", json!({"limit": 64 * m, "disableOOMKiller": true})),
        memory("disableOOMKiller, said not", json!({"limit": 64 * m, "disableOOMKiller": false})),
        memory("kernel memory", json!({"kernel": 64 * m})),
        memory("kernel memory for TCP", json!({"kernelTCP": 64 * m})),
        memory("useHierarchy", json!({"useHierarchy": true})),
        memory("useHierarchy, said not", json!({"useHierarchy": false})),
        memory("a check before update", json!({"limit": 64 * m, "checkBeforeUpdate": true})),
        memory("an object of nothing", json!({})),
        cpu("shares", json!({"shares": 512})),
        cpu("shares of 0", json!({"shares": 0})),
        cpu("shares of 1", json!({"shares": 1})),
        cpu("shares of a million", json!({"shares": 1_000_000})),
        cpu("a quota", json!({"quota": 50_000})),
        cpu("a quota and a period", json!({"quota": 20_000, "period": 200_000})),
        cpu("a period alone", json!({"period": 50_000})),
        cpu("a quota of -1", json!({"quota": -1, "period": 100_000})),
        cpu("a quota of 0", json!({"quota": 0})),
        cpu("a quota below what the kernel takes", json!({"quota": 10})),
        cpu("a period above what the kernel takes", json!({"quota": 5000, "period": 100_000_000})),
        cpu("a burst", json!({"quota": 50_000, "period": 100_000, "burst": 10_000})),
        cpu("a burst above the quota", json!({"quota": 50_000, "period": 100_000, "burst": 60_000})),
        cpu("idle", json!({"idle": 1})),
        cpu("idle of 2", json!({"idle": 2})),
        cpu("real time", json!({"realtimeRuntime": 1000, "realtimePeriod": 100_000})),
        cpu("one processor", json!({"cpus": "0"})),
        cpu("processors and memory nodes", json!({"cpus": "0-1", "mems": "0"})),
        cpu("a processor that is not there", json!({"cpus": "4000"})),
        cpu("processors that are no list", json!({"cpus": "all"})),
        cpu("a memory node that is not there", json!({"mems": "7"})),
        limits("processes", "pids", json!({"limit": 100})),
        limits("processes of -1", "pids", json!({"limit": -1})),
        limits("processes of 0", "pids", json!({"limit": 0})),
        limits("processes without a number", "pids", json!({})),
        limits("processes beyond 32 bits", "pids", json!({"limit": 1_i64 << 40})),
        block("bytes read from a disk", json!({"throttleReadBpsDevice": rate(0, 1_000_000)})),
        block("bytes written to a disk", json!({"throttleWriteBpsDevice": rate(0, 1_000_000)})),
        block("operations of a disk", json!({"throttleReadIOPSDevice": rate(0, 100), "throttleWriteIOPSDevice": rate(0, 200)})),
        block("a disk that is not there", json!({"throttleReadBpsDevice": rate(99, 1_000_000)})),
        block("a rate of 0", json!({"throttleReadBpsDevice": rate(0, 0)})),
        block("a weight", json!({"weight": 500})),
        block("a weight of 0", json!({"weight": 0})),
        block("a weight of 1", json!({"weight": 1})),
        block("a weight of a disk", json!({"weightDevice": [{"major": 254, "minor": 0, "weight": 500}]})),
        block("a leaf weight", json!({"leafWeight": 500})),
        limits("huge pages", "hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 * m}])),
        limits("huge pages of a size that is not there", "hugepageLimits", json!([{"pageSize": "3MB", "limit": 4 * m}])),
        limits("no huge pages", "hugepageLimits", json!([])),
        limits("a class of packets", "network", json!({"classID": 1_048_577})),
        limits("priorities of a network", "network", json!({"priorities": [{"name": "lo", "priority": 5}]})),
        limits("an object of nothing for the network", "network", json!({})),
        limits("rdma", "rdma", json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}})),
        limits("rdma of nothing", "rdma", json!({})),
        limits("a file of cgroup v2", "unified", json!({"memory.high": "64M"})),
        limits("no file of cgroup v2", "unified", json!({})),
        limits("a file of cgroup v2 that climbs", "unified", json!({"../cgroup.procs": "1"})),
        limits("several at once", "memory", json!({"limit": 64 * m}))
            .set("/linux/resources/pids", json!({"limit": 100}))
            .set("/linux/resources/cpu", json!({"shares": 100, "quota": 50_000})),
        case("resources: no path for the group"),
        case("resources: a path for the group").set("/linux/cgroupsPath", json!("/@ID@")),
        case("resources: a path of several names").set("/linux/cgroupsPath", json!("/@ID@/deep/er")),
        case("resources: a path that is not absolute").set("/linux/cgroupsPath", json!("@ID@/inside")),
        case("resources: a path that climbs").set("/linux/cgroupsPath", json!("/../../@ID@")),
        case("resources: a path of nothing").set("/linux/cgroupsPath", json!("")),
        case("resources: a path as systemd writes it").set("/linux/cgroupsPath", json!("system.slice:run:@ID@")),
        case("resources: a group that was there before")
            .before(r#"id=$(sed -n 's/.*"cgroupsPath": "\/\(.*\)".*/\1/p' $B/config.json); mkdir /sys/fs/cgroup/memory/$id"#)
            .groups(),
        case("resources: a group of its own, seen through a namespace").groups()
            .set("/linux/namespaces/-", json!({"type": "cgroup"})),
        case("resources: a closID on a host without resctrl").set("/linux/intelRdt", json!({"closID": "x"})),
        case("resources: a policy of memory").set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"})),
    ]
}
