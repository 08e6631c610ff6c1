//! What else runc's users type: each verb and flag beside the life of a container, as runc answers it.

use std::path::PathBuf;

use coracle_tests::bundle::Bundle;
use coracle_tests::oci::Client;
use coracle_tests::{Cmd, Privilege, eventually, need};
use serde_json::{Value, json};

/// One whose command runs.
fn running(change: impl FnOnce(Bundle) -> Bundle) -> Option<Client> {
    let client = Client::of(change, "exec sleep 1000")?;
    client.create(&[]);
    client.call("start").ok();
    Some(client)
}

#[test]
fn ps_of_a_container_tells_its_processes() {
    if !need(Privilege::Peer("ps")) {
        return;
    }
    let Some(one) = running(|b| b) else { return };
    let pid = one.call("state").ok().json()["pid"].clone();
    assert_eq!(one.call("ps --format json").ok().json(), json!([pid]));
    assert_eq!(one.call("ps -f json").ok().json(), json!([pid]));
    let table = one.call("ps").ok().stdout;
    assert!(table.lines().count() == 2 && table.contains("PID") && table.contains("sleep 1000"), "{table}");
    let asked = one.call("ps").words("-o pid,args").ok().stdout;
    assert!(asked.lines().nth(1).is_some_and(|l| l.trim().starts_with(&pid.to_string())), "{asked}");
    one.call("ps").words("-o args").fails(125).complains("no column PID");
    one.call("ps -q").fails(125).complains("takes no --quiet");
    Cmd::runner()
        .arg("--root")
        .arg(one.file("state"))
        .words("ps nobody")
        .fails(125)
        .complains("does not exist");
}

#[test]
fn run_keep_leaves_the_state_and_the_groups_for_delete() {
    let Some(one) = Client::of(|b| b.set("/linux/resources/pids", json!({"limit": 20})), "exit 3") else {
        return;
    };
    let run = format!("run --keep --bundle {}", one.bundle.path().display());
    assert_eq!(one.call(&run).run().code(), 3);
    assert_eq!(one.call("state").ok().json()["status"], "stopped");
    let groups = || {
        let find = Cmd::new("find").args(["/sys/fs/cgroup", "-name"]).arg(format!("*{}", one.bundle.id()));
        find.run().stdout.lines().count()
    };
    assert!(groups() > 0);
    one.call(&run).fails(125).complains("already exists");
    one.call("delete").ok();
    assert_eq!(groups(), 0);
    one.call("state").fails(125);
}

#[test]
fn a_bundle_of_this_folder_is_run_where_it_is_typed_as_clients_do() {
    let Some(one) = Client::of(|b| b, "echo here") else { return };
    let out = one.call("run").dir(one.bundle.path()).ok();
    assert_eq!(out.stdout, "here\n");
    one.call("state").fails(125);
}

#[test]
fn exec_enters_groups_below_the_containers_own_and_nobody_elses() {
    let Some(one) = running(|b| b.set("/linux/resources/pids", json!({"limit": 20}))) else { return };
    let pid = one.call("state").ok().json()["pid"].to_string();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read its groups");
    let Some(own) = cgroup.lines().find_map(|l| l.split_once(":pids:").map(|(_, path)| path.to_owned()))
    else {
        // cgroup v2 alone: what is below is looked at inside a machine that has it.
        return;
    };
    let at = Cmd::new("sh").args([
        "-c",
        "awk '$(NF-2) == \"cgroup\" && / - cgroup .*pids/ {print $5; exit}' /proc/self/mountinfo",
    ]);
    let mount = PathBuf::from(at.ok().stdout.trim());
    let top = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let above = top.lines().find_map(|l| l.split_once(":pids:").map(|(_, path)| path)).unwrap_or("/");
    let relative = own.strip_prefix(above.trim_end_matches('/')).unwrap_or(&own).trim_start_matches('/');
    let group = [mount.join(relative), mount.join(own.trim_start_matches('/'))];
    let group = group.iter().find(|g| g.is_dir()).expect("its group");
    std::fs::create_dir(group.join("below")).expect("mkdir");
    let look = |flags: &str| one.call(&format!("exec {flags}")).words("cat /proc/self/cgroup").run();
    assert!(look("--cgroup pids:below").stdout.contains("/below\n"));
    assert!(!look("--cgroup pids:/").stdout.contains("/below\n") && look("--cgroup pids:/").code() == 0);
    for (bad, why) in [
        ("..", "sub cgroup path"),
        ("pids:../..", "sub cgroup path"),
        ("pids:nowhere", "No such file"),
        ("whaaat:/", "unknown controller"),
    ] {
        let out = look(&format!("--cgroup {bad}"));
        assert!(out.code() == 125 && out.stderr.contains(why), "{bad}: {out}");
    }
}

#[test]
fn kill_with_no_signal_asks_whether_anybody_is_there() {
    let Some(one) = running(|b| b) else { return };
    one.call("kill").arg("0").ok();
    one.call("kill").arg("KILL").ok();
    eventually("it has ended", || one.call("state").ok().json()["status"] == "stopped");
    one.call("kill").arg("0").fails(125).complains("container not running");
    one.call("kill").arg("NOSUCH").fails(125).complains("unknown signal");
}

#[test]
fn a_start_container_hook_is_held_by_the_containers_filter() {
    let deny = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exec mkdir /dev/shm/x"]}]);
    let change = |b: Bundle| b.set("/linux/seccomp", deny).set("/hooks/startContainer", hook);
    let Some(one) = Client::of(change, "true") else { return };
    let out = one.call(&format!("run --bundle {}", one.bundle.path().display())).fails(125);
    assert!(out.stderr.contains("error running hook #0") && out.stderr.contains("bad system call"), "{out}");
}

#[test]
fn poststop_hooks_are_run_when_a_start_fails() {
    let Some(one) = Client::of(
        |b| {
            let mark = b.path().join("mark").display().to_string();
            let poststop = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{mark}")]}]);
            let fails = json!([{"path": "/bin/false"}]);
            b.set("/hooks/poststop", poststop).set("/hooks/createRuntime", fails)
        },
        "true",
    ) else {
        return;
    };
    one.call(&format!("create --bundle {}", one.bundle.path().display())).fails(125);
    let told = std::fs::read(one.file("mark")).expect("the hook has run");
    let state: Value = serde_json::from_slice(&told).expect("a state document");
    assert_eq!((&state["status"], &state["id"]), (&json!("stopped"), &json!(one.bundle.id())));
}

#[test]
fn a_group_that_is_frozen_is_refused_and_not_waited_in() {
    let freezer = PathBuf::from("/sys/fs/cgroup/freezer");
    if !need(Privilege::Root) || !freezer.join("release_agent").exists() {
        return;
    }
    let name = format!("coracle-test-frozen-{}", std::process::id());
    let group = freezer.join(&name);
    std::fs::create_dir(&group).expect("mkdir");
    std::fs::write(group.join("freezer.state"), "FROZEN").expect("freeze it");
    let path = json!(format!("/{name}"));
    if let Some(one) = Client::of(|b| b.set("/linux/cgroupsPath", path), "true") {
        let create = one.call(&format!("create --bundle {}", one.bundle.path().display()));
        create.fails(125).complains("container's cgroup unexpectedly frozen");
    }
    std::fs::remove_dir(&group).expect("rmdir");
}

#[test]
fn logs_have_the_form_that_clients_read() {
    let Some(one) = Client::of(|b| b, "true") else { return };
    let log = one.file("log");
    let read = || std::fs::read_to_string(&log).expect("read the log");
    let call = |words: &str| {
        let call = Cmd::runner().arg("--root").arg(one.file("state")).arg("--log").arg(&log).words(words);
        call.run()
    };
    assert_eq!(call("--log-format json state nobody").code(), 125);
    let line: Value = serde_json::from_str(read().lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().is_some_and(|m| m.contains("does not exist")) && line["time"].is_string());
    std::fs::remove_file(&log).expect("rm");
    call("--debug state nobody");
    let text = read();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("level=debug msg=\"arguments") && lines[0].starts_with("time=\""), "{text}");
    assert!(lines[1].contains("level=error") && lines[2].contains("exit code 125"), "{text}");
}
