//! What the runtime says to a hand that types: of containers that are not there or are another's, of verbs and flags that
//! are mistyped or stand elsewhere, of places that cannot be used. Each is one line, told before anything is done.

use std::fs;

use coracle_tests::bundle::Bundle;
use coracle_tests::oci::Client;
use coracle_tests::{Cmd, Privilege, Store, binaries, need};
use serde_json::json;

/// One line on standard error, with these words in it, and the runner's own exit code.
#[track_caller]
fn says(call: Cmd, words: &str) {
    let output = call.fails(125).complains(words);
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

#[test]
fn a_container_of_an_image_is_told_from_one_that_is_not_there() {
    if !need(Privilege::Root) {
        return;
    }
    let store = Store::new("words");
    let Some(image) = coracle_tests::rootfs::Image::busybox() else { return };
    image.compose(&store, "box");
    // Without --root, which only clients of OCI runtimes say.
    let runner = || Cmd::runner().env("CORACLE_STORE", store.path());
    runner().words("create --name words-of-image box true").ok();
    for verb in ["state", "delete", "delete -f", "events", "ps"] {
        let call = |id: &str| runner().words(verb).arg(id);
        says(call("words-of-image"), "is a container of an image: runner ps -a, runner rm");
        if verb != "delete -f" {
            says(call("words-of-nobody"), "container does not exist: \"words-of-nobody\"");
        }
    }
    for line in
        ["exec words-of-nobody true", "exec -d words-of-nobody true", "exec --cwd / words-of-nobody true"]
    {
        says(runner().words(line), "No such container: words-of-nobody");
    }
    says(runner().words("exec --cwd / words-of-image true"), "this flag is for those of OCI clients");
    says(runner().words("kill words-of-nobody WRONG"), "No such container: words-of-nobody");
    says(runner().words("kill words-of-image WRONG"), "WRONG");
    runner().words("rm words-of-image").ok();
}

#[test]
fn a_mistyped_verb_or_place_is_answered_with_what_was_meant() {
    for (line, words) in [
        ("exce x", "unknown command: exce (did you mean exec?)"),
        ("iamges", "(did you mean images?)"),
        ("xyzzy", "unknown command: xyzzy (see runner --help)"),
        ("checkpoint x", "checkpoint: not supported: there is no CRIU here"),
        ("restore x", "restore: not supported"),
        ("spec --foo", "see spec --help"),
        ("--log /no/such/place list", "--log: open(\"/no/such/place\""),
        ("--root /proc/none list", "mkdir(\"/proc/none\""),
        ("--root /etc/passwd list", "/etc/passwd"),
        ("run --bundle /tmp .", "the name of a folder"),
        ("create --bundle /no-such-bundle x", "no-such-bundle"),
        ("create --bundle /etc x", "JSON specification file /etc/config.json not found"),
    ] {
        says(Cmd::runner().words(line), words);
    }
    says(Cmd::runner().words("run --bundle /tmp").arg(""), "the id is empty");
    let version = Cmd::runner().arg("--version").ok().prints("\nspec: 1.").stdout;
    // Of a build that nobody told its commit there is no line with nothing in it.
    let lines: Vec<&str> = version.lines().map(|l| l.split(' ').next().expect("a word")).collect();
    assert!(matches!(lines[..], ["runner", "spec:"] | ["runner", "commit:", "spec:"]), "{version}");
    assert!(version.lines().all(|l| l.split(": ").nth(1).is_none_or(|said| !said.is_empty())), "{version}");
}

#[test]
fn a_bundle_may_be_named_behind_the_id_and_a_pid_file_comes_before_the_command() {
    let Some(one) = Client::new("echo ran > ran; echo out") else { return };
    let bundle = one.bundle.path().display().to_string();
    let run = |words: &str| Cmd::runner().arg("--root").arg(one.file("state")).words(words);
    let id = one.bundle.id();
    says(run(&format!("run --bundle {bundle} --pid-file /no/such/file {id}")), "--pid-file");
    assert!(!one.file("rootfs/ran").exists(), "the command ran without its pid file");
    run(&format!("run {id} -b {bundle}")).ok().prints("out");
    run(&format!("run {id} --bundle={bundle}")).ok().prints("out");
    let file = one.file("pid");
    run(&format!("run {id} --bundle={bundle} --pid-file {}", file.display())).ok();
    assert!(one.read("pid").parse::<u32>().is_ok());
    fs::remove_file(&file).expect("remove the pid file");
}

#[test]
fn a_link_named_runc_is_runc() {
    let Some(one) = Client::new("exec >/dev/null 2>&1; sleep 1000 & wait") else { return };
    let link = one.file("runc");
    std::os::unix::fs::symlink(binaries::runner(), &link).expect("link");
    let runc = |words: &str| Cmd::new(&link).dir(one.bundle.path()).words(words);
    let id = one.bundle.id();
    // No --root, no --bundle, and a name that could be an image's: it is the bundle in this folder.
    runc(&format!("run -d {id}")).ok();
    let pid = &runc(&format!("state {id}")).ok().json()["pid"];
    if nix::unistd::geteuid().is_root() {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
        assert!(groups.lines().any(|line| line.ends_with(&format!("/{id}"))), "{id}: {groups}");
    }
    runc(&format!("exec {id} true")).ok();
    runc(&format!("state {id}")).ok().prints("running");
    for (words, code, names) in [
        (format!("exec {id} /nosuch"), 255, "/nosuch"),
        ("exec nobody true".to_owned(), 255, "does not exist"),
        (format!("exec --nosuch {id} true"), 1, "--nosuch"),
        (format!("run {id}"), 1, &*id),
        ("run --bundle /nosuch other".to_owned(), 1, "/nosuch"),
        ("create -b /etc other".to_owned(), 1, "/etc/config.json"),
        ("state nobody".to_owned(), 1, "does not exist"),
        ("kill nobody".to_owned(), 1, "does not exist"),
        ("start nobody".to_owned(), 1, "does not exist"),
        ("--nosuch list".to_owned(), 1, "--nosuch"),
    ] {
        let failed = runc(&words).fails(code).complains(names);
        assert_eq!(failed.stderr.lines().count(), 1, "{words}: {failed}");
    }
    runc(&format!("exec {id} sh -c")).arg("exit 42").fails(42);
    runc(&format!("delete -f {id}")).ok();
    runc("create other").dir("/").fails(1).complains("config.json");
}

#[test]
fn a_broken_state_is_named_until_it_is_deleted_by_force() {
    let Some(one) = Client::new("true") else { return };
    let dir = one.file("state");
    fs::create_dir_all(&dir).expect("make the folder");
    fs::write(dir.join("broken.json"), "junk").expect("write");
    let call = |words: &str| Cmd::runner().arg("--root").arg(&dir).words(words);
    for _ in 0..2 {
        let listed = call("list -q").ok();
        assert!(listed.stderr.contains("broken.json") && listed.stderr.lines().count() == 1, "{listed}");
    }
    says(call("state broken"), "broken.json");
    says(call("delete broken"), "broken.json");
    assert!(call("delete -f broken").ok().stderr.contains("broken.json"));
    assert_eq!(call("list -q").ok().stderr, "");
}

#[test]
fn what_update_does_not_do_is_said_and_a_file_of_limits_says_all() {
    if !need(Privilege::Controller("pids")) {
        return;
    }
    let Some(one) =
        Client::of(|b: Bundle| b.set("/linux/resources/pids", json!({"limit": 50})), "sleep 1000")
    else {
        return;
    };
    one.create(&[]);
    let file = one.file("limits.json");
    fs::write(&file, r#"{"pids": {"limit": 40}}"#).expect("write");
    let output = one.call(&format!("update -r {} --pids-limit 7 --kernel-memory 5", file.display())).ok();
    assert!(output.stderr.contains("other limits are ignored"), "{output}");
    assert!(output.stderr.contains("--kernel-memory does nothing"), "{output}");
    let stats = one.call("events --stats").ok().json();
    assert_eq!(stats["data"]["pids"]["limit"], 40, "{stats}");
    one.call("update -r -").fails(125).complains("standard input");
    one.call("start").ok();
    let exec = |flag: &str| one.call(&format!("exec {flag}")).arg("true");
    if !fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|l| l.contains("apparmor")) {
        exec("--apparmor none-such").fails(125).complains("process.apparmorProfile \"none-such\"");
    }
    if !fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|l| l.contains("selinux")) {
        exec("--process-label none-such").fails(125).complains("process.selinuxLabel");
    }
    exec("--apparmor unconfined").ok();
}
