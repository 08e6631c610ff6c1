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

#[test]
fn the_command_is_run_as_the_config_has_it() {
    if !have() {
        return;
    }
    // Field 19 of stat is the nice value, 40 and 41 the real-time priority and the policy.
    let stat = "set -- $(sed 's/.*) //' /proc/self/stat); echo nice ${17} policy ${39} priority ${38}";
    for (scheduler, says) in [
        (json!({"policy": "SCHED_BATCH", "nice": 5}), "nice 5 policy 3 priority 0"),
        (json!({"policy": "SCHED_RR", "priority": 7}), "policy 2 priority 7"),
        (json!({"policy": "SCHED_IDLE"}), "policy 5"),
        (json!({"policy": "SCHED_OTHER", "nice": -3}), "nice -3 policy 0"),
    ] {
        let output = bundle(stat, &[("/process/scheduler", scheduler.clone())]).run().run();
        // A cgroup of v1 may have no time for real-time tasks.
        let denied = output.stderr.contains("realtimeRuntime") && scheduler["policy"] == "SCHED_RR";
        assert!(denied || output.stdout.contains(says), "{scheduler}: {} {}", output.stdout, output.stderr);
    }
    let io = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
    bundle("ionice -p $$", &[("/process/ioPriority", io)]).run().ok().prints("best-effort: prio 3");
    let old = json!({"domain": "LINUX32"});
    bundle("uname -m", &[("/linux/personality", old)]).run().ok().prints("i686");
    // Not of the first process.
    let affinity = json!({"initial": "0", "final": "0"});
    bundle("echo fine", &[("/process/execCPUAffinity", affinity)]).run().ok().prints("fine");
}

#[test]
fn a_memory_policy_holds_for_the_command_or_says_that_there_is_no_such_node() {
    if !have() {
        return;
    }
    let ask = |mode: &str, nodes: &str| {
        let policy = json!({"mode": mode, "nodes": nodes});
        bundle("head -n1 /proc/self/numa_maps | cut -d' ' -f2", &[("/linux/memoryPolicy", policy)])
            .run()
            .run()
    };
    let output = ask("MPOL_BIND", "0");
    if !output.stderr.contains("knows no memory nodes") {
        assert!(output.stdout.contains("bind:0") || output.stdout.is_empty(), "{}", output.stderr);
        let e = ask("MPOL_BIND", "1000").fails(125).stderr;
        assert!(e.contains("linux.memoryPolicy") && e.contains("no such node"), "{e}");
    }
}

#[test]
fn a_score_is_set_in_a_user_namespace_too_and_one_that_is_denied_to_root_is_refused() {
    if !have() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    for (score, shown) in [(300, "300\n"), (-100, "-100\n")] {
        let values = [
            ("/process/oomScoreAdj", json!(score)),
            ("/linux/uidMappings", map.clone()),
            ("/linux/gidMappings", map.clone()),
            ("/linux/namespaces/-", json!({"type": "user"})),
        ];
        let output = bundle("cat /proc/self/oom_score_adj", &values).run().run();
        let denied = output.code() == 125 && output.stderr.contains("it needs CAP_SYS_RESOURCE");
        let warned = output.code() == 0 && output.stderr.contains("the process keeps its score");
        let refused = if nix::unistd::geteuid().is_root() { denied } else { warned };
        assert!(output.stdout == shown || score < 0 && refused, "{score}: {output}");
    }
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
