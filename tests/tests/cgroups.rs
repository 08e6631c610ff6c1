//! Limits, for real: what a container may use, what it is told when that is too much, and that
//! nothing of its groups is left behind. On whatever cgroup version the machine has; `boot_v2` runs
//! them again on v2 alone.

use std::fs;

use coracle_tests::bundle::{self, Bundle};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, need};
use serde_json::{Value, json};

/// Run a script of busybox's with resources.
fn run(script: &str, resources: Value) -> (String, Output) {
    let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
    let bundle = bundle.set("/linux/resources", resources);
    (bundle.id(), bundle.run().run())
}

/// Whether a group of this container's is anywhere.
fn groups_of(id: &str) -> Vec<String> {
    let list = coracle_tests::Cmd::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name"])
        .arg(format!("*{id}*"));
    list.run().stdout.lines().map(str::to_owned).collect()
}

fn have(controllers: &[&str]) -> bool {
    need(Privilege::Root)
        && need(Privilege::Peer("busybox"))
        && controllers.iter().all(|c| need(Privilege::Controller(c)))
}

#[test]
fn memory_beyond_the_limit_kills_the_command_with_137() {
    if !have(&["memory"]) {
        return;
    }
    // tail keeps its input's only line, which does not end.
    let (id, output) = run("tail /dev/zero", json!({"memory": {"limit": 32 << 20}}));
    output.fails(137);
    assert_eq!(groups_of(&id), [""; 0]);
}

#[test]
fn a_fork_bomb_stays_within_the_pids_limit() {
    if !have(&["pids"]) {
        return;
    }
    let script = "n=0; while [ $n -lt 50 ]; do sleep 60 & n=$((n+1)); done; wait";
    let (id, output) = run(script, json!({"pids": {"limit": 10}}));
    assert!(output.stderr.contains("can't fork"), "{output}");
    assert_eq!(groups_of(&id), [""; 0]);
}

#[test]
fn the_container_sees_its_limits_in_its_own_cgroup_mount() {
    if !have(&["cpu", "memory"]) {
        return;
    }
    let bundle = Bundle::busybox(&[
        "sh",
        "-c",
        "cat /proc/self/cgroup; cd /sys/fs/cgroup; cat cpu.max memory.max 2>/dev/null || cat cpu*/cpu.cfs_quota_us cpu*/cpu.cfs_period_us memory/memory.limit_in_bytes",
    ]);
    let bundle = bundle
        .expect("busybox-static")
        .set("/linux/namespaces/-", json!({"type": "cgroup"}))
        .set("/mounts/-", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}))
        .set("/linux/resources", json!({"cpu": {"quota": 50000, "period": 200000}, "memory": {"limit": 64 << 20}}));
    let output = bundle.run().ok();
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert!(words.ends_with(&["50000", "200000", "67108864"]), "{output}");
    assert!(!output.stdout.contains("coracle"), "the host's path is seen inside: {output}");
    assert_eq!(groups_of(&bundle.id()), [""; 0]);
}

/// Of a limit of memory, as the command of an image reads it: the files of either version.
const LIMIT: &str = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";

#[test]
fn a_container_of_an_image_reads_its_limits_where_programs_look_for_them() {
    if !have(&["memory", "cpu"]) {
        return;
    }
    let store = Store::new("cgroup-mount");
    let _image = Image::busybox().expect("busybox").compose(&store, "box");
    let script = |flags: &str, script: &str| store.run(flags).args(["box", "sh", "-c", script]).run();
    script("-m 64m", LIMIT).prints("67108864");
    let quota = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu*/cpu.cfs_quota_us 2>/dev/null | head -n 1";
    assert!(script("--cpus 0.5", quota).stdout.starts_with("50000"));
    // They are to be read. With all rights they can be changed, as in docker.
    let raise =
        "cd /sys/fs/cgroup; f=memory.max; [ -e $f ] || f=memory/memory.limit_in_bytes; echo 99999999 > $f";
    script("-m 64m", raise).fails(1).complains("Read-only file system");
    // A machine that delegates by namespaces keeps the limits of a namespace's own root to itself (cgroups(7), nsdelegate).
    let raised = script("-m 64m --privileged", &format!("{raise}; {LIMIT}"));
    if !raised.stderr.contains("Operation not permitted") {
        raised.prints("99999744");
    }
    // One in the background has all groups, so that limits can be given to it later.
    store.runner().words("run -d --name later box sleep 1000").ok();
    store.runner().words("update -m 48m --memory-swap 96m later").ok();
    store.runner().words("exec later sh -c").arg(LIMIT).run().prints("50331648");
    store.runner().words("rm -f later").ok();
    // A mount of the caller's at the same place replaces it.
    script("-m 64m --tmpfs /sys/fs/cgroup", "ls /sys/fs/cgroup | wc -l").prints("0");
}

#[test]
fn where_no_group_was_made_nothing_empty_is_mounted() {
    if !have(&[]) || v2() {
        return;
    }
    let store = Store::new("none-made");
    let _image = Image::busybox().expect("busybox").compose(&store, "box");
    let seen = store.run("box grep -c cgroup /proc/self/mounts").fails(1);
    assert_eq!(seen.stdout, "0\n");
    let plan = store.run("--dry-run=plan box true").ok().json();
    let places = plan["mounts"].as_array().expect("mounts").iter().map(|m| m["at"].as_str());
    assert!(places.flatten().all(|at| at != "/sys/fs/cgroup"), "{plan}");
}

#[test]
fn device_rules_hold_in_their_order() {
    if !have(&[]) || (!coracle_tests::privilege::have(Privilege::Controller("devices")) && !v2()) {
        return;
    }
    let script = "mknod /dev/a c 1 3 && echo a > /dev/a && mknod /dev/b c 10 229 && ! cat /dev/b && mknod /dev/c b 8 0 && ! cat /dev/c && echo held";
    let rules = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "m"}
    ]});
    let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
    let bundle = bundle
        .edit(|c| c["mounts"][1]["options"] = json!(["nosuid", "mode=755"]))
        .set("/linux/resources", rules);
    bundle.run().ok().prints("held");
    assert_eq!(groups_of(&bundle.id()), [""; 0]);
}

#[test]
fn a_limit_that_the_host_cannot_give_is_refused_by_name_and_leaves_nothing() {
    if !have(&["pids"]) {
        return;
    }
    let (id, output) =
        run("true", json!({"pids": {"limit": 10}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}));
    assert!(output.stderr.contains("hugetlb") && output.stderr.lines().count() == 1, "{output}");
    output.fails(125);
    assert_eq!(groups_of(&id), [""; 0]);
}

#[test]
fn a_path_for_the_groups_is_followed_and_the_group_goes_afterwards() {
    if !have(&["pids"]) {
        return;
    }
    let bundle = Bundle::busybox(&["cat", "/proc/self/cgroup"]).expect("busybox-static");
    let path = format!("/{}-parent/leaf", bundle.id());
    let bundle = bundle
        .set("/linux/cgroupsPath", json!(path))
        .set("/linux/resources", json!({"pids": {"limit": 100}}));
    let output = bundle.run().ok().prints(&path);
    let left = groups_of(&bundle.id());
    for dir in &left {
        std::fs::remove_dir(dir).expect("the parent is empty");
    }
    assert!(left.iter().all(|dir| dir.ends_with("-parent")), "{left:?} {output}");
}

fn v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// `runner run --rootfs` of busybox with flags.
fn run_flags(flags: &str, script: &str) -> Output {
    let scratch = coracle_tests::Scratch::new("limits");
    coracle_tests::rootfs::busybox(&scratch.mkdir("rootfs")).expect("busybox-static");
    let runner = coracle_tests::Cmd::runner().env("CORACLE_STORE", scratch.join("store"));
    runner
        .words("run --rm --rootfs")
        .words(flags)
        .arg(scratch.join("rootfs"))
        .args(["sh", "-c", script])
        .run()
}

#[test]
fn dash_m_kills_at_the_limit_and_says_so() {
    if !have(&["memory"]) {
        return;
    }
    let output = run_flags("-m 32m --report fd:1", "tail /dev/zero").fails(137);
    assert_eq!(output.stderr, "runner: the container was killed: it needed more than its memory limit\n");
    let report = output.json();
    assert_eq!(report["cause"], "oom");
    assert!(report["peakMemory"].as_u64().is_some_and(|n| n > 16 << 20 && n <= 32 << 20), "{report}");
}

#[test]
fn best_effort_goes_on_without_and_reports_what_it_dropped() {
    if !have(&["pids"]) {
        return;
    }
    // No kernel weighs block devices by a number above 1000.
    run_flags("--pids-limit 20 --blkio-weight 30000", "true").fails(125).complains("weight");
    let report =
        run_flags("--best-effort --pids-limit 20 --blkio-weight 30000 --report fd:1", "true").ok().json();
    assert_eq!(report["dropped"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(report["dropped"][0].as_str().is_some_and(|d| d.contains("weight")), "{report}");
}

#[test]
fn a_container_cannot_make_itself_a_disk() {
    if !have(&[]) || (!coracle_tests::privilege::have(Privilege::Controller("devices")) && !v2()) {
        return;
    }
    let output = run_flags("", "mknod /disk b 8 0; head -c 1 /disk; head -c 1 /dev/null && echo null").ok();
    assert!(output.stderr.contains("Operation not permitted") && output.stdout == "null\n", "{output}");
}

#[test]
fn groups_of_others_are_neither_entered_nor_killed_nor_taken_away() {
    let hierarchies =
        ["pids", "freezer", "unified", ""].map(|h| std::path::Path::new("/sys/fs/cgroup").join(h));
    let hierarchies: Vec<_> = hierarchies.iter().filter(|dir| dir.join("cgroup.procs").exists()).collect();
    if !need(Privilege::Root) || !bundle::works() {
        return;
    }
    assert!(!hierarchies.is_empty(), "a hierarchy of groups");
    for hierarchy in hierarchies {
        let bundle = Bundle::busybox(&["true"]).expect("busybox-static");
        let name = format!("others-{}", bundle.id());
        let (above, held) = (hierarchy.join(&name), hierarchy.join(&name).join("a/b"));
        fs::create_dir_all(&held).expect("make groups");
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().expect("run sleep");
        let entered = fs::write(held.join("cgroup.procs"), other.id().to_string());
        let bundle = bundle
            .set("/linux/cgroupsPath", json!(format!("/{name}")))
            .set("/linux/resources", json!({"pids": {"limit": 50}}));
        bundle.write();
        let verb = |words: &str| {
            Cmd::runner().arg("--root").arg(bundle.path().join("state")).words(words).arg(bundle.id())
        };
        let out = verb(&format!("create --bundle {}", bundle.path().display())).run();
        let forced = verb("delete --force").run();
        let alive = other.try_wait().expect("wait").is_none();
        let there = held.exists();
        other.kill().expect("kill");
        other.wait().expect("wait");
        for dir in [&held, &above.join("a"), &above] {
            let _ = fs::remove_dir(dir);
        }
        entered.expect("enter a group");
        assert!(alive && there, "{hierarchy:?}: {out} {forced}");
        assert_eq!(out.code(), 125, "{out}");
        out.complains("container's cgroup is not empty");
        assert_eq!(groups_of(&name), [""; 0], "{hierarchy:?}");
    }
}
