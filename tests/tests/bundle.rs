//! A container from a config.json, held against what crun and runc make of the same file: the same
//! ids, capabilities, mounts, limits, names and devices are seen from inside.

use std::collections::BTreeSet;

use coracle_tests::bundle::Bundle;
use coracle_tests::{Cmd, Privilege, need};
use serde_json::json;

/// What a container can tell of itself, one fact a line.
const PROBE: &str = r#"
id; hostname; umask; pwd; cat /proc/self/oom_score_adj
for l in f c n s; do echo "soft $l $(ulimit -S -$l) hard $(ulimit -H -$l)"; done
grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status
while read id parent dev root at options rest; do
  echo "mount $at $root $options ${rest##*- }"
done < /proc/self/mountinfo
for d in null zero full random urandom tty; do stat -c 'device %n %t:%T %a %u:%g' /dev/$d; done
for l in fd stdin stdout stderr ptmx; do echo "link $l $(readlink /dev/$l)"; done
env | sort
echo net $(ls /sys/class/net)
echo fds $(ls /proc/self/fd | wc -w)
cat /proc/sys/net/ipv4/ip_forward
"#;

/// The facts of a container under one runtime.
fn facts(runtime: &str, bundle: &Bundle) -> BTreeSet<String> {
    let command = bundle.run_by(runtime);
    command.ok().stdout.lines().filter_map(fact).collect()
}

/// One fact, without that in which runtimes may differ.
fn fact(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        // The rootfs' own mount is the test machine's.
        ["mount", "/", ..] => None,
        // Bound from another /dev; the peers differ in what more they forbid on it.
        ["mount", at, root, ..] if at.starts_with("/dev/") && root == at.trim_start_matches("/dev") => {
            Some(format!("bound device {at}"))
        }
        // Without an entry for the user some say `/`, and some nothing.
        ["HOME=/"] => None,
        // Whether a hidden path keeps more flags than it must. /dev/null itself cannot be written to.
        ["mount", at, root, options, kind, ..]
            if at.starts_with("/proc/") || at.starts_with("/sys/firmware") =>
        {
            let readonly = root == "/null" || options.split(',').any(|o| o == "ro");
            let kind = if root == "/null" { "null" } else { kind };
            Some(format!("hidden {at} {root} {kind} read only: {readonly}"))
        }
        ["mount", at, root, options, kind, ..] => {
            // Only printed or not by the way it was asked for.
            let options: BTreeSet<_> = options.split(',').filter(|o| *o != "relatime").collect();
            Some(format!("mount {at} {root} {kind} {options:?}"))
        }
        // The primary group is among ours, so that giving it up cannot be a way to a file.
        ["Groups:", ..] => None,
        [uid, gid, _] if uid.starts_with("uid=") => Some(format!("{uid} {gid}")),
        _ => Some(line.trim().to_string()),
    }
}

#[track_caller]
fn agree(name: &str, change: impl Fn(Bundle) -> Bundle) {
    if !need(Privilege::Root) {
        return;
    }
    let make = || Some(change(Bundle::busybox(&["sh", "-c", PROBE])?));
    if !need(Privilege::Peer("busybox")) {
        return;
    }
    let bundle = make().expect("busybox-static");
    let ours = facts("runner", &bundle);
    for peer in ["crun", "runc"] {
        if !need(Privilege::Peer(peer)) {
            continue;
        }
        let theirs = facts(peer, &bundle);
        let only_ours: Vec<_> = ours.difference(&theirs).collect();
        let only_theirs: Vec<_> = theirs.difference(&ours).collect();
        assert!(
            only_ours.is_empty() && only_theirs.is_empty(),
            "{name}: only ours: {only_ours:#?}\nonly {peer}'s: {only_theirs:#?}"
        );
    }
}

#[test]
fn a_plain_container_looks_the_same_as_under_crun_and_runc() {
    agree("plain", |b| b);
}

#[test]
fn a_user_with_groups_limits_and_a_directory_looks_the_same_as_under_crun_and_runc() {
    agree("user", |b| {
        b.set("/process/user", json!({"uid": 1000, "gid": 100, "umask": 0o027, "additionalGids": [5, 7]}))
            .set("/process/cwd", json!("/tmp"))
            .set("/process/oomScoreAdj", json!(500))
            .set("/process/env", json!(["PATH=/bin", "A=1", "HOME=/there", "EMPTY="]))
            .set(
                "/process/rlimits",
                json!([
                    {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                    {"type": "RLIMIT_STACK", "soft": 4194304, "hard": 8388608}
                ]),
            )
            .edit(|c| {
                for set in ["effective", "permitted", "bounding"] {
                    c["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_CHOWN"]);
                }
                c["process"]["noNewPrivileges"] = json!(false);
            })
    });
}

#[test]
fn ambient_capabilities_look_the_same_as_under_crun_and_runc() {
    agree("ambient", |b| {
        b.set("/process/user", json!({"uid": 7, "gid": 7})).edit(|c| {
            for set in ["effective", "permitted", "bounding", "inheritable", "ambient"] {
                c["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
            }
        })
    });
}

#[test]
fn mounts_devices_and_parameters_look_the_same_as_under_crun_and_runc() {
    agree("mounts", |b| {
        std::fs::create_dir(b.path().join("shared")).unwrap();
        std::fs::write(b.path().join("one-file"), "x").unwrap();
        b.set("/root/readonly", json!(true))
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}))
            .set("/linux/devices", json!([
                {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 3, "gid": 4}
            ]))
            .edit(|c| {
                let mounts = c["mounts"].as_array_mut().unwrap();
                mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "noexec", "size=1m", "mode=1777"]}));
                mounts.push(json!({"destination": "/tmp/deep/er", "type": "bind", "source": "shared",
                    "options": ["rbind", "ro", "nodev"]}));
                mounts.push(json!({"destination": "/tmp/file", "source": "one-file", "options": ["bind"]}));
                mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                    "options": ["nosuid", "noexec", "nodev"]}));
            })
    });
}

#[test]
fn the_hosts_namespaces_look_the_same_as_under_crun_and_runc() {
    agree("host", |b| {
        b.set("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}])).edit(|c| {
            c.as_object_mut().unwrap().remove("hostname");
        })
    });
}

#[test]
fn a_user_namespace_looks_the_same_as_under_crun_and_runc() {
    agree("userns", |b| {
        // Nobody else's directory is to be entered as the mapped root.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(b.path(), open).unwrap();
        let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        b.set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .set("/linux/namespaces/-", json!({"type": "user"}))
            .set("/process/cwd", json!("/"))
    });
}

#[test]
fn a_command_that_cannot_run_ends_with_126_or_127_and_says_why() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    for (command, code, says) in [
        ("nothing-of-that-name", 127, "executable file not found in $PATH"),
        ("/no/such/file", 127, "/no/such/file"),
        ("/etc", 126, "/etc"),
        ("/not-executable", 126, "permission denied"),
    ] {
        let bundle = Bundle::busybox(&[command]).expect("busybox-static");
        std::fs::create_dir_all(bundle.rootfs("etc")).unwrap();
        std::fs::write(bundle.rootfs("not-executable"), "x").unwrap();
        let output = bundle.run().fails(code);
        assert!(output.stderr.contains(says) && output.stderr.lines().count() == 1, "{}", output.stderr);
    }
}

#[test]
fn the_commands_end_is_the_runners() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
        bundle.run().fails(code);
    }
}

#[test]
fn a_config_that_makes_no_sense_is_one_line_that_names_the_field() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    for (pointer, value, says) in [
        ("/ociVersion", json!("2.0"), "ociVersion"),
        ("/root/path", json!(7), "root.path"),
        ("/root/path", json!("nowhere"), "root.path"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/args", json!([]), "process.args"),
        ("/process/user/uid", json!(4294967296u64), "process.user.uid"),
        ("/process/rlimits", json!([{"type": "RLIMIT_MUCH", "soft": 1, "hard": 1}]), "RLIMIT_MUCH"),
        ("/process/scheduler", json!({"policy": "SCHED_EVER"}), "process.scheduler"),
        ("/linux/namespaces/-", json!({"type": "imaginary"}), "imaginary"),
        ("/linux/namespaces/-", json!({"type": "pid"}), "twice"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "x"}), "kernel.core_pattern"),
        ("/linux/maskedPaths", json!(["relative"]), "maskedPaths"),
        ("/linux/rootfsPropagation", json!("upwards"), "rootfsPropagation"),
        ("/mounts/-", json!({"destination": "/x", "type": "no-such-fs"}), "no-such-fs"),
        ("/mounts/-", json!({"destination": "/x", "options": ["bind"]}), "source"),
        ("/mounts/-", json!({"destination": "/x", "type": "tmpfs", "options": ["sise=4"]}), "sise"),
    ] {
        let bundle = Bundle::busybox(&["true"]).expect("busybox-static").set(pointer, value.clone());
        let output = bundle.run().fails(125);
        let e = &output.stderr;
        assert!(e.contains(says) && e.lines().count() == 1, "{pointer} = {value}: {e}");
        assert!(!bundle.path().join("state").join(bundle.id()).exists(), "{pointer}: a state is left");
    }
}

#[test]
fn what_a_config_says_acts_on_no_terminal_in_a_warning_either() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let mount = json!({"destination": "\u{1b}]0;x\u{7}\nrunner: all is well", "type": "tmpfs"});
    let bundle = Bundle::busybox(&["true"]).expect("busybox-static").set("/mounts/-", mount);
    let e = bundle.run().ok().stderr;
    assert!(
        e.contains("is taken from /") && e.lines().count() == 1 && !e.contains(['\u{1b}', '\u{7}']),
        "{e:?}"
    );
}

#[test]
fn a_limit_above_the_runners_own_is_an_error_that_names_it() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    // A soft limit that the hard one allows is fine; more needs a right that is taken away here.
    let bundle = Bundle::busybox(&["true"])
        .expect("busybox-static")
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1 << 20, "hard": 1 << 20}]));
    bundle.write();
    let state = bundle.path().join("state");
    let output = Cmd::new("prlimit")
        .words("--nofile=256:256 setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource")
        .arg(coracle_tests::binaries::runner())
        .arg("--root")
        .arg(state)
        .words("run --bundle")
        .arg(bundle.path())
        .arg(bundle.id())
        .fails(125);
    assert!(output.stderr.contains("RLIMIT_NOFILE"), "{}", output.stderr);
}

#[test]
fn a_foreground_container_dies_with_its_runner_and_the_next_sweep_finds_it() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    for uid in [0, 1000] {
        let bundle = Bundle::busybox(&["sh", "-c", "echo ready; sleep 1000"]).expect("busybox-static");
        let bundle = bundle.set("/process/user/uid", json!(uid));
        let running = bundle.run().spawn();
        running.wait_for("ready");
        let state = bundle.state();
        let pid = state["init"]["pid"].as_u64().expect("a pid");
        running.signal(nix::sys::signal::Signal::SIGKILL);
        coracle_tests::eventually("the container is gone", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        });
    }
}

#[test]
fn a_joined_namespace_is_the_very_one_and_anything_else_is_refused() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let links = ["ls", "-l", "/proc/self/ns/"];
    let holder = Bundle::busybox(&["sh", "-c", "echo ready; sleep 1000"]).expect("busybox-static");
    let running = holder.run().spawn();
    running.wait_for("ready");
    let state = holder.state();
    let pid = state["init"]["pid"].as_u64().expect("a pid");
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    let namespaces = json!([
        {"type": "mount"}, {"type": "uts"},
        {"type": "network", "path": path("net")},
        {"type": "ipc", "path": path("ipc")},
        {"type": "pid", "path": path("pid")}
    ]);
    let joining = Bundle::busybox(&links).expect("busybox-static").set("/linux/namespaces", namespaces);
    let seen = joining.run().ok().stdout;
    for name in ["net", "ipc", "pid"] {
        let link = std::fs::read_link(path(name)).unwrap();
        assert!(seen.contains(&*link.to_string_lossy()), "{name}: {seen}");
    }
    for wrong in [path("ipc"), "/dev/null".into(), "/no/such".into()] {
        let namespaces = json!([{"type": "mount"}, {"type": "network", "path": wrong}]);
        let bundle = Bundle::busybox(&links).expect("busybox-static").set("/linux/namespaces", namespaces);
        let bundle = bundle.edit(|c| drop(c.as_object_mut().unwrap().remove("hostname")));
        let output = bundle.run().fails(125);
        assert!(output.stderr.contains("network namespace"), "{}", output.stderr);
    }
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn what_only_root_may_enter_can_be_bound_into_a_user_namespace() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let bundle = Bundle::busybox(&["cat", "/shared/file"]).expect("busybox-static");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(bundle.path(), mode(0o755)).unwrap();
    // The rootfs is not the mapped root's either: nothing can be made in it.
    std::fs::create_dir(bundle.rootfs("shared")).unwrap();
    let closed = bundle.path().join("closed");
    std::fs::create_dir_all(closed.join("shared")).unwrap();
    std::fs::write(closed.join("shared/file"), "found").unwrap();
    std::fs::set_permissions(&closed, mode(0o700)).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/linux/namespaces/-", json!({"type": "user"}))
        .set(
            "/mounts/-",
            json!({"destination": "/shared", "source": "closed/shared", "options": ["rbind", "ro"]}),
        )
        .run()
        .ok()
        .prints("found");
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
