//! Documents of about a megabyte, of one thing again and again: they are answered before anybody asks what takes so long,
//! and in memory that is in proportion.

use coracle_fuzz::{bundles, seccomp};
use serde_json::{Value, json};

fn config(at: &str, value: Value) -> Vec<u8> {
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": ["x"], "user": {}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}]}
    });
    let (above, name) = at.rsplit_once('/').expect("a pointer");
    let mut place = &mut config;
    for part in above.split('/').skip(1) {
        place = &mut place[part];
    }
    place[name] = value;
    config.to_string().into_bytes()
}

fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

fn named(count: usize, item: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..count).map(|n| (format!("net.a{n}"), item(n))).collect())
}

#[test]
fn a_large_config_is_answered() {
    let hook = json!({"path": "/h", "args": ["h"]});
    let nested = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    bundles::config_json(nested.as_bytes());
    bundles::config_json(&nested.as_bytes()[..500_000]);
    bundles::config_json(format!("{{\"{}\":5}}", "k".repeat(1_000_000)).as_bytes());
    for (at, value) in [
        ("/process/args", many(100_000, |n| json!(n.to_string()))),
        ("/process/env", many(100_000, |n| json!(format!("A{n}=b")))),
        ("/process/rlimits", many(20_000, |_| json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 1}))),
        ("/process/rlimits", many(5_000, |n| json!({"type": format!("RLIMIT_{n}"), "soft": 1, "hard": 1}))),
        ("/process/capabilities", json!({"bounding": many(60_000, |n| json!(format!("CAP_{n}")))})),
        ("/process/user", json!({"additionalGids": many(100_000, |n| json!(n))})),
        (
            "/mounts",
            many(20_000, |n| json!({"destination": format!("/{n}"), "type": "tmpfs", "options": ["ro"]})),
        ),
        (
            "/mounts",
            many(
                20_000,
                |n| json!({"destination": "/dev/x", "source": format!("/{n}"), "options": ["bind"]}),
            ),
        ),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "tmpfs", "options": many(100_000, |n| json!(format!("a={n}")))}]),
        ),
        ("/mounts", json!([{"destination": "/x/..".repeat(200_000), "type": "tmpfs"}])),
        ("/hooks", json!({"prestart": many(30_000, |_| hook.clone())})),
        ("/annotations", named(30_000, |_| json!("x"))),
        ("/linux/sysctl", named(30_000, |_| json!("1"))),
        ("/linux/maskedPaths", many(50_000, |n| json!(format!("/proc/{n}")))),
        ("/linux/readonlyPaths", many(50_000, |n| json!(format!("/proc/{n}")))),
        ("/linux/namespaces", many(30_000, |_| json!({"type": "pid"}))),
        ("/linux/namespaces", many(30_000, |n| json!({"type": format!("x{n}")}))),
        ("/linux/uidMappings", many(30_000, |n| json!({"containerID": n, "hostID": n, "size": 1}))),
        (
            "/linux/devices",
            many(20_000, |n| json!({"type": "c", "path": format!("/dev/a{n}"), "major": 1, "minor": n})),
        ),
        ("/linux/netDevices", named(5_000, |n| json!({"name": format!("e{n}")}))),
        ("/linux/cgroupsPath", json!("/x/..".repeat(200_000) + "/y")),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-4294967295,".repeat(80_000) + "1"})),
        ("/process/execCPUAffinity", json!({"initial": "0-18446744073709551615,".repeat(40_000) + "1"})),
        (
            "/linux/resources",
            json!({"devices": many(20_000, |n| json!({"allow": n % 2 == 0, "type": "c", "major": n, "minor": n, "access": "rw"}))}),
        ),
        (
            "/linux/resources",
            json!({"devices": many(20_000, |n| json!({"allow": true, "type": "c", "major": n, "access": "rw"}))}),
        ),
        (
            "/linux/resources",
            json!({"hugepageLimits": many(30_000, |n| json!({"pageSize": format!("{n}MB"), "limit": 1}))}),
        ),
        ("/linux/resources", json!({"unified": named(30_000, |_| json!("1"))})),
        ("/linux/resources", json!({"rdma": named(30_000, |_| json!({"hcaHandles": 1}))})),
        (
            "/linux/resources",
            json!({"blockIO": {"throttleReadBpsDevice": many(20_000, |n| json!({"major": 8, "minor": n, "rate": 1}))}}),
        ),
    ] {
        bundles::config_json(&config(at, value));
    }
}

#[test]
fn a_large_profile_is_answered() {
    let equal = |n: usize| json!({"index": 0, "value": n, "op": "SCMP_CMP_EQ"});
    let above = |n: usize| json!({"index": 0, "value": n, "op": "SCMP_CMP_GT"});
    let kill = |args: Value| json!({"names": ["dup"], "action": "SCMP_ACT_KILL", "args": args});
    let errno = |n: usize, args: Value| json!({"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": n % 4000, "args": args});
    let profile = |rules: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules});
    for rules in [
        // One call's argument, each value a rule.
        many(20_000, |n| kill(json!([equal(n)]))),
        // The same with results that differ.
        many(20_000, |n| errno(n, json!([equal(n)]))),
        // One after the other.
        many(12_000, |n| kill(json!([above(n)]))),
        // One after the other, results that differ.
        many(12_000, |n| errno(n, json!([above(n)]))),
        // The same rule.
        many(20_000, |_| kill(json!([above(1)]))),
        // Many names, many conditions.
        json!([{"names": many(60_000, |_| json!("dup")), "action": "SCMP_ACT_KILL", "args": many(10_000, above)}]),
        // One rule, many conditions.
        json!([kill(many(20_000, above))]),
        // Names that are no calls.
        json!([{"names": many(100_000, |n| json!(format!("x{n}"))), "action": "SCMP_ACT_KILL"}]),
        // Names that are no calls, with conditions.
        json!([{"names": many(50_000, |n| json!(format!("x{n}"))), "action": "SCMP_ACT_KILL", "args": many(10_000, above)}]),
    ] {
        seccomp::profile(profile(rules).to_string().as_bytes());
    }
}
