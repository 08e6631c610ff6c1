//! `update`: limits of a container that runs. Everything that it has is written anew, in an order that the kernel
//! takes; what was written before an error is taken back.

use std::borrow::Cow;

use coracle_sys::{Error, Kind, Result};
use nix::errno::Errno;
use serde_json::Value;

use super::group::{Cgroup, write, write_into};
use super::layout::Layout;
use super::plan::{self, Group, Write};
use super::{limit, stats};
use crate::json;
use crate::spec::resources::LinuxResources;

/// What a container has after a change of what it had. As in runc, a number that is 0 and a text that is empty
/// change nothing.
pub fn merge(had: &LinuxResources, change: &LinuxResources) -> Result<LinuxResources> {
    if !change.devices.is_empty() {
        return Err(Error::unsupported("change the device rules of a running container"));
    }
    let mut merged = json::value(had)?;
    lay_over(&mut merged, json::value(change)?);
    let memory = change.memory.as_ref();
    if memory.is_some_and(|m| m.limit == Some(-1) && m.swap.unwrap_or(0) == 0)
        && !merged["memory"]["swap"].is_null()
    {
        // Memory without a limit, and the old one of memory and swap together, would be one still.
        merged["memory"]["swap"] = (-1).into();
    }
    coracle_sys::json::from_value(merged)
}

fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (member, value) in over {
                let nothing = value.as_u64() == Some(0) && member != "idle" && member != "burst";
                if !nothing && value.as_str() != Some("") {
                    lay_over(under.entry(member).or_insert(Value::Null), value);
                }
            }
        }
        (under, over) => *under = over,
    }
}

impl Cgroup {
    /// Give a running container all of these limits, where it had others. A controller that it was started without is an error. What it
    /// has of devices stays.
    pub fn set(&self, had: &LinuxResources, resources: &LinuxResources, layout: &Layout) -> Result<()> {
        let resources = &LinuxResources { devices: Vec::new(), ..resources.clone() };
        let wanted = plan::Request {
            name: "",
            path: Some("/update"),
            resources: Some(resources),
            lifetime: plan::Lifetime::ForegroundRun,
            best_effort: false,
            device_rules: false,
        };
        plan::plan(&wanted, &self.place(layout))?;
        let mut writes: Vec<(&Group, Write)> = Vec::new();
        let idle = resources.cpu.as_ref().is_some_and(|c| c.idle == Some(1));
        for limit in limit::limits(resources, layout)? {
            // An idle group has no weight, and the kernel refuses one.
            if idle && (limit.file == "cpu.shares" || limit.file == "cpu.weight") {
                continue;
            }
            let holds = |g: &&Group| {
                g.controllers.contains(&limit.controller) || (g.unified && limit.controller == "cgroup")
            };
            match self.groups().iter().find(holds) {
                Some(group) => writes.push((group, limit.write())),
                None if limit.optional => {}
                None => {
                    return Err(Error::unsupported(format!(
                        "set {}: the container was started without the cgroup controller {}",
                        limit.file, limit.controller
                    )));
                }
            }
        }
        self.check_usage(resources)?;
        swap_first_when_raising(&mut writes);
        // systemd first, which rounds what it writes. It would write what it was told once more when it reads its units.
        let tell = |resources: &LinuxResources| match &self.plan().unit {
            Some(unit) => unit.set(resources, layout.version() == "2"),
            None => Ok(()),
        };
        tell(resources)?;
        let mut done = Vec::new();
        carry_out(&writes, &mut done).inspect_err(|_| {
            take_back(done);
            if let Err(e) = tell(had) {
                coracle_sys::warn!("runner: {e}");
            }
        })
    }

    /// The layout as it is around the groups, where they are systemd's and so in no place of ours.
    fn place<'a>(&self, layout: &'a Layout) -> Cow<'a, Layout> {
        let mut layout = Cow::Borrowed(layout);
        let above = self.groups().first().and_then(|g| g.dir.parent()?.strip_prefix(&g.mount).ok());
        if let (true, Some(above)) = (self.is_adopted(), above) {
            layout.to_mut().move_to(above);
        }
        layout
    }

    /// `checkBeforeUpdate`: v2 would rather kill than refuse a limit below what is in use.
    fn check_usage(&self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory.as_ref().filter(|m| m.check_before_update == Some(true)) else {
            return Ok(());
        };
        match (memory.limit, self.stats().memory) {
            (Some(limit), Some(used)) if limit > 0 && (limit as u64) < used => Err(Error::new(
                Kind::Busy,
                format!("set the memory limit to {limit} bytes: {used} bytes are in use"),
            )),
            _ => Ok(()),
        }
    }
}

/// A file and what was in it.
type Before<'a> = (&'a Group, &'a str, String);

/// Write one after the other. A period, a quota and a burst may each fit only after another has changed, and a weight
/// only when the group is idle no more: what the kernel calls invalid is written once more after the rest.
fn carry_out<'a>(writes: &'a [(&'a Group, Write)], done: &mut Vec<Before<'a>>) -> Result<()> {
    let mut again = Vec::new();
    for (group, write) in writes {
        let before = std::fs::read_to_string(group.dir.join(&write.file)).unwrap_or_default();
        match write_limit(group, write) {
            Err(e) if e.errno() == Some(Errno::EINVAL) && write.file.starts_with("cpu.") => {
                again.push((*group, write, before));
            }
            other => {
                other?;
                done.push((*group, &*write.file, before));
            }
        }
    }
    for (group, write, before) in again {
        write_limit(group, write)?;
        done.push((group, &*write.file, before));
    }
    Ok(())
}

/// Write what was there before, the last first. Files with a line for each device cannot be written as they are read.
fn take_back(done: Vec<Before<'_>>) {
    for (group, file, before) in done.into_iter().rev() {
        let before = before.trim();
        if !before.is_empty()
            && !before.contains('\n')
            && let Err(e) = write(&group.dir.join(file), before)
        {
            coracle_sys::warn!("runner: {}", e.wrap(format!("set {file} back to {before}")));
        }
    }
}

fn write_limit(group: &Group, w: &Write) -> Result<()> {
    write_into(group, w, &mut None)
}

/// On v1 the limit of memory is never above that of memory and swap: raising starts with the second.
fn swap_first_when_raising(writes: &mut [(&Group, Write)]) {
    let find = |writes: &[(&Group, Write)], name: &str| writes.iter().position(|(_, w)| w.file == name);
    let (Some(limit), Some(swap)) =
        (find(writes, "memory.limit_in_bytes"), find(writes, "memory.memsw.limit_in_bytes"))
    else {
        return;
    };
    let dir = &writes[limit].0.dir;
    let current = stats::number(dir, "memory.limit_in_bytes").unwrap_or(0);
    let new: i64 = writes[swap].1.value.parse().unwrap_or(-1);
    if new < 0 || current < new as u64 {
        writes.swap(limit, swap);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resources(value: Value) -> LinuxResources {
        coracle_sys::json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_said_stays_and_zero_says_nothing() {
        let had = resources(
            json!({"memory": {"limit": 64, "swap": 96}, "cpu": {"shares": 5, "cpus": "0", "idle": 1},
            "devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 3}}),
        );
        let change = json!({"memory": {"limit": 32, "swap": 0}, "cpu": {"cpus": "", "mems": "0", "idle": 0}, "blockIO": {"weight": 7}});
        let merged = merge(&had, &resources(change)).unwrap();
        let wanted = resources(
            json!({"memory": {"limit": 32, "swap": 96}, "pids": {"limit": 3}, "blockIO": {"weight": 7},
            "cpu": {"shares": 5, "cpus": "0", "mems": "0", "idle": 0}, "devices": [{"allow": false, "access": "rwm"}]}),
        );
        assert_eq!(merged, wanted);
        assert_eq!(merge(&had, &LinuxResources::default()).unwrap(), had);
        let unlimited = merge(&had, &resources(json!({"memory": {"limit": -1}}))).unwrap();
        assert_eq!(unlimited.memory.unwrap().swap, Some(-1));
        assert!(merge(&LinuxResources::default(), &had).unwrap_err().to_string().contains("device rules"));
    }
}
