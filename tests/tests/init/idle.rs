//! Idle, and how small.

use super::*;

#[test]
fn an_idle_init_never_wakes_up() {
    for place in places() {
        for options in [&[][..], &["-v", "--grace", "5", "--drain", "5", "--wait-all", "-w"]] {
            let started = watching(*place, &[], options);
            eventually("init sleeps", || status(started.pid, "State").starts_with('S'));
            let wakeups = || {
                let voluntary = status(started.pid, "voluntary_ctxt_switches");
                (voluntary, status(started.pid, "nonvoluntary_ctxt_switches"))
            };
            std::thread::sleep(Duration::from_millis(300));
            let before = wakeups();
            assert!(!before.0.is_empty());
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(wakeups(), before, "{place:?} {options:?}");
            started.kill();
        }
    }
}

#[test]
fn it_is_small_on_disk() {
    if emulated("run this machine's program") {
        return;
    }
    let size = std::fs::metadata(&command_line()[0]).expect("look at init").len();
    if has_glibc() {
        return;
    }
    assert!(size <= 64 * 1024, "{size} bytes");
}

#[test]
fn it_is_small_in_memory() {
    if emulated("run in the memory of the program alone") {
        return;
    }
    if has_glibc() {
        return;
    }
    for place in places() {
        let started = watching(*place, &[], &[]);
        let resident = status(started.pid, "VmRSS");
        let resident: u32 = resident.trim_end_matches(" kB").parse().expect("VmRSS in kB");
        assert!((4..=48).contains(&resident), "{resident} kB");
        started.kill();
    }
}
