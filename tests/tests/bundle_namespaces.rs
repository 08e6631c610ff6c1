//! Namespaces of a bundle beyond what a plain container has: clocks of its own, and what is not what it
//! is said to be.

use coracle_tests::bundle::Bundle;
use coracle_tests::{Privilege, need};
use serde_json::{Value, json};

fn have() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

/// A bundle whose command is a shell's script, with these values set.
fn bundle(script: &str, values: &[(&str, Value)]) -> Bundle {
    let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
    values.iter().fold(bundle, |bundle, (pointer, value)| bundle.set(pointer, value.clone()))
}

/// The pid of the first process of a container that runs.
fn first_process(bundle: &Bundle) -> u64 {
    let state = bundle.path().join("state").join(format!("{}.json", bundle.id()));
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    state["init"]["pid"].as_u64().expect("a pid")
}

#[test]
fn the_clocks_of_a_time_namespace_are_the_containers_own_and_can_be_joined() {
    if !have() {
        return;
    }
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        eprintln!("skipped: this kernel has no time namespaces");
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let offsets = json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 5}, "monotonic": {"secs": 77}});
    let time = [("/linux/namespaces/-", json!({"type": "time"})), ("/linux/timeOffsets", offsets)];
    let user = [
        ("/linux/namespaces/-", json!({"type": "user"})),
        ("/linux/uidMappings", map.clone()),
        ("/linux/gidMappings", map),
    ];
    let script = "cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime";
    for more in [&[][..], &user] {
        let output = bundle(script, &[&time, more].concat()).run().ok();
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        assert_eq!(words[..6], ["monotonic", "77", "0", "boottime", "1000000000", "5"], "{words:?}");
        assert!(words[6].parse::<u64>().unwrap() > 1_000_000_000, "{words:?}");
    }

    let holder = bundle("echo ready; sleep 1000", &time);
    let running = holder.run().spawn();
    running.wait_for("ready");
    let path = format!("/proc/{}/ns/time", first_process(&holder));
    let joined = json!({"type": "time", "path": path});
    let output = bundle(script, &[("/linux/namespaces/-", joined)]).run().ok();
    assert!(output.stdout.contains("1000000000"), "{}", output.stdout);
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn a_namespace_that_is_another_is_refused_before_anything_is_made() {
    if !have() {
        return;
    }
    for (kind, path, says) in [
        ("network", "/proc/self/ns/ipc", "is a namespace of the type ipc"),
        ("user", "/proc/self/ns/net", "is a namespace of the type network"),
        ("time", "/proc/self/ns/uts", "is a namespace of the type uts"),
        ("ipc", "/dev/null", "is no namespace"),
        ("ipc", "proc/self/ns/ipc", "is not absolute"),
    ] {
        let namespaces = json!([{"type": "mount"}, {"type": kind, "path": path}]);
        let bundle = bundle("true", &[("/linux/namespaces", namespaces)]);
        let bundle = bundle.edit(|c| drop(c.as_object_mut().unwrap().remove("hostname")));
        let e = bundle.run().fails(125).stderr;
        assert!(e.contains(says) && e.lines().count() == 1, "{kind} {path}: {e}");
    }
    let offsets = [("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}))];
    bundle("true", &offsets).run().fails(125).complains("no time namespace is made");
}
