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
    let state = bundle.state();
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

#[test]
fn a_network_device_moves_in_with_its_address_and_a_new_name() {
    if !have() || !need(Privilege::Peer("ip")) {
        return;
    }
    let name = format!("ct{}", std::process::id() % 1_000_000);
    // In a network namespace of the test's own, so that nothing of the host's is touched.
    // By its path: a shell of busybox has an ip of its own.
    let ip = coracle_tests::peer("ip").expect("ip").display().to_string();
    let made = format!(
        "{ip} tuntap add dev {name} mode tap && {ip} addr add 10.9.8.7/24 dev {name} && {ip} link set {name} up"
    );
    for (joined, user) in [(false, false), (true, false), (false, true)] {
        let script = "ip addr show in0; ip link show | grep -c mtu";
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        let mut values = vec![("/linux/netDevices", json!({name.as_str(): {"name": "in0"}}))];
        if user {
            values.push(("/linux/namespaces/-", json!({"type": "user"})));
            values.push(("/linux/uidMappings", map.clone()));
            values.push(("/linux/gidMappings", map));
        }
        let mut bundle = bundle(script, &values);
        let holder = if joined {
            let holder = self::bundle("echo ready; sleep 1000", &[]);
            let running = holder.run().spawn();
            running.wait_for("ready");
            let path = format!("/proc/{}/ns/net", first_process(&holder));
            bundle = bundle.set("/linux/namespaces/4/path", json!(path));
            Some((holder, running))
        } else {
            None
        };
        bundle.write();
        let line = format!(
            "{made} && {} --root {} run --bundle {} {}",
            coracle_tests::binaries::runner().display(),
            bundle.path().join("state").display(),
            bundle.path().display(),
            bundle.id()
        );
        let output = coracle_tests::Cmd::new("unshare").words("-n sh -c").arg(line).run();
        if output.stderr.contains("tuntap") || output.stderr.contains("ioctl(TUNSETIFF)") {
            eprintln!("skipped: no network device can be made here");
            return;
        }
        let seen = &output.stdout;
        assert!(seen.contains("10.9.8.7/24") && seen.contains("UP"), "{joined} {user}: {output}");
        if let Some((_, running)) = holder {
            running.signal(nix::sys::signal::Signal::SIGKILL);
        }
    }
    let values = [("/linux/netDevices", json!({"no-such-device": {}}))];
    bundle("true", &values).run().fails(125).complains("there is no network device no-such-device");
    let values = [("/linux/netDevices", json!({"x": {"name": "a:b"}}))];
    bundle("true", &values).run().fails(125).complains("linux.netDevices");
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
