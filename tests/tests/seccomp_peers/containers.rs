//! Containers that sleep, and the filter that each of them has.

use coracle_tests::bundle::Bundle;
use coracle_tests::filters::{self, Filter};
use coracle_tests::{Cmd, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The one filter of a container that a runtime starts from a profile; or what the runtime says.
pub(crate) fn filter_of(runtime: &str, profile: &Value) -> Result<Filter, String> {
    let time = a_time();
    let bundle = Bundle::busybox(&["sleep", &time]).expect("busybox").set("/linux/seccomp", profile.clone());
    let command = bundle.run_by(runtime);
    read_back(command, &time)
}

/// How long a container is to sleep: long, and like no other.
pub(crate) fn a_time() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("1{:08}{n:04}", std::process::id())
}

/// The one filter of the `sleep` that a command starts for so long.
pub(crate) fn read_back(command: Cmd, time: &str) -> Result<Filter, String> {
    let running = command.spawn();
    let wanted = format!("sleep\0{time}\0");
    let mut sleeper = None;
    eventually("a container sleeps, or its runtime ends", || {
        let is_it =
            |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == wanted.as_bytes());
        let pids = std::fs::read_dir("/proc").expect("list /proc").flatten();
        sleeper = pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).find(is_it);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
        sleeper.is_some() || stat.contains(") Z ")
    });
    let filters = sleeper.map(|pid| {
        let filters = filters::installed(pid);
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("kill the sleeper");
        filters
    });
    let output = running.wait(std::time::Duration::from_secs(60)).expect("the runtime ends");
    match filters.as_deref() {
        Some([one]) => Ok(one.clone()),
        Some(several) => panic!("{} filters", several.len()),
        None => Err(output.stderr),
    }
}
