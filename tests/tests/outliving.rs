//! No container outlives the runner that it has in the foreground, whatever its command does.

use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need};
use nix::sys::signal::Signal;

/// Clears its parent-death signal, as the kernel does it for whoever executes a setuid program.
const CLEARS_IT: &str = r#"
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    prctl(PR_SET_PDEATHSIG, 0);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}"#;

/// Takes PID 1 over, to stop it for ever or to make it clear the signal.
const TRACES_PID_1: &str = r#"
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/ptrace.h>
int main(void) {
    long seized = ptrace(PTRACE_SEIZE, 1, 0, 0);
    printf("seize: %s\n", seized ? strerror(errno) : "done");
    return seized ? 0 : 1;
}"#;

fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Peer("cc")) {
        return None;
    }
    let store = Store::new(name);
    let image = Image::busybox()?.program("clears-it", CLEARS_IT)?.program("traces", TRACES_PID_1)?;
    image.compose(&store, "box");
    Some(store)
}

#[test]
fn a_command_that_clears_the_parent_death_signal_dies_with_the_runner() {
    let Some(store) = store("outlive-clear") else { return };
    let mut flags = vec!["--no-init", "--no-init -t", "--cap-add SYS_PTRACE --no-init"];
    if nix::unistd::geteuid().is_root() {
        flags.push("--no-init --pid host");
    }
    for flags in flags {
        // A word of the command line tells this container's process from all others.
        let mark = format!("mark-{}-{}", std::process::id(), flags.len());
        let line = format!("run --name {mark} {flags} box /clears-it {mark}");
        let running = store.runner().words(&line).spawn();
        running.wait_for("ready");
        running.signal(Signal::SIGKILL);
        let _ = running.wait(Duration::from_secs(20));
        let alive = || Cmd::new("pgrep").args(["-xf", &format!("/clears-it {mark}")]).run().code() == 0;
        eventually(&format!("{flags}: the container ends with its runner"), || !alive());
        eventually("the sweep writes its end down", || {
            store.runner().words("ps -a").ok().stdout.contains("Exited (137)")
        });
        store.runner().words("rm").arg(&mark).ok();
    }
}

#[test]
fn a_guardian_ends_with_the_run_it_was_for() {
    let Some(store) = store("outlive-guardian") else { return };
    let mark = format!("mark-{}", std::process::id());
    store.run("--no-init --name").arg(&mark).words("box sh -c").arg("exit 3").fails(3);
    assert_ne!(Cmd::new("pgrep").args(["-f", &format!("--name {mark}")]).run().code(), 0);
}

#[test]
fn nobody_in_the_container_can_trace_its_init() {
    let Some(store) = store("outlive-trace") else { return };
    let output = store.run("box /traces").ok();
    assert_eq!(output.stdout, "seize: Operation not permitted\n");
    // What ps and its like read of PID 1 is there all the same.
    let output = store.run("box sh -c").arg("cut -c1-3 /proc/1/stat && ps -o pid,comm").ok();
    let listed = |line: &str| line.trim_start().starts_with("1 ") && line.contains("init");
    assert!(output.stdout.starts_with("1 (\n") && output.stdout.lines().any(listed), "{output}");
    // The command is as traceable as any other process.
    store.run("box sh -c").arg("ls /proc/self/fd/ >/dev/null && readlink /proc/$$/exe").ok();
}
