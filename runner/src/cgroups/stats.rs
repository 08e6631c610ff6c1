//! What a container used. A member is `None` where the kernel or the container's groups do not tell.

use std::path::Path;

use serde::Serialize;

use super::group::Cgroup;

/// Usage of a container's groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Bytes in use.
    pub memory: Option<u64>,
    /// The most bytes that were in use.
    pub memory_peak: Option<u64>,
    /// The limit in bytes, where there is one.
    pub memory_limit: Option<u64>,
    /// Processes killed because memory ran out.
    pub oom_kills: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// The most tasks there were.
    pub pids_peak: Option<u64>,
    /// Times that a task was refused because of the limit.
    pub pids_refused: Option<u64>,
    /// CPU time in microseconds.
    pub cpu_us: Option<u64>,
    /// Of it in user mode.
    pub cpu_user_us: Option<u64>,
    /// Of it in the kernel.
    pub cpu_system_us: Option<u64>,
    /// Periods in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// Microseconds spent waiting for the next period.
    pub throttled_us: Option<u64>,
}

impl Cgroup {
    /// Read what the groups tell.
    pub fn stats(&self) -> Stats {
        let mut s = Stats::default();
        for group in self.groups() {
            let dir = group.dir.as_path();
            let has = |c: &str| group.controllers.iter().any(|have| have == c);
            if group.unified {
                // Without controllers it is there for the device filter.
                if !group.controllers.is_empty() {
                    unified(dir, &mut s);
                }
                continue;
            }
            if has("memory") {
                s.memory = number(dir, "memory.usage_in_bytes");
                s.memory_peak = number(dir, "memory.max_usage_in_bytes");
                s.oom_kills = keyed(dir, "memory.oom_control", "oom_kill");
                // Unlimited is the greatest multiple of the page size.
                s.memory_limit = number(dir, "memory.limit_in_bytes").filter(|n| *n < 1 << 62);
            }
            if has("pids") {
                pids(dir, &mut s);
            }
            if has("cpuacct") {
                s.cpu_us = number(dir, "cpuacct.usage").map(|ns| ns / 1000);
                s.cpu_user_us = number(dir, "cpuacct.usage_user").map(|ns| ns / 1000);
                s.cpu_system_us = number(dir, "cpuacct.usage_sys").map(|ns| ns / 1000);
            }
            if has("cpu") {
                s.throttled_periods = keyed(dir, "cpu.stat", "nr_throttled");
                s.throttled_us = keyed(dir, "cpu.stat", "throttled_time").map(|ns| ns / 1000);
            }
        }
        s
    }
}

fn unified(dir: &Path, s: &mut Stats) {
    s.memory = number(dir, "memory.current");
    s.memory_peak = number(dir, "memory.peak");
    s.memory_limit = number(dir, "memory.max");
    s.oom_kills = keyed(dir, "memory.events", "oom_kill");
    pids(dir, s);
    s.cpu_us = keyed(dir, "cpu.stat", "usage_usec");
    s.cpu_user_us = keyed(dir, "cpu.stat", "user_usec");
    s.cpu_system_us = keyed(dir, "cpu.stat", "system_usec");
    s.throttled_periods = keyed(dir, "cpu.stat", "nr_throttled");
    s.throttled_us = keyed(dir, "cpu.stat", "throttled_usec");
}

fn pids(dir: &Path, s: &mut Stats) {
    s.pids = number(dir, "pids.current");
    s.pids_peak = number(dir, "pids.peak");
    s.pids_refused = keyed(dir, "pids.events", "max");
}

/// The number that a file holds; `max` is none.
pub(super) fn number(dir: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// The number after a word at the beginning of a line.
pub(super) fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    value_of(&std::fs::read_to_string(dir.join(file)).ok()?, key)
}

pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.split_once(' ').filter(|(k, _)| *k == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "oom_kill_disable 0\nunder_oom 1\noom_kill 7\n";
        assert_eq!((value_of(text, "oom_kill"), value_of(text, "oom")), (Some(7), None));
    }
}
