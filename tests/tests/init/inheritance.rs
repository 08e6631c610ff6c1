//! Inheritance: what init was given is its command's, and init keeps none of it.

use super::*;
use coracle_tests::Scratch;

#[test]
fn a_command_needs_no_dashes() {
    init(&["ls", "-l", "/"]).ok().prints("etc");
    init(&["sh", "-c", "exit 7"]).fails(7);
    let s: &[&str] = if emulated("register subreapers") { &["-g"] } else { &["-s", "-g"] };
    init(&[s, &["sh", "-c", "exit 8", "-v"]].concat()).fails(8);
    init(&["sh", "-c", "echo $0 $1", "--", "-v"]).ok().prints("-- -v");
}

#[test]
fn closed_standard_descriptors_do_no_harm() {
    for place in places() {
        for closed in [
            &["close", "0"][..],
            &["close", "1"],
            &["close", "2"],
            &["close", "0", "close", "1", "close", "2"],
        ] {
            for options in [&["--"][..], &["-vvv", "-w", "--grace", "0.1", "--"]] {
                let words: Vec<&str> =
                    options.iter().copied().chain(["sh", "-c", "kill -0 $$ && exit 5"]).collect();
                init_after(*place, closed, &words).fails(5);
            }
        }
    }
}

#[test]
fn a_descriptor_that_the_command_closes_is_closed() {
    for place in open_places() {
        // 9 is a copy of stdout; the sleeper has none of the three streams.
        let script = "exec 9>&1; exec \"$@\"";
        let payload = "echo inherited >&9; exec 9>&- >&- 2>&- <&-; exec sleep 1000";
        let place: &[&str] = if *place == Place::Pid1 { &["pid1"] } else { &[] };
        // The wrapper must not hold them either: it leaves, and init goes on.
        let inner = Cmd::new("sh").args(["-c", &format!("({script}) & echo $!"), "sh", actor()]);
        let running = inner.args(place).args(command_line()).args(["--", "sh", "-c", payload]).spawn();
        running.wait_for("inherited");
        if place.is_empty() {
            let output =
                running.wait(LIMIT).unwrap_or_else(|sofar| panic!("someone holds a stream\n{sofar}"));
            let init: i32 = output.stdout.lines().find_map(|line| line.parse().ok()).expect("a pid");
            assert!(lives(init));
            kill(Pid::from_raw(init), Signal::SIGTERM).expect("end it");
        } else {
            // `pid1` waits outside and has copies itself: look at init's own table.
            let outer: i32 =
                running.stdout_so_far().lines().find_map(|line| line.parse().ok()).expect("a pid");
            let init = child_of(outer);
            eventually("init holds nothing but its signals", || {
                open_files(init) == ["anon_inode:[signalfd]"]
            });
            kill(Pid::from_raw(init), Signal::SIGKILL).expect("end it");
        }
    }
}

/// Where init can be looked into: as PID 1 it hides from everyone but root.
fn open_places() -> impl Iterator<Item = &'static Place> {
    let root = nix::unistd::geteuid().is_root();
    places().iter().filter(move |place| root || **place != Place::Pid1)
}

/// What the descriptors of a process are.
fn open_files(pid: i32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

#[test]
fn init_holds_no_descriptor_but_its_own() {
    if emulated("keep to the program's descriptors") {
        return;
    }
    for place in open_places() {
        let started = watching(*place, &[], &[]);
        assert_eq!(open_files(started.pid), ["anon_inode:[signalfd]"], "{place:?}");
        started.kill();
        // To speak it needs stderr, and nothing else.
        let started = watching(*place, &[], &["-v"]);
        assert_eq!(open_files(started.pid).len(), 2, "{place:?}");
        started.kill();
    }
}

#[test]
fn init_stays_out_of_the_working_directory() {
    let scratch = Scratch::new("init-cwd");
    let dir = scratch.path().canonicalize().expect("the folder's real name");
    for place in places() {
        let command =
            init_after(*place, &[], &["--", "sh", "-c", "pwd -P; echo up; exec sleep 1000"]).dir(&dir);
        let started = Started::with(command, *place, &[], "up");
        assert!(started.running.stdout_so_far().contains(dir.to_str().expect("UTF-8")));
        let own = std::fs::read_link(format!("/proc/{}/cwd", started.pid)).expect("read the link");
        assert_eq!(own, Path::new("/"));
        started.kill();
    }
}

#[test]
fn listening_sockets_are_handed_on() {
    let show = "echo $$ $LISTEN_PID $LISTEN_FDS $NOTIFY_SOCKET $LISTEN_PIDFDID.";
    let start = "LISTEN_PID=$$ LISTEN_PIDFDID=12 LISTEN_FDS=1 NOTIFY_SOCKET=/run/n exec \"$@\"";
    let output =
        Cmd::new("sh").args(["-c", start, "sh"]).args(command_line()).args(["--", "sh", "-c", show]).ok();
    let words: Vec<&str> = output.text().split(' ').collect();
    assert_eq!((words[0], &words[1..]), (words[1], &[words[0], "1", "/run/n", "."][..]), "{}", output.stdout);
    if need(Privilege::Containers) {
        let output = init_after(Place::Pid1, &[], &["--", "sh", "-c", "echo $$ $LISTEN_PID"])
            .env("LISTEN_PID", "1")
            .ok();
        let (own, told) = output.text().split_once(' ').expect("two words");
        assert_eq!(own, told);
    }
    // What was meant for another process stays so.
    init(&["--", "sh", "-c", "echo $LISTEN_PID"]).env("LISTEN_PID", "1").ok().prints("1\n");
}

#[test]
fn what_is_malformed_is_refused_by_a_line_that_names_it() {
    for (words, named) in [
        (&["-x", "true"][..], "-x"),
        (&["--frobnicate", "true"], "--frobnicate"),
        (&["-p", "SIGNOPE", "true"], "SIGNOPE"),
        (&["-p"], "-p"),
        (&["-e", "256", "true"], "256"),
        (&["-e", "-1", "true"], "-1"),
        (&["-e", "seven", "true"], "seven"),
        (&["--grace", "-1", "true"], "--grace"),
        (&["--drain", "soon", "true"], "--drain"),
        (&["--rewrite", "TERM", "true"], "TERM"),
        (&["--rewrite", "TERM:NOPE", "true"], "TERM:NOPE"),
        (&["--rewrite", "KILL:TERM", "true"], "KILL:TERM"),
        (&["--error-fd", "x", "true"], "x"),
        (&["--error-fd", "77", "true"], "77"),
        (&[], "no command"),
        (&["--"], "no command"),
    ] {
        let output = init(words).fails(1);
        assert!(
            output.stderr.starts_with("init: ") && output.stderr.contains(named),
            "{words:?}: {}",
            output.stderr
        );
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
    for value in ["-1", "", "loud", "1 ", "256"] {
        let output = init(&["true"]).env("TINI_VERBOSITY", value).fails(1);
        assert!(output.stderr.contains("TINI_VERBOSITY"), "{}", output.stderr);
    }
}

#[test]
fn the_environment_speaks_as_tinis_does() {
    init(&["true"]).env("TINI_VERBOSITY", "2").ok().complains("left with exit code 0");
    assert_eq!(init(&["true"]).env("TINI_VERBOSITY", "1").ok().stderr, "");
    if !emulated("register subreapers") {
        init(&["true"]).env("TINI_SUBREAPER", "").ok();
    }
    let command =
        init_after(Place::Beside, &[], &["--", "sh", "-c", FAMILY]).env("TINI_KILL_PROCESS_GROUP", "");
    let started = Started::with(command, Place::Beside, &[], "up");
    started.send(10);
    let output = started.end();
    assert_eq!(output.code(), 138);
    assert!(output.stdout.contains("the child as well"), "{}", output.stdout);
}

/// A command whose child says that the signal reached it.
const FAMILY: &str =
    "sh -c 'trap \"echo the child as well; exit\" USR1; echo up; while :; do sleep 0.05; done' & wait";

#[test]
fn help_version_and_license_go_to_stdout() {
    for (word, text) in
        [("-h", "usage: init"), ("--help", "--grace"), ("--version", "coracle-init 0."), ("-l", "Apache")]
    {
        let output = init(&[word]).ok();
        assert!(output.stdout.contains(text) && output.stderr.is_empty(), "{word}: {}", output.stdout);
    }
}
