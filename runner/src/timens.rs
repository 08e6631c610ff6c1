//! The time namespace: a new one has clocks that are set before anybody is inside, so it is not made with
//! the others in one clone but by the container's process itself. Joining one is like joining any other.

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{setns, unshare};
use nix::sys::stat::Mode;

use crate::namespaces::{Kind as Ns, Plan};
use crate::spec::Linux;

/// The lines of /proc/PID/timens_offsets.
pub(crate) fn plan(linux: &Linux, namespaces: &Plan) -> Result<String> {
    let mut lines = String::new();
    for (clock, offset) in &linux.time_offsets {
        let wrong = |what: &str| Err(Error::invalid(format!("linux.timeOffsets: {clock:?} {what}")));
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return wrong("is no clock of a time namespace");
        }
        if !namespaces.makes(Ns::Time) {
            return wrong("cannot be set: no time namespace is made");
        }
        if offset.nanosecs > 999_999_999 {
            return wrong("has more nanoseconds than a second");
        }
        lines += &format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
    }
    Ok(lines)
}

/// Make one with these clocks and enter it. Needs /proc, and to be the only thread.
pub(crate) fn enter(offsets: &str) -> Result<()> {
    let flag = Ns::Time.flag();
    unshare(flag).context(|| "unshare(CLONE_NEWTIME)").map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => {
            Error::new(Kind::Unsupported, "a time namespace needs Linux 5.6 with CONFIG_TIME_NS")
        }
        _ => e.wrap("make the time namespace"),
    })?;
    if !offsets.is_empty() {
        let path = "/proc/self/timens_offsets";
        std::fs::write(path, offsets).context(|| format!("write({path:?}, {offsets:?})")).map_err(
            |e| match e.errno() {
                Some(Errno::ERANGE) => e.wrap("set linux.timeOffsets: a clock would leave its range"),
                _ => e.wrap("set linux.timeOffsets"),
            },
        )?;
    }
    let path = "/proc/self/ns/time_for_children";
    let made = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({path:?}, O_RDONLY)"))?;
    setns(made, flag).context(|| "setns(CLONE_NEWTIME)").context(|| "enter the time namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_for_the_clocks_of_a_new_namespace() {
        let linux = |value| {
            coracle_sys::json::from_value::<Linux>(serde_json::json!({"timeOffsets": value})).unwrap()
        };
        let made = Plan { new: vec![Ns::Time, Ns::Mount], join: vec![] };
        let both = serde_json::json!({"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 9}});
        assert_eq!(plan(&linux(both.clone()), &made).unwrap(), "boottime 9 0\nmonotonic -5 7\n");
        assert!(plan(&linux(both), &Plan::default()).is_err());
        for bad in [
            serde_json::json!({"realtime": {"secs": 1}}),
            serde_json::json!({"boottime": {"nanosecs": 1_000_000_000}}),
        ] {
            assert!(plan(&linux(bad), &made).is_err());
        }
    }
}
