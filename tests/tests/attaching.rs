//! Which streams of a container somebody is attached to, what becomes of signals, and how a container is left:
//! `docker_daily.rs` compares what is printed with docker's.

use std::time::Duration;

use coracle_tests::Store;
use nix::sys::signal::Signal;

const BOTH: &str = "echo out; echo err >&2; exit 4";

#[test]
fn what_is_not_attached_is_in_the_log_and_nowhere_else() {
    let Some(store) = Store::with_box("attaching-streams") else { return };
    for (n, (flags, out, err)) in [
        ("-a stdout", "out\n", ""),
        ("--attach=STDERR", "", "err\n"),
        ("-a stderr -a stdout", "out\n", "err\n"),
        ("-a stdin", "", ""),
        ("-t -a stderr", "", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let run = store.runner().words(&format!("run {flags} --name c{n} box sh -c")).arg(BOTH).run();
        assert_eq!((run.code(), &*run.stdout, &*run.stderr), (4, out, err), "{flags}");
        let logs = store.runner().words(&format!("logs c{n}")).ok();
        let all = format!("{}{}", logs.stdout, logs.stderr).replace('\r', "");
        assert_eq!(all, "out\nerr\n", "{flags}");
    }
    let typed = store.runner().words("run --rm -i -a stdout box cat").stdin("typed\n").ok();
    assert_eq!(typed.stdout, "typed\n");
    // Who starts it anew sees all of it.
    let again = store.runner().words("start -a c0").fails(4);
    assert_eq!((&*again.stdout, &*again.stderr), ("out\n", "err\n"));
}

#[test]
fn streams_that_are_none_or_cannot_be_attached_to_are_named() {
    let Some(store) = Store::with_box("attaching-words") else { return };
    for (words, says) in [
        ("run -a nosuch box true", "--attach \"nosuch\": it is stdin, stdout or stderr"),
        ("create -a out box", "--attach \"out\""),
        ("run -d -a stdout box true", "conflicting options: cannot specify both --attach and --detach"),
        ("run --sig-proxy=maybe box true", "--sig-proxy takes true or false"),
        ("start -a one two", "you cannot start and attach multiple containers at once"),
        ("start -i one two", "you cannot start and attach multiple containers at once"),
    ] {
        store.runner().words(words).fails(125).complains(says);
    }
    assert_eq!(store.runner().words("ps -aq").ok().stdout, "", "nothing was made");
}

#[test]
fn a_signal_that_is_not_passed_on_leaves_the_container_which_goes_on() {
    let Some(store) = Store::with_box("attaching-signals") else { return };
    let script = "trap 'echo heard' TERM; echo begun; while :; do sleep 0.05; done";
    let run = store.runner().words("run --name c --sig-proxy=false box sh -c").arg(script).spawn();
    run.wait_for("begun");
    run.signal(Signal::SIGTERM);
    let left = run.wait(Duration::from_secs(20)).expect("it ends");
    left.fails(143).complains("left the container c, which goes on");
    let attach = store.runner().words("attach --no-stdin --sig-proxy=false c").spawn();
    std::thread::sleep(Duration::from_millis(300));
    attach.signal(Signal::SIGINT);
    attach.wait(Duration::from_secs(20)).expect("it ends").fails(130).complains("left the container c");
    // Passed on, the container has it.
    let attach = store.runner().words("start -a c").spawn();
    std::thread::sleep(Duration::from_millis(300));
    attach.signal(Signal::SIGTERM);
    attach.wait_for("heard");
    store.runner().words("kill c").ok();
    assert_eq!(attach.wait(Duration::from_secs(20)).expect("it ends").code(), 137);
    assert!(!store.runner().words("logs c").ok().stdout.is_empty());
}

#[test]
fn whoever_is_called_docker_still_is_after_it_has_executed_itself_once_more() {
    let Some(store) = Store::with_box("attaching-docker") else { return };
    let docker = |words: &str| store.docker().words(words);
    docker("start -a one two").fails(1).complains("multiple containers");
    docker("run -d -a stdout box true").fails(1).complains("conflicting options");
    // What stands before the command is docker's, and it is read again.
    assert_eq!(docker("--config /tmp run --privileged --rm box echo hi").ok().stdout, "hi\n");
    docker(
        "--config /tmp run -d --privileged --name c --health-cmd true --health-interval 100ms box sleep 1000",
    )
    .ok();
    coracle_tests::eventually("its health is probed", || {
        docker("inspect -f {{.State.Health.Status}} c").ok().text() == "healthy"
    });
    docker("rm -f c").ok();
    let version = docker("--version").ok().stdout;
    assert!(version.starts_with("Docker version ") && version.contains(", build "), "{version}");
    assert_eq!(docker("-v").ok().stdout, version);
}
