//! Endings: the exit code, what is left of the tree, and parents that die.

use super::*;
use coracle_tests::Scratch;

#[test]
fn the_exit_code_is_the_commands() {
    for place in places() {
        init_after(*place, &[], &["--", "true"]).ok();
        init_after(*place, &[], &["--", "sh", "-c", "exit 255"]).fails(255);
        let real_time: &[i32] =
            if emulated("keep the numbers of real-time signals") { &[] } else { &[40, 64] };
        for signal in [1, 6, 9, 11, 15].iter().chain(real_time) {
            let script = format!("kill -{signal} $$");
            init_after(*place, &[], &["--", "sh", "-c", &script]).fails(128 + signal);
        }
    }
}

#[test]
fn codes_that_are_named_become_zero() {
    let cases = [(143, 0), (0, 0), (7, 0), (8, 8), (255, 0)];
    for (code, becomes) in cases {
        let script = format!("exit {code}");
        let output = init(&["-e", "143", "-e7", "-e", "255", "--", "sh", "-c", &script]).run();
        assert_eq!(output.code(), becomes, "exit {code}");
    }
    init(&["-e", "143", "--", "sh", "-c", "kill -TERM $$"]).ok();
}

#[test]
fn a_command_that_cannot_start_says_why_in_one_line() {
    let scratch = Scratch::new("init-exec");
    let plain = scratch.write("plain", "text");
    let script = scratch.write("script", "exit 0\n");
    let orphaned = scratch.write("orphaned", "#!/no/such/interpreter\n");
    for file in [&script, &orphaned] {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (plain, script, orphaned, dir) = (path(&plain), path(&script), path(&orphaned), path(scratch.path()));
    for (command, code, why) in [
        ("no-such-command", 127, "not found"),
        ("/no/such/file", 127, "not found"),
        (&format!("{plain}/below"), 127, "not a directory"),
        ("", 127, "not found"),
        (&orphaned, 127, "not found"),
        (&plain, 126, "permission denied"),
        (&dir, 126, "permission denied"),
        (&script, 126, "not a program that this machine can execute"),
    ] {
        for place in places() {
            for options in [&[][..], &["--exec"]] {
                let words: Vec<&str> = options.iter().copied().chain(["--", command]).collect();
                let output = init_after(*place, &[], &words).run();
                assert_eq!(output.code(), code, "{command:?}");
                assert!(output.stderr.starts_with(&format!("init: {command}: ")), "{}", output.stderr);
                assert!(output.stderr.contains(why), "{}", output.stderr);
                assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
                assert_eq!(output.stdout, "");
            }
        }
    }
}

#[test]
fn a_command_is_looked_up_as_execvp_does() {
    let scratch = Scratch::new("init-path");
    scratch.write("a/tool", "not executable");
    let tool = scratch.write("b/tool", "#!/bin/sh\necho found by $0\n");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let path = format!("{0}/none:{0}/a:{0}/b", scratch.path().display());
    init(&["--", "tool"]).env("PATH", &path).ok().prints("b/tool");
    init(&["--exec", "--", "tool"]).env("PATH", &path).ok().prints("b/tool");
    init(&["--", "tool"]).env("PATH", path.trim_end_matches('b')).fails(126);
    init(&["--", "tool"]).env("PATH", "").dir(scratch.join("b")).ok().prints("found by");
    init(&["--", "sh", "-c", "echo found"]).env_remove("PATH").ok().prints("found");
}

/// A tree of three under init: the command ends at once, one child is left that says TERM and ends, and
/// one that ignores it.
const FAMILY: &str = "
    sh -c 'trap \"echo polite; exit 0\" TERM; echo one; while :; do sleep 0.05; done' &
    sh -c 'trap \"\" TERM; echo two; while :; do sleep 0.05; done' &
    sleep 0.3
    echo $! > $0
    exit 3";

#[test]
fn the_rest_of_the_tree_gets_term_and_then_a_grace_period() {
    if emulated("register subreapers") {
        return;
    }
    for place in places() {
        let scratch = Scratch::new("init-grace");
        let (_, file) = fresh(&scratch, "stubborn");
        let running = init_after(*place, &[], &["--grace", "0.5", "--", "sh", "-c", FAMILY, &file]).spawn();
        let output = running.wait(LIMIT).expect("init ends, and nobody holds its streams");
        assert_eq!(output.code(), 3, "{place:?}");
        assert!(output.stdout.contains("polite"), "{place:?}: {}", output.stdout);
    }
}

#[test]
fn grace_is_over_as_soon_as_nobody_is_left() {
    if emulated("register subreapers") {
        return;
    }
    for place in places() {
        // An hour's grace: that this test ends shows that it was not waited for.
        init_after(*place, &[], &["--grace", "3600", "--", "sh", "-c", "sleep 3000 & exit 4"]).fails(4);
        init_after(*place, &[], &["--grace", "3600", "--", "sh", "-c", "exit 5"]).fails(5);
        init_after(*place, &[], &["--grace", "3600", "--", "sh", "-c", "sleep 3000 & kill -STOP $!; exit 6"])
            .fails(6);
    }
}

#[test]
fn beside_pid_1_only_descendants_are_ended() {
    if emulated("register subreapers") {
        return;
    }
    // In the same session and process group as init, and a sibling of it.
    let script = format!(
        "sleep 1000 & other=$!; \"$@\" --grace 3600 -- sh -c 'setsid sh -c \"sleep 2000; :\" & sleep 0.2; exit 3'; \
         echo init left with $?; kill -0 $other && echo untouched; kill $other; {}",
        "wait"
    );
    let output = Cmd::new("sh").args(["-c", &script, "sh"]).args(command_line()).run();
    assert!(output.stdout.contains("init left with 3\nuntouched"), "{}{}", output.stdout, output.stderr);
}

#[test]
fn without_grace_pid_1_leaves_at_once() {
    if !need(Privilege::Containers) {
        return;
    }
    let running = init_after(Place::Pid1, &[], &["--", "sh", "-c", "sleep 3000 & exit 4"]).spawn();
    assert_eq!(running.wait(LIMIT).expect("the kernel ends the rest").code(), 4);
}

#[test]
fn a_killed_init_takes_its_command_with_it() {
    for place in places() {
        let started = watching(*place, &[], &[]);
        let command = started.command();
        kill(Pid::from_raw(started.pid), Signal::SIGKILL).expect("kill init");
        started.end().fails(137);
        eventually("the command is gone", || !lives(command));
    }
}

#[test]
fn a_parents_death_is_told() {
    let scratch = Scratch::new("init-parent");
    let (path, file) = fresh(&scratch, "told");
    let script = "\"$@\" & wait";
    let command = format!("trap 'echo told > {file}; exit 0' USR1; echo ready; while :; do sleep 0.05; done");
    let parent = Cmd::new("sh").args(["-c", script, "sh"]).args(command_line());
    let parent = parent.args(["-p", "USR1", "--", "sh", "-c", &command]).spawn();
    parent.wait_for("ready");
    parent.signal(Signal::SIGKILL);
    eventually("the command is told", || path.exists());
}

#[test]
fn a_parents_death_before_init_could_ask_for_it_is_told_as_well() {
    if !need(Privilege::Peer("strace")) || emulated("let strace delay its calls") {
        return;
    }
    // init is held in prctl until its parent is gone; the kernel tells of no death that was before.
    let script = "strace -D -o /dev/null -e trace=prctl -e inject=prctl:delay_enter=1500000 \"$@\" & \
                  for try in 1 2 3 4 5; do sleep 0.1; done; echo $!";
    let parent = Cmd::new("sh").args(["-c", script, "sh"]).args(command_line());
    let parent = parent.args(["-p", "KILL", "--", actor(), "sleep"]).spawn();
    let mut pid = 0;
    eventually("the parent names init and leaves", || {
        pid = parent.stdout_so_far().trim().parse().unwrap_or(0);
        pid != 0
    });
    eventually("init is gone", || !lives(pid));
}
