//! Signals: none is lost, none is made up, each arrives as it was sent.

use super::*;

/// The signals that tell of a fault of the process itself, when it is the kernel that sends them.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// How often a signal is in the output of `watch`.
fn count(output: &str, signal: i32) -> usize {
    output.lines().filter(|line| line.starts_with(&format!("signal {signal} "))).count()
}

#[test]
fn a_signal_before_the_group_exists_is_not_lost() {
    for place in places() {
        // It is pending before init has even begun, so it is forwarded before the child's group can be.
        let rounds = if *place == Place::Beside { 200 } else { 50 };
        for round in 0..rounds {
            let started = watching(*place, &["raise", "10"], &["-g"]);
            started.prints("signal 10 ");
            let output = started.kill();
            assert_eq!(count(&output.stdout, 10), 1, "{place:?}, round {round}: {}", output.stdout);
        }
    }
}

#[test]
fn a_signal_between_fork_and_exec_has_its_effect() {
    for place in places() {
        for _ in 0..50 {
            let running = init_after(*place, &[], &["--", actor(), "sleep"]).spawn();
            let mut pid = running.pid() as i32;
            if *place == Place::Pid1 {
                pid = child_of(pid);
            }
            // As soon as the child is there, before or after its exec.
            let child = child_of(pid);
            kill(Pid::from_raw(child), Signal::SIGTERM).expect("send TERM to the child");
            let output = running.wait(LIMIT).unwrap_or_else(|sofar| panic!("TERM was swallowed\n{sofar}"));
            assert_eq!(output.code(), 143);
        }
    }
}

#[test]
fn an_ignored_sigchld_does_not_hide_the_exit_code() {
    for place in places() {
        init_after(*place, &["ignore", "17"], &["--", actor(), "leave", "7"]).fails(7);
    }
}

#[test]
fn a_full_stderr_stops_nothing_and_stdout_stays_the_commands() {
    let started = watching(Place::Beside, &["full-stderr"], &["-vvv", "-w"]);
    for _ in 0..100 {
        started.send(40);
    }
    eventually("100 signals arrive", || count(&started.running.stdout_so_far(), 40) == 100);
    let output = started.kill();
    let ours =
        output.stdout.lines().filter(|line| !line.starts_with("signal ") && !line.starts_with("ready "));
    assert_eq!(ours.count(), 0, "{}", output.stdout);
}

#[test]
fn term_ends_a_stopped_command() {
    for place in places() {
        for options in [&[][..], &["-g"]] {
            let words: Vec<&str> =
                options.iter().copied().chain(["--", "sh", "-c", "echo up; kill -STOP $$"]).collect();
            let started = Started::new(*place, &[], &words, "up");
            let command = started.command();
            eventually("the command is stopped", || status(command, "State").starts_with('T'));
            started.send(15);
            started.end().fails(143);
        }
    }
}

#[test]
fn real_time_signals_are_all_forwarded() {
    for place in places() {
        let started = watching(*place, &[], &[]);
        for signal in 34..=64 {
            started.send(signal);
        }
        for signal in 34..=64 {
            started.prints(&format!("signal {signal} "));
        }
        started.kill();
    }
}

#[test]
fn queued_signals_all_arrive_in_order_with_their_values() {
    if emulated("queue signals with their values") {
        return;
    }
    for place in places() {
        for options in [&[][..], &["-g"]] {
            let started = watching(*place, &[], options);
            Cmd::new(actor()).args(["queue", &started.pid.to_string(), "40", "200"]).ok();
            started.prints("value 1199");
            let output = started.kill();
            let values: Vec<_> =
                output.stdout.lines().filter(|line| line.starts_with("signal 40 code -1 ")).collect();
            let expected: Vec<_> = (1000..1200).map(|n| format!("signal 40 code -1 value {n}")).collect();
            assert_eq!(values, expected, "{place:?} {options:?}");
        }
    }
}

#[test]
fn signals_of_the_c_library_do_not_kill_init() {
    if emulated("let signals 32 and 33 through") {
        return;
    }
    for place in places() {
        let started = watching(*place, &[], &[]);
        for signal in [32, 33] {
            started.send(signal);
            started.prints(&format!("signal {signal} "));
        }
        started.kill();
    }
}

#[test]
fn signals_that_mean_a_fault_are_forwarded_when_they_are_sent() {
    if emulated("let signals through that mean a fault") {
        return;
    }
    for place in places() {
        let started = watching(*place, &[], &[]);
        for signal in FAULTS {
            started.send(signal);
            started.prints(&format!("signal {signal} "));
        }
        started.kill();
    }
}

#[test]
fn every_other_signal_arrives_as_itself_and_once() {
    for place in places() {
        let started = watching(*place, &[], &[]);
        let signals = (1..=31).filter(|signal| ![9, 17, 19].contains(signal) && !FAULTS.contains(signal));
        for signal in signals.clone() {
            started.send(signal);
            started.prints(&format!("signal {signal} "));
        }
        let output = started.kill();
        for signal in signals {
            // A CONT follows a TERM only where something is stopped.
            assert_eq!(count(&output.stdout, signal), 1, "{place:?}, signal {signal}: {}", output.stdout);
        }
    }
}

#[test]
fn a_stop_from_the_keyboard_reaches_the_command_as_what_it_is() {
    for place in places() {
        let started =
            Started::new(*place, &[], &["--", "sh", "-c", "echo up; while :; do sleep 1; done"], "up");
        let command = started.command();
        started.send(20);
        eventually("the command is stopped", || status(command, "State").starts_with('T'));
        started.send(18);
        eventually("the command goes on", || !status(command, "State").starts_with('T'));
        started.kill();
    }
}

#[test]
fn ignored_and_blocked_signals_pass_to_the_command_unchanged() {
    if emulated("leave blocked and ignored signals alone") {
        return;
    }
    let masks = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let before =
        ["ignore", "1", "ignore", "17", "ignore", "22", "ignore", "40", "block", "12", "block", "21"];
    let bare = Cmd::new(actor()).args(before).args(masks).ok().stdout;
    assert!(bare.contains("SigBlk:\t0000000000100800"), "{bare}");
    for place in places() {
        let words: Vec<&str> = ["--"].into_iter().chain(masks).collect();
        assert_eq!(init_after(*place, &before, &words).ok().stdout, bare, "{place:?}");
        // Nor is anything blocked or ignored that was not, TTIN and TTOU among them.
        let plain = init_after(*place, &[], &words).ok().stdout;
        assert_eq!(plain, Cmd::new(actor()).args(masks).ok().stdout, "{place:?}");
    }
}
