//! Limits in systemd's words, as runc sets them, and properties that somebody wrote into annotations. Pure.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result};

use super::unit::Unit;
use super::value::Value;
use crate::cgroups::weight;
use crate::spec::LinuxResources;
use crate::spec::resources::Cpu;

/// What an annotation's name begins with whose value is a property.
const ANNOTATION: &str = "org.systemd.property.";
/// systemd's `infinity`.
const NONE: u64 = u64::MAX;
const PERIOD: u64 = 100_000;

type Properties = Vec<(String, Value)>;

impl Unit {
    /// Limits as properties, as far as this version of systemd's knows them, so that it resets none of them; also what an
    /// update says to it. `unified`: they are those of v2.
    pub(super) fn limits(&self, r: &LinuxResources, unified: bool, version: u32) -> Result<Properties> {
        let mut all = Known { all: Vec::new(), unified, version };
        if let Some(m) = &r.memory {
            all.number(if unified { "MemoryMax" } else { "MemoryLimit" }, m.limit);
            if unified {
                all.number("MemoryLow", m.reservation);
                all.number("MemorySwapMax", weight::swap_max(m.limit, m.swap)?);
            }
        }
        if let Some(c) = &r.cpu {
            all.cpu(c)?;
        }
        all.number("TasksMax", r.pids.as_ref().and_then(|p| p.limit));
        if let Some(w) = r.block_io.as_ref().and_then(|b| b.weight).filter(|w| *w != 0) {
            match unified {
                true => all.push("IOWeight", weight::io_weight(w)),
                false => all.push("BlockIOWeight", u64::from(w)),
            }
        }
        if unified {
            for (file, value) in &r.unified {
                all.file(file, value.trim())?;
            }
        }
        Ok(all.all)
    }
}

struct Known {
    all: Properties,
    unified: bool,
    version: u32,
}

impl Known {
    /// Of a name that stands twice the last counts.
    fn push(&mut self, name: &str, n: u64) {
        self.set(name, Value::number(n));
    }

    fn set(&mut self, name: &str, value: Value) {
        self.all.retain(|(known, _)| known != name);
        self.all.push((name.to_owned(), value));
    }

    /// -1 is no limit; 0 is not said.
    fn number(&mut self, name: &str, n: Option<i64>) {
        if let Some(n) = n.filter(|n| *n != 0) {
            self.push(name, u64::try_from(n).unwrap_or(NONE));
        }
    }

    fn cpu(&mut self, c: &Cpu) -> Result<()> {
        let shares = c.shares.filter(|s| *s != 0);
        match (self.unified, shares) {
            // An idle group's weight is 0, and its shares mean nothing.
            (true, _) if c.idle == Some(1) && self.version >= 252 => self.push("CPUWeight", 0),
            (true, Some(shares)) => self.push("CPUWeight", weight::cpu_weight(shares)),
            (false, Some(shares)) => self.push("CPUShares", shares),
            (_, None) => {}
        }
        self.quota(c.quota.unwrap_or(0), c.period.unwrap_or(0));
        for (name, list) in [("AllowedCPUs", &c.cpus), ("AllowedMemoryNodes", &c.mems)] {
            self.set_of_bits(name, list.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    fn quota(&mut self, quota: i64, period: u64) {
        if period != 0 && self.version >= 242 {
            self.push("CPUQuotaPeriodUSec", period);
        }
        if quota == 0 && period == 0 {
            return;
        }
        let period = if period == 0 { PERIOD } else { period };
        let per_second = match u64::try_from(quota) {
            // In whole hundredths of a processor: systemd rounds down what is finer, to less than was asked for.
            Ok(quota @ 1..) => (quota.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000,
            _ => NONE,
        };
        self.push("CPUQuotaPerSecUSec", per_second);
    }

    /// `0-2,4` as bits, the lowest byte first.
    fn set_of_bits(&mut self, name: &str, list: &str) -> Result<()> {
        if list.is_empty() || self.version < 244 {
            return Ok(());
        }
        let mut bits: Vec<u8> = Vec::new();
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let wrong = || Error::invalid(format!("{name}: {list:?} is no list of numbers such as 0-2,4"));
            let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
            for bit in usize::from(number(first)?)..=usize::from(number(last)?) {
                bits.resize(bits.len().max(bit / 8 + 1), 0);
                bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        let bytes = bits.into_iter().map(|byte| Value::Number('y', byte.into())).collect();
        self.set(name, Value::List("y".into(), bytes));
        Ok(())
    }

    /// A file of v2 that was named itself. What systemd has no property for, it does not reset.
    fn file(&mut self, file: &str, value: &str) -> Result<()> {
        const NUMBERS: [(&str, &str); 7] = [
            ("cpu.weight", "CPUWeight"),
            ("memory.min", "MemoryMin"),
            ("memory.low", "MemoryLow"),
            ("memory.high", "MemoryHigh"),
            ("memory.max", "MemoryMax"),
            ("memory.swap.max", "MemorySwapMax"),
            ("pids.max", "TasksMax"),
        ];
        let number = |text: &str| match text {
            "max" => Ok(NONE),
            text => {
                text.parse().map_err(|_| Error::invalid(format!("unified: {file}: {value:?} is no number")))
            }
        };
        if let Some((_, property)) = NUMBERS.iter().find(|(name, _)| *name == file) {
            self.push(property, number(value)?);
        }
        match file {
            "cpu.max" => {
                let (quota, period) = value.split_once(' ').unwrap_or((value, ""));
                let quota = i64::try_from(number(quota)?).unwrap_or(-1);
                let period = if period.is_empty() { PERIOD } else { number(period)? };
                self.quota(quota, period);
            }
            "cpu.idle" if value == "1" && self.version >= 252 => self.push("CPUWeight", 0),
            "cpuset.cpus" => self.set_of_bits("AllowedCPUs", value)?,
            "cpuset.mems" => self.set_of_bits("AllowedMemoryNodes", value)?,
            _ => {}
        }
        Ok(())
    }
}

/// Properties that somebody else than we knows the meaning of. As runc has it, those of seconds are said in
/// microseconds, as systemd takes them.
pub(super) fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Properties> {
    let mut all = Vec::new();
    for (annotation, text) in annotations {
        let Some(name) = annotation.strip_prefix(ANNOTATION) else { continue };
        let wrong = |why: &str| Error::invalid(format!("annotation {annotation}: {why}"));
        if name.len() < 3 || !name.bytes().all(|c| c.is_ascii_alphabetic()) {
            return Err(wrong("no property has such a name"));
        }
        let value = Value::parse(text).map_err(|e| wrong(&e.to_string()))?;
        let before = name.strip_suffix("Sec").filter(|n| n.ends_with(|c: char| c.is_ascii_lowercase()));
        all.push(match before {
            Some(before) => {
                let us = value.microseconds().ok_or_else(|| wrong("it is no number of seconds"))?;
                (format!("{before}USec"), us)
            }
            None => (name.to_owned(), value),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(resources: serde_json::Value, unified: bool, version: u32) -> Vec<(String, Value)> {
        let resources: LinuxResources = coracle_sys::json::from_value(resources).unwrap();
        Unit::default().limits(&resources, unified, version).unwrap()
    }

    #[test]
    fn limits_are_said_in_systemds_words() {
        let all = json!({"memory": {"limit": 64, "swap": 96, "reservation": 32}, "pids": {"limit": -1},
            "cpu": {"quota": 25500, "period": 50000, "shares": 1024, "cpus": "0-1,9", "mems": "0"},
            "blockIO": {"weight": 10}});
        let bits =
            |bytes: &[u64]| Value::List("y".into(), bytes.iter().map(|b| Value::Number('y', *b)).collect());
        let number = |(name, n): (&str, u64)| (name.to_owned(), Value::number(n));
        let quota = [("CPUQuotaPeriodUSec", 50_000), ("CPUQuotaPerSecUSec", 510_000)].map(number);
        let sets = [("AllowedCPUs".to_owned(), bits(&[3, 2])), ("AllowedMemoryNodes".to_owned(), bits(&[1]))];
        let v2 =
            [("MemoryMax", 64), ("MemoryLow", 32), ("MemorySwapMax", 32), ("CPUWeight", 100)].map(number);
        let ends = [("TasksMax", u64::MAX), ("IOWeight", 1)].map(number);
        assert_eq!(limits(all.clone(), true, 252), [&v2[..], &quota, &sets, &ends].concat());
        let v1 = [("MemoryLimit", 64), ("CPUShares", 1024), ("CPUQuotaPerSecUSec", 510_000)].map(number);
        let ends = [("TasksMax", u64::MAX), ("BlockIOWeight", 10)].map(number);
        assert_eq!(limits(all, false, 241), [&v1[..], &ends].concat());
        assert_eq!(
            limits(json!({"cpu": {"quota": 333}}), true, 252),
            [number(("CPUQuotaPerSecUSec", 10_000))]
        );
        assert_eq!(
            limits(json!({"cpu": {"quota": -1}}), true, 252),
            [number(("CPUQuotaPerSecUSec", u64::MAX))]
        );
        assert_eq!(limits(json!({"cpu": {"idle": 1, "shares": 5}}), true, 252), [number(("CPUWeight", 0))]);
    }

    #[test]
    fn what_is_asked_for_by_its_file_outdoes_the_rest() {
        let all = json!({"memory": {"limit": 64}, "unified": {"memory.max": "max", "memory.high": "5", "cpu.max": "max 7000",
            "cpuset.cpus": "1", "hugetlb.2MB.max": "4"}});
        let names = |list: &[(String, Value)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let limits = limits(all, true, 252);
        assert_eq!(
            names(&limits),
            ["CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec", "AllowedCPUs", "MemoryHigh", "MemoryMax"]
        );
        assert_eq!(limits[4].1, Value::number(u64::MAX));
    }

    #[test]
    fn annotations_are_properties_and_seconds_are_microseconds() {
        let of = |name: &str, text: &str| {
            of_annotations(&BTreeMap::from([(format!("{ANNOTATION}{name}"), text.to_owned())]))
        };
        let one = |name: &str, text: &str| of(name, text).unwrap().remove(0);
        assert_eq!(one("CollectMode", "'inactive-or-failed'").1, Value::text("inactive-or-failed"));
        assert_eq!(one("TimeoutStopSec", "5"), ("TimeoutStopUSec".into(), Value::number(5_000_000)));
        assert_eq!(one("TimeoutStopUSec", "uint64 5"), ("TimeoutStopUSec".into(), Value::number(5)));
        for (name, text) in [("X", "1"), ("A-b", "1"), ("CollectMode", "'"), ("TimeoutStopSec", "'5'")] {
            let e = of(name, text).unwrap_err().to_string();
            assert!(e.starts_with(&format!("annotation {ANNOTATION}{name}: ")), "{e}");
        }
        assert!(of_annotations(&BTreeMap::from([("a".into(), "'".into())])).unwrap().is_empty());
    }
}
