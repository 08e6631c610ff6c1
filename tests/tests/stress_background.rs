//! Many containers in the background, and many deaths of their monitors and of those who start and stop them: what is
//! listed is true, all can be taken away, and nobody else is touched.

use coracle_tests::leftovers::Leftovers;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need, rounds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn store(name: &str) -> Option<(Store, Leftovers)> {
    if !need(Privilege::Containers) || !need(Privilege::Peer("busybox")) {
        return None;
    }
    let store = Store::new(name);
    Image::busybox()?.compose(&store, "box");
    store.run("box true").ok();
    let token = store.scratch.path().file_name()?.to_string_lossy().into_owned();
    let (containers, state) = (store.path().join("containers"), store.state());
    let before = Leftovers::before(&token, &[&containers, &state, &store.path().join("names")]);
    Some((store, before))
}

fn list(store: &Store, words: &str) -> Vec<String> {
    store.runner().words("ps").words(words).ok().stdout.lines().map(str::to_owned).collect()
}

/// Start so many, eight at a time.
fn begin(store: &Store, many: usize) {
    std::thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                for n in (worker..many).step_by(8) {
                    store.runner().words(&format!("run -d --name many{n} box sleep 1000")).ok();
                }
            });
        }
    });
}

#[test]
fn a_hundred_containers_live_and_are_stopped_at_once() {
    let Some((store, before)) = store("many") else { return };
    let many = rounds(40, 100);
    begin(&store, many);
    assert_eq!(list(&store, "-q").len(), many);
    let names: Vec<String> = (0..many).map(|n| format!("many{n}")).collect();
    let stopped = store.runner().args(["stop", "-t", "5"]).args(&names).ok();
    assert_eq!(stopped.stdout.lines().count(), many);
    assert_eq!(list(&store, "-q").len(), 0);
    assert_eq!(list(&store, "-aq").len(), many);
    store.runner().arg("rm").args(&names).ok();
    before.assert_none();
}

#[test]
fn whoever_is_killed_the_list_is_true_and_all_can_be_taken_away() {
    let Some((store, before)) = store("many-killed") else { return };
    let many = rounds(24, 100);
    begin(&store, many);
    let token = store.scratch.path().file_name().expect("a name").to_string_lossy().into_owned();
    // Those who start, stop and look are killed as they go, and every third monitor.
    std::thread::scope(|scope| {
        for words in [
            "restart -t 0 many0 many1 many2",
            "stop -t 0 many3 many4",
            "ps -a",
            "run -d --name late box sleep 1000",
        ] {
            let store = &store;
            scope.spawn(move || {
                for round in 0..6u64 {
                    let running = store.runner().words(words).spawn();
                    std::thread::sleep(std::time::Duration::from_millis(1 + round * 3));
                    running.signal(Signal::SIGKILL);
                    let _ = running.wait(std::time::Duration::from_secs(20));
                }
            });
        }
        for n in (5..many).step_by(3) {
            let record =
                store.runner().args(["ps", "-aq", "--no-trunc", "--filter", &format!("name=^many{n}$")]).ok();
            let path = store.path().join("containers").join(record.stdout.trim()).join("container.json");
            let text = std::fs::read_to_string(&path).expect("the record");
            let pid = text
                .split_once("\"runner\":{\"pid\":")
                .and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
            kill(Pid::from_raw(pid.expect("a monitor")), Signal::SIGKILL).expect("kill the monitor");
        }
    });
    // What is said to run, runs; and of what does not, no process is left.
    eventually("the list is true", || {
        let listed = list(&store, "--no-trunc --format {{.Pid}}");
        let alive =
            listed.iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).count();
        let sleeping = Cmd::new("pgrep").args(["-f", &format!("^init.*{token}|^sleep 1000")]).run();
        alive == listed.len() && sleeping.stdout.lines().count() >= alive
    });
    let all = list(&store, "-aq");
    store.runner().args(["rm", "-f"]).args(&all).ok();
    assert_eq!(list(&store, "-aq").len(), 0);
    before.assert_none();
}

#[test]
fn what_begins_again_all_the_time_is_ended_at_any_moment_and_stays_so() {
    let Some((store, before)) = store("again") else { return };
    for round in 0..rounds(15, 150) {
        // Its life takes a while, its pause another, and what it is told comes at each moment of both.
        let sleeps = round * 7 % 10;
        store.runner().words(&format!("run -d --name again --restart always box sleep 0.0{sleeps}")).ok();
        std::thread::sleep(std::time::Duration::from_millis(round as u64 * 37 % 400));
        match round % 3 {
            0 => {}
            1 => drop(store.runner().words("stop again").ok()),
            // One that has ended is not there to be killed.
            _ => drop(store.runner().words("kill again").run()),
        }
        if round % 3 == 1 {
            std::thread::sleep(std::time::Duration::from_millis(round as u64 % 8 * 20));
            let status = list(&store, "-a --format {{.State}}");
            assert_eq!(status, ["exited"], "{round}");
            store.runner().words("rm again").ok();
        } else {
            store.runner().words("rm -f again").ok();
        }
    }
    before.assert_none();
}
