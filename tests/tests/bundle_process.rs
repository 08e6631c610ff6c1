//! What config.json says of the process, beyond what a plain container has: what is refused, what is
//! warned of, and what the command finds.

use coracle_tests::bundle::Bundle;
use coracle_tests::{Cmd, Privilege, need};
use serde_json::{Value, json};

fn have() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

/// A bundle whose command is a shell's script, with these values set.
fn bundle(script: &str, values: &[(&str, Value)]) -> Bundle {
    let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
    values.iter().fold(bundle, |bundle, (pointer, value)| bundle.set(pointer, value.clone()))
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    if !have() {
        return;
    }
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
    for (pointer, value, says) in [
        ("/process/rlimits", json!([limit, limit]), "\"RLIMIT_NOFILE\" is there twice"),
        ("/root/path", json!("config.json"), "root.path is not a directory"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "listenerMetadata",
        ),
    ] {
        let output = bundle("true", &[(pointer, value.clone())]).run().fails(125);
        let e = &output.stderr;
        assert!(e.contains(says) && e.lines().count() == 1, "{pointer} = {value}: {e}");
    }
}

#[test]
fn what_means_nothing_here_is_warned_of_and_the_command_runs() {
    if !have() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    for (pointer, value, says) in [
        ("/linux/uidMappings", map, "linux.uidMappings is ignored"),
        ("/linux/resources/memory", json!({"kernelTCP": 1 << 30}), "linux.resources.memory.kernelTCP"),
        ("/linux/resources/memory", json!({"useHierarchy": false}), "linux.resources.memory.useHierarchy"),
    ] {
        let output = bundle("echo fine", &[(pointer, value)]).run().ok();
        assert!(output.stdout == "fine\n" && output.stderr.contains(says), "{}", output.stderr);
    }
    let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/socket"});
    bundle("echo fine", &[("/linux/seccomp", seccomp)]).run().ok().prints("fine");
}

#[test]
fn a_capability_that_the_runner_lacks_is_warned_of() {
    if !have() {
        return;
    }
    let caps = json!(["CAP_CHOWN", "CAP_SYS_TIME"]);
    let sets = json!({"bounding": caps, "effective": caps, "permitted": caps});
    let bundle = bundle("grep CapPrm /proc/self/status", &[("/process/capabilities", sets)]);
    bundle.write();
    let output = Cmd::new("setpriv")
        .words("--bounding-set=-sys_time --inh-caps=-sys_time")
        .arg(coracle_tests::binaries::runner())
        .arg("--root")
        .arg(bundle.path().join("state"))
        .words("run --bundle")
        .arg(bundle.path())
        .arg(bundle.id())
        .ok();
    assert!(output.stdout.contains("0000000000000001"), "{}", output.stdout);
    let says = "ignoring unknown or unavailable capabilities: [CAP_SYS_TIME]";
    assert!(output.stderr.contains(says), "{}", output.stderr);
}

#[test]
fn flags_that_every_mount_may_have_are_taken_by_all() {
    if !have() {
        return;
    }
    let words = ["silent", "loud", "iversion", "noiversion", "acl", "noacl", "nomand", "async"];
    let tmpfs = json!({"destination": "/t", "type": "tmpfs", "source": "t", "options": words});
    let bind = [words.as_slice(), &["bind"]].concat();
    let bound = json!({"destination": "/b", "source": "rootfs", "options": bind});
    bundle("echo fine > /t/x && cat /b/../t/x", &[("/mounts/-", tmpfs), ("/mounts/-", bound)])
        .run()
        .ok()
        .prints("fine");
}

#[test]
fn what_is_passed_on_arrives_and_nothing_else() {
    if !have() {
        return;
    }
    let bundle = bundle("ls /proc/self/fd | tr '\\n' ' '; cat <&4", &[]);
    bundle.write();
    // 3 and 4 are open, 5 is not, 6 is and not asked for.
    let line = format!(
        "exec 3</dev/null 4<<X 6</dev/null\npassed\nX\nexec {} --root {} run --preserve-fds 3 --bundle {} {}",
        coracle_tests::binaries::runner().display(),
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id()
    );
    let output = Cmd::new("sh").arg("-c").arg(line).ok();
    assert_eq!(output.stdout, "0 1 2 3 4 5 passed\n", "the last one is that of ls itself");
}
