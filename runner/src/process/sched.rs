//! How the kernel runs the process: its scheduling, its processors, the memory that it is given, the
//! execution domain. What it is limited to is elsewhere.

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;

use super::sys::{self, SchedAttr};
use crate::spec;

/// A bit for each processor or memory node.
type Mask = Vec<u64>;

/// All of it, decided. What is not set stays as the runner has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    scheduler: Option<SchedAttr>,
    io_priority: Option<u32>,
    /// Before and after the container's cgroups are entered; of a process that joins.
    affinity: [Mask; 2],
    memory: Option<(u32, Mask)>,
    personality: Option<u32>,
}

/// By number.
const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
const FIFO: u32 = 1;
const RR: u32 = 2;
const DEADLINE: u32 = 6;

/// By bit.
const SCHED_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// By number.
const IO_CLASSES: [&str; 4] =
    ["IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];

/// By number.
const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// By bit, from the 13th on.
const MEMORY_FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

fn number(word: &str, list: &[&str], field: &str) -> Result<u32> {
    let at = list.iter().position(|w| *w == word);
    at.map(|n| n as u32).ok_or_else(|| Error::invalid(format!("{field}: {word:?} is unknown")))
}

fn bits(words: &[String], list: &[&str], field: &str) -> Result<u32> {
    words.iter().try_fold(0, |all, word| Ok(all | 1 << number(word, list, field)?))
}

/// The bits of a list such as `0-3,7`; none of an empty one.
fn mask(list: &str, field: &str) -> Result<Mask> {
    // Beyond every machine.
    const MOST: usize = 1 << 13;
    let wrong = || Error::invalid(format!("{field}: {list:?} is no list of numbers such as 0-3,7"));
    let mut mask = Mask::new();
    for part in list.split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MOST).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        (first..=last).for_each(|n| mask[n / 64] |= 1 << (n % 64));
    }
    Ok(mask)
}

/// Decide what `process` says.
pub(super) fn plan(process: &spec::Process) -> Result<Plan> {
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let list = |list: Option<String>, field| mask(&list.unwrap_or_default(), field);
    Ok(Plan {
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        affinity: [
            list(affinity.initial, "process.execCPUAffinity.initial")?,
            list(affinity.final_, "process.execCPUAffinity.final")?,
        ],
        ..Plan::default()
    })
}

fn scheduler(wanted: &spec::Scheduler) -> Result<SchedAttr> {
    let policy = number(&wanted.policy, &POLICIES, "process.scheduler.policy")?;
    let wrong = |what: &str| Error::invalid(format!("process.scheduler.{what}"));
    if !(-20..=19).contains(&wanted.nice) {
        return Err(wrong(&format!("nice: {} is not between -20 and 19", wanted.nice)));
    }
    if wanted.priority != 0 && !matches!(policy, FIFO | RR) {
        return Err(wrong("priority is for SCHED_FIFO and SCHED_RR alone"));
    }
    if (wanted.runtime, wanted.deadline, wanted.period) != (0, 0, 0) && policy != DEADLINE {
        return Err(wrong("runtime, deadline and period are for SCHED_DEADLINE alone"));
    }
    Ok(SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags: bits(&wanted.flags, &SCHED_FLAGS, "process.scheduler.flags")?.into(),
        nice: wanted.nice,
        priority: u32::try_from(wanted.priority).map_err(|_| wrong("priority is below 0"))?,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    })
}

fn io_priority(wanted: &spec::IoPriority) -> Result<u32> {
    let class = number(&wanted.class, &IO_CLASSES, "process.ioPriority.class")?;
    match u32::try_from(wanted.priority) {
        Ok(n @ 0..=7) => Ok(class << 13 | n),
        _ => Err(Error::invalid(format!("process.ioPriority.priority {} is not 0 to 7", wanted.priority))),
    }
}

impl Plan {
    /// Decide what `linux` says beside it.
    pub(super) fn add(&mut self, linux: &spec::Linux) -> Result<()> {
        if let Some(policy) = &linux.memory_policy {
            let mode = number(&policy.mode, &MEMORY_MODES, "linux.memoryPolicy.mode")?;
            let flags = bits(&policy.flags, &MEMORY_FLAGS, "linux.memoryPolicy.flags")?;
            self.memory = Some((mode | flags << 13, mask(&policy.nodes, "linux.memoryPolicy.nodes")?));
        }
        if let Some(wanted) = &linux.personality {
            if let Some(flag) = wanted.flags.first() {
                return Err(Error::invalid(format!("linux.personality.flags: {flag:?} is unknown")));
            }
            self.personality = Some(match wanted.domain.as_str() {
                "LINUX" => 0,
                "LINUX32" => 8,
                other => {
                    return Err(Error::invalid(format!("linux.personality.domain: {other:?} is unknown")));
                }
            });
        }
        Ok(())
    }

    /// In the container's cgroups, and with the rights that it takes.
    pub fn apply(&self) -> Result<()> {
        if let Some((mode, nodes)) = &self.memory {
            sys::set_mempolicy(*mode, nodes).map_err(|e| match e.errno() {
                Some(Errno::ENOSYS) => e.wrap("set linux.memoryPolicy: this kernel knows no memory nodes"),
                Some(Errno::EINVAL) => e.wrap(
                    "set linux.memoryPolicy: its mode, flags and nodes do not fit, or there is no such node",
                ),
                _ => e.wrap("set linux.memoryPolicy"),
            })?;
        }
        if let Some(priority) = self.io_priority {
            sys::ioprio_set(priority).context(|| "set process.ioPriority")?;
        }
        if let Some(attr) = &self.scheduler {
            sys::sched_setattr(attr).map_err(|e| match (e.errno(), attr.policy) {
                (Some(Errno::EPERM), FIFO | RR) => e.wrap(
                    "set process.scheduler (it needs CAP_SYS_NICE; and a cgroup of v1 may have no time for such tasks: see linux.resources.cpu.realtimeRuntime)",
                ),
                (Some(Errno::EPERM), DEADLINE) => {
                    e.wrap("set process.scheduler (such a task may not be kept to some of the processors)")
                }
                _ => e.wrap("set process.scheduler"),
            })?;
        }
        Ok(())
    }

    /// Before a joining process enters the cgroups.
    pub fn apply_early(&self) -> Result<()> {
        affinity(&self.affinity[0], "initial")
    }

    /// Once it is in them.
    pub fn apply_late(&self) -> Result<()> {
        affinity(&self.affinity[1], "final")
    }

    /// At the end: what is executed keeps it.
    pub fn apply_last(&self) -> Result<()> {
        self.personality.map_or(Ok(()), |domain| sys::personality(domain).context(|| "set linux.personality"))
    }
}

fn affinity(mask: &[u64], which: &str) -> Result<()> {
    if mask.is_empty() {
        return Ok(());
    }
    sys::sched_setaffinity(mask).map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => {
            e.wrap(format!("set process.execCPUAffinity.{which}: none of them is to be had"))
        }
        _ => e.wrap(format!("set process.execCPUAffinity.{which}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sched(value: serde_json::Value) -> Result<SchedAttr> {
        scheduler(&coracle_sys::json::from_value(value).unwrap())
    }

    #[test]
    fn words_become_the_kernels_numbers() {
        let attr = sched(serde_json::json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2,
            "period": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}));
        let attr = attr.unwrap();
        assert_eq!((attr.size, attr.policy, attr.flags, attr.period), (48, 6, 5, 3));
        let idle = spec::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 5 };
        assert_eq!(io_priority(&idle).unwrap(), 2 << 13 | 5);
        let mut plan = Plan::default();
        let linux: spec::Linux = coracle_sys::json::from_value(serde_json::json!({
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0,65", "flags": ["MPOL_F_STATIC_NODES"]},
            "personality": {"domain": "LINUX32"}
        }))
        .unwrap();
        plan.add(&linux).unwrap();
        assert_eq!(plan.memory, Some((2 | 1 << 15, vec![1, 2])));
        assert_eq!(plan.personality, Some(8));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        for (value, field) in [
            (serde_json::json!({"policy": ""}), "policy"),
            (serde_json::json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
            (serde_json::json!({"policy": "SCHED_BATCH", "priority": 1}), "priority"),
            (serde_json::json!({"policy": "SCHED_RR", "period": 1}), "period"),
            (serde_json::json!({"policy": "SCHED_RR", "flags": ["X"]}), "flags"),
        ] {
            let e = sched(value).unwrap_err().to_string();
            assert!(e.starts_with("process.scheduler") && e.contains(field), "{e}");
        }
        for (class, priority) in [("IOPRIO_CLASS_BE", 8), ("IOPRIO_CLASS_BE", -1), ("BE", 1)] {
            assert!(io_priority(&spec::IoPriority { class: class.into(), priority }).is_err());
        }
    }

    #[test]
    fn a_list_becomes_a_mask() {
        for (list, expected) in [
            ("", &[][..]),
            ("0", &[1]),
            ("0-3,7", &[0x8f]),
            (" 1, 64-65 ", &[2, 3]),
            ("63-64", &[1 << 63, 1]),
        ] {
            assert_eq!(mask(list, "f").unwrap(), expected, "{list:?}");
        }
        for bad in ["x", "3-1", "-1", "1-", ",", "99999999", "0-99999999999999999999"] {
            assert!(mask(bad, "f").is_err(), "{bad:?}");
        }
    }
}
