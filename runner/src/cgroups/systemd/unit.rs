//! Which unit of systemd's a container is, where its group lies, and its limits in systemd's words. Pure.

use std::path::PathBuf;

use coracle_sys::{Error, Result};

use super::wire::Value;
use crate::cgroups::weight;
use crate::spec::LinuxResources;

/// A unit for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name: `prefix-name.scope`, or a slice.
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
}

impl Unit {
    /// From `linux.cgroupsPath`, which is `slice:prefix:name` for systemd.
    pub fn parse(path: Option<&str>, id: &str, rootless: bool) -> Result<Self> {
        let default = if rootless { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match path.filter(|p| !p.is_empty()) {
            None => ("", "coracle", id),
            Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] if !name.is_empty() && !path.contains('/') => (slice, prefix, name),
                _ => {
                    return Err(Error::invalid(format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                    )));
                }
            },
        };
        let slice = if slice.is_empty() { default } else { slice };
        let name = match name.ends_with(".slice") {
            true => name.to_owned(),
            false if prefix.is_empty() => format!("{name}.scope"),
            false => format!("{prefix}-{name}.scope"),
        };
        let unit = Self { name, slice: slice.to_owned() };
        unit.dir().map(|_| unit)
    }

    /// Its group below the hierarchy's root: each dash of a slice's name is a slice above.
    pub fn dir(&self) -> Result<PathBuf> {
        let invalid = || Error::invalid(format!("linux.cgroupsPath: invalid slice name: {:?}", self.slice));
        let stem = self.slice.strip_suffix(".slice").ok_or_else(invalid)?;
        let mut dir = PathBuf::new();
        if stem != "-" {
            if stem.is_empty() || stem.split('-').any(str::is_empty) {
                return Err(invalid());
            }
            let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
            ends.for_each(|end| dir.push(format!("{}.slice", &stem[..end])));
        }
        dir.push(&self.name);
        Ok(dir)
    }

    /// What it is started with, around the process `pid`. Of devices nothing is said: systemd then leaves our filter
    /// alone.
    pub fn properties(
        &self,
        id: &str,
        pid: u32,
        resources: Option<&LinuxResources>,
    ) -> Vec<(&'static str, Value)> {
        let mut all = vec![
            ("Description", Value::Text(format!("coracle container {id}"))),
            ("DefaultDependencies", Value::Flag(false)),
        ];
        match self.name.ends_with(".slice") {
            // A slice holds no processes of its own.
            true => all.push(("Wants", Value::Text(self.slice.clone()))),
            false => all.extend([
                ("Slice", Value::Text(self.slice.clone())),
                ("Delegate", Value::Flag(true)),
                ("PIDs", Value::Numbers(vec![pid])),
            ]),
        }
        let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
        all.extend(accounting.map(|name| (name, Value::Flag(true))));
        all.extend(resources.map(limits).unwrap_or_default());
        all
    }
}

/// Limits as properties, so that systemd resets none of them; also what an update says to it.
pub fn limits(r: &LinuxResources) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    // -1 is no limit, which systemd calls the greatest number; 0 is not said.
    let mut push = |name: &'static str, n: Option<i64>| {
        if let Some(n) = n.filter(|n| *n != 0) {
            all.push((name, Value::Number(u64::try_from(n).unwrap_or(u64::MAX))));
        }
    };
    if let Some(m) = &r.memory {
        push("MemoryMax", m.limit);
        push("MemoryLow", m.reservation);
        push("MemorySwapMax", weight::swap_max(m.limit, m.swap).ok().flatten());
    }
    push("TasksMax", r.pids.as_ref().and_then(|p| p.limit));
    if let Some(c) = &r.cpu {
        let weight = c.shares.filter(|s| *s != 0).map(|s| weight::cpu_weight(s) as i64);
        push("CPUWeight", weight);
        let period = c.period.filter(|p| *p != 0).unwrap_or(100_000).min(i64::MAX as u64) as i64;
        let quota = c.quota.filter(|q| *q != 0).map(|quota| match quota {
            ..0 => -1,
            // In whole hundredths of a processor: systemd rounds down what is finer, to less than was asked for.
            quota => (quota.saturating_mul(1_000_000) / period + 9_999) / 10_000 * 10_000,
        });
        push("CPUQuotaPerSecUSec", quota);
    }
    if let Some(w) = r.block_io.as_ref().and_then(|b| b.weight).filter(|w| *w != 0) {
        push("IOWeight", Some(weight::io_weight(w) as i64));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_names_the_unit_and_the_slices_above_it() {
        for (path, rootless, dir) in [
            (Some("a-b.slice:crio:x"), false, "a.slice/a-b.slice/crio-x.scope"),
            (Some(":libpod:x"), false, "system.slice/libpod-x.scope"),
            (Some("::x"), true, "user.slice/x.scope"),
            (Some("a.slice:p:a-c.slice"), false, "a.slice/a-c.slice"),
            (Some("-.slice:p:x"), false, "p-x.scope"),
            (None, false, "system.slice/coracle-id.scope"),
        ] {
            let unit = Unit::parse(path, "id", rootless).unwrap();
            assert_eq!(unit.dir().unwrap(), PathBuf::from(dir), "{path:?}");
        }
        for path in [
            "/a/b",
            "a:b",
            "a:b:",
            "a--b.slice:p:x",
            "a:p:x",
            "a/../b.slice:p:x",
            ".slice:p:x",
            "-a.slice:p:x",
        ] {
            assert!(Unit::parse(Some(path), "id", false).is_err(), "{path}");
        }
    }

    #[test]
    fn limits_are_said_in_systemds_words() {
        let r = json!({"memory": {"limit": 64, "swap": 96}, "pids": {"limit": -1}, "cpu": {"quota": 25500, "period": 100000, "shares": 1024}});
        let r: LinuxResources = coracle_sys::json::from_value(r).unwrap();
        let wanted = [
            ("MemoryMax", 64),
            ("MemorySwapMax", 32),
            ("TasksMax", u64::MAX),
            ("CPUWeight", 100),
            ("CPUQuotaPerSecUSec", 260_000),
        ];
        assert_eq!(limits(&r), wanted.map(|(name, n)| (name, Value::Number(n))));
        let unit = Unit::parse(None, "id", false).unwrap();
        let all = unit.properties("id", 7, Some(&r));
        assert!(
            all.contains(&("PIDs", Value::Numbers(vec![7])))
                && all.contains(&("TasksMax", Value::Number(u64::MAX)))
        );
    }
}
