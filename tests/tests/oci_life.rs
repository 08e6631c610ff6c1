//! A container's life in an OCI client's hands: create, start, exec, pause, kill, delete, each a call of its own, and
//! what is left when one of them is killed.

use std::fs;
use std::time::Duration;

use coracle_tests::bundle::{self, Bundle};
use coracle_tests::filters::Filter;
use coracle_tests::leftovers::Leftovers;
use coracle_tests::oci::Client;
use coracle_tests::rootfs::compile;
use coracle_tests::{Cmd, Privilege, filters, need};
use serde_json::json;

#[test]
fn without_systemd_its_groups_are_refused_in_one_line_and_nothing_is_left() {
    let Some(client) = Client::new("true") else { return };
    if std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    for flag in ["--systemd-cgroup", "--cgroup-manager systemd"] {
        let verb = format!("{flag} create --bundle {}", client.bundle.path().display());
        let out = client.call(&verb).fails(125);
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
        out.complains("--systemd-cgroup: systemd does not run here: there is no /run/systemd/system");
        client.call("state").fails(125);
    }
}

#[test]
fn a_container_is_created_started_stopped_and_deleted() {
    let Some(client) = Client::new("echo begun; exec sleep 1000") else { return };
    let pid_file = client.file("pid");
    client.create(&["--pid-file", &pid_file.display().to_string()]);
    let state = client.call("state").ok().json();
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], client.bundle.path().display().to_string());
    assert_eq!(state["pid"].to_string(), client.read("pid"));
    assert_eq!(client.read("out"), "", "the command waits");
    client.call("start").ok();
    client.wait_until("the command runs", || client.read("out") == "begun\n");
    assert_eq!(client.status(), "running");
    client.call("start").fails(125).complains("already running");
    client.call("delete").fails(125).complains("not stopped");
    Cmd::runner().arg("--root").arg(client.file("state")).words("list -q").ok().prints(&client.bundle.id());
    client.call("kill").arg("KILL").ok();
    client.wait_until("it is stopped", || client.status() == "stopped");
    client.call("kill").arg("KILL").fails(125).complains("not running");
    client.call("delete").ok();
    client.call("state").fails(125).complains("does not exist");
    client.call("delete").fails(125).complains("does not exist");
    client.call("delete --force").ok();
    assert_eq!(fs::read_dir(client.file("state")).expect("states").count(), 0);
}

#[test]
fn an_id_is_created_once() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    client.create(&[]);
    assert_eq!(client.creating(&[]).status().expect("run create").code(), Some(125));
    assert!(client.read("err").contains("already exists"), "{}", client.read("err"));
    assert_eq!(client.status(), "created");
}

#[test]
fn start_says_why_the_command_cannot_be_executed() {
    for (args, code, says) in [(json!(["nosuch"]), 127, "nosuch"), (json!(["/etc"]), 126, "/etc")] {
        let Some(client) = Client::of(|b| b.set("/process/args", args.clone()), "") else { return };
        let created = client.creating(&[]).status().expect("run create");
        let told = match created.success() {
            true => client.call("start").fails(code).stderr,
            false => client.read("err"),
        };
        assert!(told.contains(says) && told.lines().count() == 1, "{args}: {told}");
    }
}

#[test]
fn one_more_process_is_executed_and_its_code_comes_back() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    client.create(&[]);
    client.call("start").ok();
    client.call("exec").words("sh -c").arg("echo inside; exit 7").fails(7).prints("inside");
    client
        .call("exec --user 5:6 --cwd /tmp --env A=b")
        .words("sh -c")
        .arg("id -u; pwd; echo $A")
        .ok()
        .prints("5\n/tmp\nb");
    client.call("exec").arg("nosuch").fails(127).complains("nosuch");
    client.call("kill").arg("KILL").ok();
    client.wait_until("it is stopped", || client.status() == "stopped");
    client.call("exec").arg("true").fails(125).complains("stopped container");
}

#[test]
fn an_exec_beside_the_end_of_its_container_says_that_this_is_gone() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    let mut gone = 0;
    for n in 0..30 {
        client.create(&[]);
        client.call("start").ok();
        let exec = client.call("exec").arg("true").spawn();
        // Each time a little later in the life of the exec.
        std::thread::sleep(Duration::from_micros(100 * n));
        client.call("delete --force").ok();
        let out = exec.wait(Duration::from_secs(30)).expect("exec ends");
        let killed = out.code() == 137 || out.code() == 0;
        let said = out.stderr.contains("is gone") || out.stderr.contains("stopped container");
        assert!(killed || said || out.stderr.contains("does not exist"), "{out}");
        assert!(out.stderr.lines().count() <= 1, "{out}");
        gone += usize::from(said);
    }
    eprintln!("{gone} of 30 met the end on their way in");
}

#[test]
fn a_paused_container_does_nothing_until_it_is_resumed() {
    let Some(client) = Client::new("while :; do echo x; sleep 0.01; done") else { return };
    client.create(&[]);
    client.call("start").ok();
    client.wait_until("it writes", || !client.read("out").is_empty());
    client.call("pause").ok();
    assert_eq!(client.status(), "paused");
    let (before, pause) = (client.read("out"), Duration::from_millis(100));
    std::thread::sleep(pause);
    assert_eq!(client.read("out"), before);
    client.call("exec").arg("true").fails(125).complains("paused");
    client.call("resume").ok();
    client.wait_until("it writes on", || client.read("out").len() > before.len());
    client.call("resume").fails(125).complains("not paused");
}

#[test]
fn hooks_run_in_their_order_with_the_state_they_find() {
    let hook = |client: &str, name: &str| {
        let script = format!("read -r state; echo {name} $state >>{client}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let Some(client) = Client::of(
        |bundle| {
            let log = bundle.path().join("hooks").display().to_string();
            ["prestart", "createRuntime", "poststart", "poststop"]
                .into_iter()
                .fold(bundle, |b, name| b.set(&format!("/hooks/{name}"), hook(&log, name)))
        },
        "exec sleep 1000",
    ) else {
        return;
    };
    let seen = || {
        let text = client.read("hooks");
        let word = |line: &str| {
            let (name, state) = line.split_once(' ').expect("a hook's line");
            let state: serde_json::Value = serde_json::from_str(state).expect("a state");
            format!("{name} {}", state["status"].as_str().expect("a status"))
        };
        text.lines().map(word).collect::<Vec<_>>()
    };
    client.create(&[]);
    assert_eq!(seen(), ["prestart creating", "createRuntime creating"]);
    client.call("start").ok();
    assert_eq!(seen()[2..], ["poststart running"]);
    client.call("delete --force").ok();
    assert_eq!(seen()[3..], ["poststop stopped"]);
}

#[test]
fn a_hook_that_fails_undoes_the_create() {
    let fails = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]);
    let Some(client) = Client::of(|b| b.set("/hooks/createRuntime", fails), "exec sleep 1000") else {
        return;
    };
    assert!(!client.creating(&[]).status().expect("run create").success());
    assert!(client.read("err").contains("createRuntime"), "{}", client.read("err"));
    client.call("state").fails(125);
    assert_eq!(fs::read_dir(client.file("state")).expect("states").count(), 0);
}

#[test]
fn a_create_that_is_killed_leaves_a_whole_container_or_none() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    for n in 0..40 {
        let mut creating = client.creating(&[]).spawn().expect("run create");
        std::thread::sleep(Duration::from_micros(n * 300));
        creating.kill().expect("kill -9");
        creating.wait().expect("wait");
        let state = client.call("state").run();
        if state.code() == 0 {
            // Between the state and the go-ahead its process ends with whoever made it.
            let status = state.json()["status"].clone();
            assert!(status == "created" || status == "stopped", "{n}: {status}");
        }
        client.call("delete --force").ok();
        client.call("state").fails(125);
    }
    client.create(&[]);
    client.call("start").ok();
    assert_eq!(client.status(), "running");
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) && bundle::works() {
        filters::again_with_newer_calls_denied();
    }
}

#[test]
fn a_call_that_is_required_and_missing_is_named_and_nothing_is_left() {
    let Some(client) = Client::new("true") else { return };
    for (name, call) in [
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("close_range", libc::SYS_close_range),
    ] {
        let before = Leftovers::before(&client.bundle.id(), &[]);
        let mut creating = client.creating(&[]);
        Filter::denying(&[call]).install(&mut creating);
        assert_eq!(creating.status().expect("run create").code(), Some(125), "{name}");
        let told = client.read("err");
        let says = format!("{name}(");
        assert!(
            told.contains(&says) && told.contains("not implemented") && told.lines().count() == 1,
            "{told}"
        );
        assert_eq!(fs::read_dir(client.file("state")).expect("states").count(), 0, "{name}");
        before.assert_none();
    }
}

#[test]
fn a_create_that_is_killed_at_any_of_its_closes_leaves_what_delete_takes_away() {
    if !need(Privilege::Peer("strace")) {
        return;
    }
    let Some(client) = Client::new("exec sleep 1000") else { return };
    let create = client.creating(&[]);
    for n in 1..40 {
        // Of the runner itself: its child is another, and inherits what it holds.
        let inject = format!("inject=close:signal=KILL:when={n}");
        let mut traced = std::process::Command::new("strace");
        traced.args(["-o", "/dev/null", "-e", &inject]).arg(create.get_program()).args(create.get_args());
        let none = std::process::Stdio::null;
        let status = traced.stdin(none()).stdout(none()).stderr(none()).status().expect("run strace");
        client.call("delete --force").ok();
        client.call("state").fails(125);
        if status.success() {
            return;
        }
    }
}

/// Its first thread ends, the other goes on and writes.
const LEADERLESS: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
static void *beat(void *none) { for (;;) { write(1, "x", 1); usleep(5000); } return none; }
int main(void) { pthread_t other; pthread_create(&other, 0, beat, 0); pthread_exit(0); }
"#;

#[test]
fn a_container_whose_first_thread_has_ended_runs_and_can_be_ended() {
    if !need(Privilege::Peer("cc")) {
        return;
    }
    for (manager, ends) in
        [("", "kill"), ("", "delete --force"), ("--cgroup-manager disabled", "delete --force")]
    {
        let build = |bundle: bundle::Bundle| {
            compile(LEADERLESS, &bundle.rootfs("bin/leaderless")).expect("a C compiler");
            bundle.set("/process/args", json!(["leaderless"]))
        };
        let Some(client) = Client::of(build, "") else { return };
        let mut create = client.creating(&[]);
        if !manager.is_empty() {
            create = std::process::Command::new(coracle_tests::binaries::runner());
            create
                .arg("--root")
                .arg(client.file("state"))
                .args(manager.split(' '))
                .arg("create")
                .arg("--bundle");
            let out = fs::File::create(client.file("out")).expect("a file");
            create
                .arg(client.bundle.path())
                .arg(client.bundle.id())
                .stdout(out)
                .stdin(std::process::Stdio::null());
        }
        assert!(create.status().expect("run create").success());
        let pid = client.call("state").ok().json()["pid"].as_u64().expect("a pid");
        client.call("start").ok();
        client.wait_until("its other thread writes", || client.read("out").len() > 3);
        assert_eq!(client.status(), "running", "{manager}");
        client.call("delete").fails(125).complains("not stopped");
        let ending = client.call(ends);
        if ends == "kill" {
            ending.arg("KILL").ok()
        } else {
            ending.ok()
        };
        client.wait_until("it has ended", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            tasks < 2
        });
        let written = client.read("out").len();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(client.read("out").len(), written, "{manager} {ends}");
        client.call("delete --force").ok();
    }
}
#[test]
fn a_memory_limit_that_a_start_does_not_fit_in_is_named() {
    if !need(Privilege::Controller("memory")) {
        return;
    }
    let limit = |bundle: Bundle| bundle.set("/linux/resources/memory", json!({ "limit": 100 }));
    let Some(one) = Client::of(limit, "true") else { return };
    let says = "the memory limit is too low to start the container";
    for verb in ["create", "run", "run -d"] {
        let call = one.call(&format!("{verb} --bundle {}", one.bundle.path().display()));
        call.fails(125).complains(says);
        one.call("state").fails(125);
    }
}

#[test]
fn a_terminal_in_front_of_the_caller_has_its_size_from_the_first_moment() {
    if !need(Privilege::Peer("script")) {
        return;
    }
    let Some(one) = Client::of(|b| b.set("/process/terminal", json!(true)), "stty size") else { return };
    let run = format!(
        "stty rows 33 cols 77; exec {} --root {} run --bundle {} {}",
        coracle_tests::binaries::runner().display(),
        one.file("state").display(),
        one.bundle.path().display(),
        one.bundle.id()
    );
    Cmd::new("script").args(["-qec", &run, "/dev/null"]).ok().prints("33 77");
}

#[test]
fn a_container_in_front_of_its_caller_is_paused_and_deleted_by_others() {
    let Some(client) = Client::new("exec sleep 1000") else { return };
    let front = Cmd::runner()
        .arg("--root")
        .arg(client.file("state"))
        .args(["run", "--bundle"])
        .arg(client.bundle.path())
        .arg(client.bundle.id())
        .spawn();
    client.wait_until("it runs", || client.call("state").run().stdout.contains("running"));
    client.call("pause").ok();
    assert_eq!(client.status(), "paused");
    client.call("resume").ok();
    client.call("start").fails(125).complains("already running");
    client.call("delete").fails(125).complains("not stopped: running");
    client.call("pause").ok();
    client.call("delete --force").ok();
    assert_eq!(front.wait(Duration::from_secs(30)).expect("it ends").code(), 137);
    client.call("state").fails(125).complains("does not exist");
}
