//! Reaping: every orphan, in bounded memory, whatever state it is in.

use super::*;

#[test]
fn an_orphan_that_asked_to_be_traced_is_let_go() {
    if emulated("trace") {
        return;
    }
    for place in places() {
        for signal in ["10", "15", "6"] {
            init_after(*place, &[], &["--", actor(), "traced-orphan", signal]).ok().prints("gone");
        }
    }
}

#[test]
fn a_command_that_asked_to_be_traced_runs_on() {
    if emulated("trace") {
        return;
    }
    for place in places() {
        // A signal does what it does, and the trap of an execve does nothing.
        init_after(*place, &[], &["--", actor(), "traced", "10"]).fails(138);
        init_after(*place, &[], &["--", actor(), "traced", "28", "leave", "5"]).fails(5);
        init_after(*place, &[], &["--", actor(), "traced", "0", "sh", "-c", "exit 6"]).fails(6);
    }
}

/// How many children init has that nobody has reaped.
fn zombies(init: i32) -> usize {
    children(init).iter().filter(|child| status(**child, "State").starts_with('Z')).count()
}

#[test]
fn deaths_among_thousands_of_the_living_are_all_seen() {
    if emulated("register subreapers") {
        return;
    }
    for place in places() {
        let words = ["--", actor(), "living", "2000", "orphans", "2000", "sleep"];
        let started = Started::new(*place, &[], &words, "made");
        // All but the living and the command, however few of the deaths were told.
        eventually("the dead are reaped", || children(started.pid).len() == 2001);
        let living = children(started.pid);
        let command = living[0];
        for pid in living.iter().filter(|pid| **pid != command).step_by(3) {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("kill one of the living");
        }
        let left = 2001 - 2000_usize.div_ceil(3);
        eventually("these as well", || children(started.pid).len() == left);
        assert_eq!(zombies(started.pid), 0);
        for pid in children(started.pid).iter().filter(|pid| **pid != command) {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("kill the rest");
        }
        started.kill().fails(137);
    }
}

#[test]
fn the_command_s_end_is_seen_among_thousands_of_the_living() {
    for place in places() {
        let words = ["-g", "--grace", "5", "--", actor(), "living", "1000", "leave", "9"];
        init_after(*place, &[], &words).fails(9);
    }
}

#[test]
fn whoever_loses_its_parent_gets_init() {
    for place in places() {
        let output = init_after(*place, &[], &["-v", "--", actor(), "orphan-parent"]);
        let running = output.spawn();
        let init = if *place == Place::Pid1 { 1 } else { running.pid() as i32 };
        let output = running.wait(LIMIT).expect("init ends");
        if *place == Place::Beside {
            if emulated("register subreapers") {
                continue;
            }
            assert!(output.stderr.contains("not PID 1: registered as subreaper"), "{}", output.stderr);
        }
        assert_eq!(output.text(), format!("parent {init}"));
    }
}

#[test]
fn twenty_thousand_orphans_leave_no_zombie_and_take_no_memory() {
    let place = if need(Privilege::Containers) { Place::Pid1 } else { Place::Beside };
    let command = init_after(
        place,
        &[],
        &["--", "sh", "-c", "echo up; read go; exec \"$0\" orphans 20000 sleep", actor()],
    );
    let started = Started::with(command.stdin("go\n"), place, &[], "made");
    let command = started.command();
    eventually("all are reaped", || children(started.pid) == [command]);
    // Of the whole run, from before the first to after the last.
    let peak = status(started.pid, "VmHWM");
    if !emulated("keep to the memory of the program") && !has_glibc() {
        let peak: u32 = peak.trim_end_matches(" kB").parse().expect("VmHWM in kB");
        assert!(peak <= 64, "peak memory {peak} kB");
    }
    started.kill();
}

#[test]
fn reaped_orphans_are_named_when_that_is_asked_for() {
    let output = init(&["-w", "--", actor(), "orphans", "3", "sh", "-c", "sleep 0.2"]).ok();
    let said = output.stderr.lines().filter(|line| line.starts_with("init: reaped zombie process with pid="));
    assert!(emulated("register subreapers") || said.count() == 3, "{}", output.stderr);
}
