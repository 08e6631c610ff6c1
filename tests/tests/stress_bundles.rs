//! Many bundles at once, and many deaths: nothing may be left behind.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use coracle_tests::bundle::{Bundle, works};
use coracle_tests::command::Running;
use coracle_tests::leftovers::Leftovers;
use coracle_tests::{Cmd, Privilege, Scratch, eventually, need};
use nix::sys::signal::Signal;

/// Two of these at once would only slow each other down.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && works()
}

/// One bundle and one folder of states, for many containers.
struct Fleet {
    bundle: Bundle,
    state: Scratch,
    before: Leftovers,
}

impl Fleet {
    fn new(line: &str) -> Self {
        let bundle = Bundle::busybox(&["sh", "-c", line]).expect("busybox");
        bundle.write();
        let state = Scratch::new("fleet");
        let token = state.path().file_name().expect("a name").to_string_lossy().into_owned();
        let before = Leftovers::before(&token, &[state.path(), &bundle.rootfs("")]);
        Self { bundle, state, before }
    }

    fn run(&self, id: &str) -> Cmd {
        let runner = Cmd::runner().arg("--root").arg(self.state.path());
        runner.arg("run").arg("--bundle").arg(self.bundle.path()).arg(id)
    }

    fn start(&self, count: usize) -> Vec<Running> {
        let running: Vec<_> = (0..count).map(|n| self.run(&format!("fleet{n}")).spawn()).collect();
        for r in &running {
            r.wait_for("ready");
        }
        running
    }
}

fn alive(pid: u32) -> bool {
    // A zombie is no longer alive: its runner's parent has yet to look.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|s| !s.contains(") Z "))
}

#[test]
fn two_hundred_containers_twenty_at_a_time_leave_nothing_behind() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let fleet = Fleet::new("echo $$ $(hostname)");
    std::thread::scope(|scope| {
        for worker in 0..20 {
            let fleet = &fleet;
            scope.spawn(move || {
                for round in 0..10 {
                    let out = fleet.run(&format!("w{worker}r{round}")).ok();
                    assert_eq!(out.text(), "1 bundle");
                }
            });
        }
    });
    fleet.before.assert_none();
}

#[test]
fn a_container_is_gone_when_its_runner_is_killed() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let fleet = Fleet::new("echo ready; exec sleep 1000");
    let running = fleet.start(20);
    let families: Vec<Vec<(u32, String)>> =
        running.iter().map(|r| coracle_tests::bench::family(r.pid())).collect();
    for (n, runner) in running.iter().enumerate() {
        // Half of them, and not every second one.
        if (n * 7 + 3) % 20 < 10 {
            runner.signal(Signal::SIGKILL);
        }
    }
    for (n, family) in families.iter().enumerate() {
        assert!(family.len() > 1, "a runner has a container: {family:?}");
        if (n * 7 + 3) % 20 < 10 {
            eventually("the container is gone", || !family.iter().any(|(pid, _)| alive(*pid)));
        } else {
            assert!(family.iter().all(|(pid, _)| alive(*pid)), "the others run on: {family:?}");
        }
    }
    drop(running);
    for family in families {
        eventually("all are gone", || !family.iter().any(|(pid, _)| alive(*pid)));
    }
    let left: Vec<String> = fleet.before.new_ones().into_iter().filter(|l| !l.starts_with("file ")).collect();
    assert!(left.is_empty(), "mounts, cgroups or processes are left: {left:#?}");
}

#[test]
fn many_containers_run_at_once() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let wanted = coracle_tests::rounds(50, 1000);
    // What init executes ends by a signal as it would anywhere.
    // It waits without waking: a thousand that poll would leave the machine no time to start the next.
    let fleet = Fleet::new("trap 'exit 7' TERM; echo ready; sleep 1000 & wait");
    let begun = std::time::Instant::now();
    let running = fleet.start(wanted);
    coracle_tests::bench::tell_fleet("bundles", begun, running.iter().map(Running::pid));
    for runner in &running {
        let family = coracle_tests::bench::family(runner.pid());
        let (payload, _) = family.get(1).expect("a runner has a container");
        let payload = nix::unistd::Pid::from_raw(*payload as i32);
        nix::sys::signal::kill(payload, Signal::SIGTERM).expect("signal the container");
    }
    for runner in running {
        runner.wait(Duration::from_secs(120)).expect("a runner ends with its container").fails(7);
    }
    fleet.before.assert_none();
}
