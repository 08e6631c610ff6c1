//! `linux.namespaces`, the id maps, `linux.sysctl`, `linux.timeOffsets`.

use serde_json::json;

use crate::case::{Case, case};

/// A namespace by its type, from where a path leads.
fn by_path(kind: &str, path: &str) -> impl FnOnce(&mut serde_json::Value) {
    let entry = json!({"type": kind, "path": path});
    move |config| {
        let list = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        list.retain(|n| n["type"] != entry["type"]);
        list.push(entry);
    }
}

/// A namespace that is kept by somebody is joined.
fn joined(kind: &str, word: &str) -> Case {
    case(format!("namespaces: {kind} is joined by its path"))
        .before(&format!("keep {word}"))
        .edit(by_path(kind, &format!("@BUNDLE@/ns-{word}")))
}

pub(super) fn cases() -> Vec<Case> {
    let sysctl = |name: &str, key: &str, value: &str| {
        case(format!("namespaces: {name}"))
            .set("/linux/sysctl", json!({key: value}))
            .ask(&[&format!("cat=/proc/sys/{}", key.replace('.', "/"))])
    };
    let maps = |name: &str, list: serde_json::Value| {
        case(format!("namespaces: {name}"))
            .user_namespace()
            .set("/linux/uidMappings", list.clone())
            .set("/linux/gidMappings", list)
    };
    let two = |second: u32| {
        json!([
            {"containerID": 0, "hostID": 100_000, "size": 10},
            {"containerID": second, "hostID": 200_000, "size": 5}
        ])
    };
    let small = json!([{"containerID": 0, "hostID": 100_000, "size": 1}]);
    vec![
        case("namespaces: without a pid namespace").shares("pid"),
        case("namespaces: without a network namespace").shares("network"),
        case("namespaces: without an ipc namespace").shares("ipc"),
        case("namespaces: without a uts namespace and a hostname").shares("uts").without("/hostname"),
        case("namespaces: without a mount namespace").shares("mount"),
        case("namespaces: a cgroup namespace").set("/linux/namespaces/-", json!({"type": "cgroup"})),
        case("namespaces: a time namespace").set("/linux/namespaces/-", json!({"type": "time"})),
        case("namespaces: a time namespace with offsets")
            .set("/linux/namespaces/-", json!({"type": "time"}))
            .set("/linux/timeOffsets/monotonic", json!({"secs": 172_800, "nanosecs": 0}))
            .set("/linux/timeOffsets/boottime", json!({"secs": 604_800, "nanosecs": 5})),
        case("namespaces: time offsets without a time namespace")
            .set("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}})),
        case("namespaces: none at all").set("/linux/namespaces", json!([])).without("/hostname"),
        case("namespaces: the list is missing").without("/linux/namespaces").without("/hostname"),
        case("namespaces: an unknown one").set("/linux/namespaces/-", json!({"type": "quantum"})),
        case("namespaces: one by its short name")
            .shares("network")
            .set("/linux/namespaces/-", json!({"type": "net"})),
        case("namespaces: one twice").set("/linux/namespaces/-", json!({"type": "ipc"})),
        case("namespaces: one without a type").set("/linux/namespaces/-", json!({})),
        case("namespaces: a path of nothing").edit(by_path("network", "")),
        joined("network", "net"),
        joined("uts", "uts"),
        joined("uts", "uts")
            .without("/hostname")
            .renamed("namespaces: uts is joined and there is no hostname"),
        joined("ipc", "ipc"),
        joined("pid", "pid"),
        joined("cgroup", "cgroup"),
        case("namespaces: three are joined")
            .before("keep net; keep uts; keep ipc")
            .edit(by_path("network", "@BUNDLE@/ns-net"))
            .edit(by_path("uts", "@BUNDLE@/ns-uts"))
            .edit(by_path("ipc", "@BUNDLE@/ns-ipc")),
        case("namespaces: a user namespace is joined, root outside it as inside")
            .before("keep user --map-root-user")
            .edit(by_path("user", "@BUNDLE@/ns-user")),
        case("namespaces: the path of one of another type")
            .before("keep uts")
            .edit(by_path("network", "@BUNDLE@/ns-uts")),
        case("namespaces: a path that leads to no namespace")
            .edit(by_path("network", "@BUNDLE@/config.json")),
        case("namespaces: a path that leads nowhere").edit(by_path("network", "@BUNDLE@/none")),
        case("namespaces: a path that is not absolute").before("keep net").edit(by_path("network", "ns-net")),
        case("namespaces: the runtime's own by its path").edit(by_path("network", "/proc/self/ns/net")),
        case("namespaces: the runtime's own ipc by its path").edit(by_path("ipc", "/proc/self/ns/ipc")),
        case("namespaces: a user namespace").user_namespace(),
        case("namespaces: a user namespace and a user in it")
            .user_namespace()
            .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5]})),
        case("namespaces: a user namespace and a device of the list").user_namespace().set(
            "/linux/devices",
            json!([
                {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666}
            ]),
        ),
        case("namespaces: a user namespace and the network of the runtime")
            .user_namespace()
            .shares("network"),
        case("namespaces: a user namespace and the pids of the runtime").user_namespace().shares("pid"),
        case("namespaces: a user namespace and a bind")
            .user_namespace()
            .mount("/data", "bind", "@BUNDLE@/log", &["bind", "ro"])
            .ask(&["path=/data"]),
        case("namespaces: a user namespace and a tmpfs with an owner")
            .user_namespace()
            .mount("/data", "tmpfs", "tmpfs", &["uid=5", "gid=6", "mode=750"])
            .ask(&["path=/data"]),
        case("namespaces: a user namespace and a cgroup namespace")
            .user_namespace()
            .set("/linux/namespaces/-", json!({"type": "cgroup"})),
        case("namespaces: a user namespace and limits")
            .user_namespace()
            .set("/linux/resources/pids", json!({"limit": 100}))
            .groups(),
        case("namespaces: a user namespace and a sysctl")
            .user_namespace()
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
            .ask(&["cat=/proc/sys/net/ipv4/ip_forward"]),
        case("namespaces: a user namespace and a root of another").user_namespace().prepare(|b| {
            std::os::unix::fs::chown(b.join("rootfs"), Some(0), Some(0)).expect("chown");
        }),
        maps("maps of one id", small.clone()),
        maps("maps of one id, and a user outside them", small)
            .set("/process/user", json!({"uid": 1000, "gid": 1000})),
        maps("maps in two pieces", two(10)),
        maps("maps that overlap", two(5)),
        maps("maps of nothing", json!([])),
        maps("maps of no ids", json!([{"containerID": 0, "hostID": 100_000, "size": 0}])),
        maps("maps without root", json!([{"containerID": 1000, "hostID": 100_000, "size": 10}])),
        maps(
            "maps to the host's own ids",
            json!([{"containerID": 0, "hostID": 0, "size": 4_294_967_295_u32}]),
        ),
        case("namespaces: a user namespace without maps").set("/linux/namespaces/-", json!({"type": "user"})),
        case("namespaces: maps of users and none of groups").user_namespace().without("/linux/gidMappings"),
        case("namespaces: maps without a user namespace")
            .set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 10}]))
            .set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 10}])),
        sysctl("a sysctl of the network", "net.ipv4.ip_forward", "1"),
        sysctl("a sysctl of the network with slashes", "net/ipv4/ip_forward", "1"),
        sysctl("a sysctl of ipc", "kernel.msgmax", "4096"),
        sysctl("a sysctl of queues", "fs.mqueue.msg_max", "20"),
        sysctl("a sysctl of the host", "vm.swappiness", "60"),
        sysctl("a sysctl of the kernel that has no namespace", "kernel.pid_max", "4194304"),
        sysctl("a sysctl that sets the hostname", "kernel.hostname", "other"),
        sysctl("a sysctl that sets the domainname", "kernel.domainname", "other"),
        sysctl("a sysctl that does not exist", "net.ipv4.none_such", "1"),
        sysctl("a sysctl with a value that does not fit", "net.ipv4.ip_forward", "yes"),
        sysctl("a sysctl that climbs", "net.../../kernel/msgmax", "1"),
        sysctl("a sysctl without a network namespace", "net.ipv4.ip_forward", "0").shares("network"),
        sysctl("a sysctl without an ipc namespace", "kernel.msgmax", "8192").shares("ipc"),
        sysctl("a sysctl of a network that is joined", "net.ipv4.ip_forward", "1")
            .before("keep net")
            .edit(by_path("network", "@BUNDLE@/ns-net")),
        case("namespaces: a sysctl whose value is a number")
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": 1})),
        case("namespaces: two sysctls")
            .set("/linux/sysctl/net.ipv4.ping_group_range", json!("0 1000"))
            .set("/linux/sysctl/net.ipv4.ip_unprivileged_port_start", json!("0"))
            .ask(&[
                "cat=/proc/sys/net/ipv4/ping_group_range",
                "cat=/proc/sys/net/ipv4/ip_unprivileged_port_start",
            ]),
    ]
}
