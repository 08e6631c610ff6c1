//! What goes beyond tini: the whole tree, a delay, rewrites, the exec-only mode.

use super::*;
use coracle_tests::Scratch;

#[test]
fn the_whole_tree_is_waited_for() {
    if emulated("register subreapers") {
        return;
    }
    for place in places() {
        let script = "sh -c 'sleep 0.5; echo last' & exit 3";
        let output = init_after(*place, &[], &["--wait-all", "--", "sh", "-c", script]).fails(3);
        assert_eq!(output.text(), "last", "{place:?}");
    }
}

#[test]
fn term_goes_to_all_that_is_waited_for_and_grace_begins() {
    if emulated("register subreapers") {
        return;
    }
    for place in places() {
        let script = "sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.05; done' & exit 3";
        let words = ["--wait-all", "--grace", "0.3", "--", "sh", "-c", script];
        let started = Started::new(*place, &[], &words, "up");
        // Before the command has ended or after: the rest is asked in either case.
        started.send(15);
        assert!([3, 143].contains(&started.end().code()), "{place:?}");
    }
}

#[test]
fn the_first_term_is_held_back_and_others_are_not() {
    for place in places() {
        let started = watching(*place, &[], &["--drain", "1"]);
        started.send(15);
        started.send(10);
        started.prints("signal 15 ");
        let output = started.kill();
        let arrived: Vec<&str> =
            output.stdout.lines().filter_map(|line| line.strip_prefix("signal ")).collect();
        assert!(
            arrived.len() == 2 && arrived[0].starts_with("10 ") && arrived[1].starts_with("15 "),
            "{arrived:?}"
        );
        // A second one is not: it ends an hour's wait.
        let started = watching(*place, &[], &["--drain", "3600"]);
        started.send(15);
        started.send(10);
        started.prints("signal 10 ");
        started.send(15);
        started.prints("signal 15 ");
        started.kill();
    }
}

#[test]
fn a_command_that_ends_while_term_is_held_back_ends_init() {
    let started = Started::new(
        Place::Beside,
        &[],
        &["--drain", "3600", "--", "sh", "-c", "echo up; sleep 0.5; exit 4"],
        "up",
    );
    started.send(15);
    started.end().fails(4);
}

#[test]
fn signals_are_rewritten() {
    if emulated("keep the numbers of real-time signals") {
        return;
    }
    for place in places() {
        let options = ["--rewrite", "TERM:QUIT", "--rewrite", "SIGRTMIN+3:SIGUSR1", "--rewrite=HUP:0"];
        let started = watching(*place, &[], &options);
        for (sent, arrives) in [(1, ""), (15, "signal 3 "), (37, "signal 10 "), (12, "signal 12 ")] {
            started.send(sent);
            started.prints(arrives);
        }
        let output = started.kill();
        assert_eq!(output.stdout.matches("signal ").count(), 3, "{}", output.stdout);
    }
    // A stopped command is ended all the same.
    let words = ["--rewrite", "TERM:INT", "--", "sh", "-c", "echo up; kill -STOP $$"];
    let started = Started::new(Place::Beside, &[], &words, "up");
    let command = started.command();
    eventually("the command is stopped", || status(command, "State").starts_with('T'));
    started.send(15);
    started.end().fails(130);
}

#[test]
fn how_the_command_died_is_said() {
    let output = init(&["-v", "--", "sh", "-c", "kill -SEGV $$"]).fails(139);
    assert!(output.stderr.contains("was killed by signal 11 SEGV"), "{}", output.stderr);
    assert!(output.stderr.contains("(user 0.0") && output.stderr.contains(" kB)"), "{}", output.stderr);
    assert!(init(&["-vv", "--", "true"]).ok().stderr.contains("left with exit code 0"));
}

#[test]
fn exec_only_becomes_the_command() {
    if emulated("leave blocked and ignored signals alone") {
        return;
    }
    for place in places() {
        let output = init_after(
            *place,
            &["ignore", "12", "block", "10"],
            &["--exec", "--", "grep", "-E", "Pid|Sig(Blk|Ign)", "/proc/self/status"],
        )
        .ok();
        let bare = Cmd::new(actor())
            .args(["ignore", "12", "block", "10", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
            .ok();
        assert!(
            bare.stdout.lines().all(|line| output.stdout.contains(line)),
            "{}{}",
            bare.stdout,
            output.stdout
        );
    }
    let running = init(&["--exec", "--", actor(), "watch"]).spawn();
    running.wait_for("ready");
    assert!(running.stdout_so_far().contains(&format!("ready {}", running.pid())));
}

#[test]
fn a_failed_exec_is_reported_on_a_descriptor() {
    let scratch = Scratch::new("init-error-fd");
    let file = scratch.join("error");
    for mode in ["--exec", "-g"] {
        for (command, code, errno) in [("no-such-command", 127, libc::ENOENT), ("/", 126, libc::EACCES)] {
            let script = "exec \"$@\" 7>\"$FILE\"";
            let command = Cmd::new("sh")
                .args(["-c", script, "sh"])
                .args(command_line())
                .env("FILE", &file)
                .args([mode, "--error-fd", "7", "--", command]);
            assert_eq!(command.fails(code).stderr, "", "the caller says it");
            let bytes = std::fs::read(&file).expect("read the report");
            assert_eq!(bytes, errno.to_ne_bytes(), "{mode}");
        }
        // The command has no such descriptor.
        let script = "exec \"$@\" 7>\"$FILE\"";
        let command = Cmd::new("sh").args(["-c", script, "sh"]).args(command_line()).env("FILE", &file);
        command.args([mode, "--error-fd", "7", "--", "sh", "-c", "test ! -e /proc/self/fd/7"]).ok();
        assert_eq!(std::fs::read(&file).expect("read the report"), b"");
    }
}

#[test]
fn no_file_system_is_needed() {
    // A change of the root, which an ordinary user may make only in a user namespace.
    if !coracle_tests::need(coracle_tests::Privilege::Root) {
        return;
    }
    if !need(Privilege::Containers) || emulated("do without /proc") {
        return;
    }
    // A root that holds one program: no /proc, no /dev, no libraries.
    let scratch = Scratch::new("init-bare");
    std::fs::copy(actor(), scratch.join("actor")).expect("copy the actor");
    std::fs::copy(&command_line()[0], scratch.join("init")).expect("copy init");
    for place in places() {
        let place: &[&str] = if *place == Place::Pid1 { &["pid1"] } else { &[] };
        for (words, code) in [
            (&["--", "/actor", "leave", "5"][..], 5),
            (&["--grace", "0.1", "--", "/actor", "living", "3", "leave", "6"], 6),
            (&["/none"], 127),
        ] {
            let root = scratch.path().to_str().expect("UTF-8");
            Cmd::new(actor()).args(["root", root, "/actor"]).args(place).arg("/init").args(words).fails(code);
        }
    }
}
