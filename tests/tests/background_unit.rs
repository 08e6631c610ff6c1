//! A container in the background and the systemd unit that it was started from: a group of processes which systemd kills,
//! with all groups below, when the unit stops. (On cgroup v2 alone: `boot_reboot.rs`.)

use std::path::{Path, PathBuf};

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, binaries, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the hierarchies are mounted by which systemd knows what belongs to a unit.
fn systemds_own() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let own = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let is =
            right.starts_with("cgroup2 ") || right.starts_with("cgroup ") && right.contains("name=systemd");
        is.then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or_default()))
    };
    mounts.lines().filter_map(own).collect()
}

fn processes(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// What systemd does to a unit that stops.
fn stop_unit(group: &Path) {
    for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|t| t.is_dir()) {
            stop_unit(&below.path());
        }
    }
    for pid in processes(group) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    eventually("a unit's group is empty", || std::fs::remove_dir(group).is_ok());
}

/// The slice of a test's own, gone with it.
struct Slice(Vec<PathBuf>);

impl Drop for Slice {
    fn drop(&mut self) {
        for dir in &self.0 {
            for below in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(below.path());
            }
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[test]
fn a_container_in_the_background_outlives_the_unit_that_started_it() {
    if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let store = Store::new("unit");
    let Some(image) = Image::busybox() else { return };
    let _image = image.compose(&store, "box");
    let name = format!("coracletest{}.slice", std::process::id());
    let slice = Slice(systemds_own().iter().map(|mount| mount.join(&name)).collect());
    let units: Vec<PathBuf> = slice.0.iter().map(|slice| slice.join("some.service")).collect();
    let Some(_) = units.first() else { return };
    units.iter().for_each(|unit| std::fs::create_dir_all(unit).expect("make the unit's group"));
    let service = |words: &str| {
        let mut script: String =
            units.iter().map(|unit| format!("echo 0 >{}/cgroup.procs; ", unit.display())).collect();
        script += &format!("{} {words}", binaries::runner().display());
        Cmd::new("sh").args(["-c", &script]).env("CORACLE_STORE", store.path()).ok().stdout
    };
    let id = service("run -d --name outlives box sleep 1000").trim().to_owned();

    for (slice, unit) in slice.0.iter().zip(&units) {
        assert_eq!(processes(unit).len(), 0, "nobody is left in {}", unit.display());
        assert_eq!(processes(&slice.join("coracle-monitors")).len(), 1, "{}", slice.display());
        stop_unit(unit);
    }
    let record = store.path().join("containers").join(&id).join("container.json");
    let record = std::fs::read_to_string(record).expect("the record");
    let monitor =
        slice.0.iter().flat_map(|s| processes(&s.join("coracle-monitors"))).next().expect("a monitor");
    assert!(record.contains(&format!("\"runner\":{{\"pid\":{monitor},")), "{record}");
    store.runner().words("exec outlives true").ok();
    assert!(store.runner().words("ps").ok().stdout.contains("outlives"));
    store.runner().words("stop -t 0 outlives").ok();

    // The monitors' group goes with the next call from there, and a container that begins again stays beside the unit.
    units.iter().for_each(|unit| std::fs::create_dir_all(unit).expect("make the unit's group"));
    service("run -d --name again --restart always box sleep 0.3");
    let again =
        || store.runner().args(["ps", "-a", "--filter", "name=again", "--format", "{{.State}}"]).ok().stdout;
    eventually("it begins again", || again().contains("restarting"));
    eventually("it has begun again", || again().contains("running"));
    units.iter().for_each(|unit| stop_unit(unit));
    eventually("it begins again beside it", || again().contains("restarting"));
    eventually("it has begun again beside it", || again().contains("running"));
    store.runner().words("rm -f again outlives").ok();
    units.iter().for_each(|unit| std::fs::create_dir_all(unit).expect("make the unit's group"));
    // A monitor lets go of its container a moment before it ends.
    eventually("nothing is left beside the unit", || {
        service("ps");
        let left = |s: &std::path::PathBuf| {
            std::fs::read_dir(s).expect("the slice").flatten().filter(|e| e.path().is_dir()).count()
        };
        slice.0.iter().all(|slice| left(slice) == 1)
    });
    units.iter().for_each(|unit| std::fs::remove_dir(unit).expect("nobody is in the unit"));
}
