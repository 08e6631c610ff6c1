//! The numbers of `events --stats`, member for member as runc prints them on v1 and on v2: a table of which file holds
//! which member. What the container's groups do not tell is left out, or is 0 where runc has it so.

use std::path::Path;

use serde_json::{Map, Value};

use super::group::Cgroup;
use super::stats::value_of;
use crate::json::{set, shape};

/// What is there without any group.
const NOTHING: &str = r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},
"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,
"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},
"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},
"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#;

/// A clock tick, which the kernel shows as a hundredth of a second everywhere, and a microsecond.
const TICK: i64 = 10_000_000;
const MICRO: i64 = 1000;

/// Where it goes, the file, the word at the line's beginning (none: the file is the number), the unit in nanoseconds.
type Row = (&'static str, &'static str, &'static str, i64);

const V1: [Row; 31] = [
    ("/cpu/usage/total", "cpuacct.usage", "", 1),
    ("/cpu/usage/kernel", "cpuacct.stat", "system", TICK),
    ("/cpu/usage/user", "cpuacct.stat", "user", TICK),
    ("/cpu/throttling/periods", "cpu.stat", "nr_periods", 1),
    ("/cpu/throttling/throttledPeriods", "cpu.stat", "nr_throttled", 1),
    ("/cpu/throttling/throttledTime", "cpu.stat", "throttled_time", 1),
    ("/cpuset/cpu_exclusive", "cpuset.cpu_exclusive", "", 1),
    ("/cpuset/mem_hardwall", "cpuset.mem_hardwall", "", 1),
    ("/cpuset/mem_exclusive", "cpuset.mem_exclusive", "", 1),
    ("/cpuset/memory_migrate", "cpuset.memory_migrate", "", 1),
    ("/cpuset/memory_spread_page", "cpuset.memory_spread_page", "", 1),
    ("/cpuset/memory_spread_slab", "cpuset.memory_spread_slab", "", 1),
    ("/cpuset/memory_pressure", "cpuset.memory_pressure", "", 1),
    ("/cpuset/sched_load_balance", "cpuset.sched_load_balance", "", 1),
    ("/cpuset/sched_relax_domain_level", "cpuset.sched_relax_domain_level", "", 1),
    ("/memory/usage/limit", "memory.limit_in_bytes", "", 1),
    ("/memory/usage/usage", "memory.usage_in_bytes", "", 1),
    ("/memory/usage/max", "memory.max_usage_in_bytes", "", 1),
    ("/memory/usage/failcnt", "memory.failcnt", "", 1),
    ("/memory/swap/limit", "memory.memsw.limit_in_bytes", "", 1),
    ("/memory/swap/usage", "memory.memsw.usage_in_bytes", "", 1),
    ("/memory/swap/max", "memory.memsw.max_usage_in_bytes", "", 1),
    ("/memory/swap/failcnt", "memory.memsw.failcnt", "", 1),
    ("/memory/kernel/limit", "memory.kmem.limit_in_bytes", "", 1),
    ("/memory/kernel/usage", "memory.kmem.usage_in_bytes", "", 1),
    ("/memory/kernel/max", "memory.kmem.max_usage_in_bytes", "", 1),
    ("/memory/kernel/failcnt", "memory.kmem.failcnt", "", 1),
    ("/memory/kernelTCP/limit", "memory.kmem.tcp.limit_in_bytes", "", 1),
    ("/memory/kernelTCP/usage", "memory.kmem.tcp.usage_in_bytes", "", 1),
    ("/memory/kernelTCP/max", "memory.kmem.tcp.max_usage_in_bytes", "", 1),
    ("/memory/kernelTCP/failcnt", "memory.kmem.tcp.failcnt", "", 1),
];

const V2: [Row; 11] = [
    ("/cpu/usage/total", "cpu.stat", "usage_usec", MICRO),
    ("/cpu/usage/kernel", "cpu.stat", "system_usec", MICRO),
    ("/cpu/usage/user", "cpu.stat", "user_usec", MICRO),
    ("/cpu/throttling/periods", "cpu.stat", "nr_periods", 1),
    ("/cpu/throttling/throttledPeriods", "cpu.stat", "nr_throttled", 1),
    ("/cpu/throttling/throttledTime", "cpu.stat", "throttled_usec", MICRO),
    ("/memory/usage/usage", "memory.current", "", 1),
    ("/memory/usage/max", "memory.peak", "", 1),
    ("/memory/swap/usage", "memory.swap.current", "", 1),
    ("/memory/swap/max", "memory.swap.peak", "", 1),
    ("/memory/cache", "memory.stat", "file", 1),
];

/// Pairs of words.
type Pairs = &'static [(&'static str, &'static str)];

/// runc's member, the file after `blkio.`, `blkio.bfq.` or `blkio.throttle.`, and v2's words with what they count.
const BLOCK: [(&str, &str, Pairs); 8] = [
    ("ioServiceBytesRecursive", "io_service_bytes_recursive", &[("rbytes", "Read"), ("wbytes", "Write")]),
    ("ioServicedRecursive", "io_serviced_recursive", &[("rios", "Read"), ("wios", "Write")]),
    ("ioQueueRecursive", "io_queued_recursive", &[]),
    ("ioServiceTimeRecursive", "io_service_time_recursive", &[]),
    ("ioWaitTimeRecursive", "io_wait_time_recursive", &[]),
    ("ioMergedRecursive", "io_merged_recursive", &[]),
    ("ioTimeRecursive", "time_recursive", &[]),
    ("sectorsRecursive", "sectors_recursive", &[]),
];

impl Cgroup {
    /// The `data` of one line of `events --stats`.
    pub fn metrics(&self) -> Value {
        let mut all = shape(NOTHING);
        // Beside v1 a group of v2 without controllers is there for the device filter.
        for group in self.groups().iter().filter(|g| !g.unified || !g.controllers.is_empty()) {
            match group.unified {
                true => unified(&group.dir, &mut all),
                false => separate(&group.dir, &mut all),
            }
        }
        all
    }
}

fn separate(dir: &Path, all: &mut Value) {
    fill(dir, &V1, all);
    shared(dir, all);
    if let Some(text) = read(dir, "cpuacct.usage_percpu") {
        let times = text.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        set(all, "/cpu/usage/percpu", Value::from(times.collect::<Vec<_>>()));
    }
    if let Some(text) = read(dir, "cpuacct.usage_all") {
        // cpu user system
        for (column, member) in [(1, "/cpu/usage/percpu_user"), (2, "/cpu/usage/percpu_kernel")] {
            let word = |l: &str| l.split(' ').nth(column)?.parse::<u64>().ok();
            set(all, member, Value::from(text.lines().skip(1).filter_map(word).collect::<Vec<_>>()));
        }
    }
    for (member, file, _) in BLOCK {
        let kinds = ["bfq.", "", "throttle."].iter();
        let found = kinds.map(|kind| entries(&read(dir, &format!("blkio.{kind}{file}")).unwrap_or_default()));
        if let Some(list) = found.into_iter().find(|list| !list.is_empty()) {
            set(all, &format!("/blkio/{member}"), Value::from(list));
        }
    }
    huge(
        dir,
        all,
        &[("usage", ".usage_in_bytes", ""), ("max", ".max_usage_in_bytes", ""), ("failcnt", ".failcnt", "")],
    );
}

fn unified(dir: &Path, all: &mut Value) {
    fill(dir, &V2, all);
    shared(dir, all);
    for (member, file) in [("usage", "memory.max"), ("swap", "memory.swap.max")] {
        if let Some(limit) = read(dir, file) {
            let limit = limit.trim().parse().unwrap_or(u64::MAX);
            set(all, &format!("/memory/{member}/limit"), limit.into());
        }
    }
    // v1 counts memory into swap, and so does runc for both.
    for member in ["limit", "usage"] {
        let number = |of: &str| all["memory"][of][member].as_u64().unwrap_or(0);
        let (memory, swap) = (number("usage"), number("swap"));
        if read(dir, "memory.swap.max").is_some() && swap != u64::MAX {
            set(all, &format!("/memory/swap/{member}"), swap.saturating_add(memory).into());
        }
    }
    let text = read(dir, "io.stat").unwrap_or_default();
    for (member, _, words) in BLOCK {
        let mut list = Vec::new();
        for (device, rest) in text.lines().filter_map(|l| l.split_once(' ')) {
            for (word, op) in words {
                let value = rest.split(' ').find_map(|pair| pair.split_once('=').filter(|p| p.0 == *word));
                list.extend(value.and_then(|(_, value)| entry(device, op, value)));
            }
        }
        if !list.is_empty() {
            set(all, &format!("/blkio/{member}"), Value::from(list));
        }
    }
    huge(dir, all, &[("usage", ".current", ""), ("failcnt", ".events", "max")]);
}

/// What has the same files in both.
fn shared(dir: &Path, all: &mut Value) {
    fill(dir, &[("/pids/current", "pids.current", "", 1), ("/pids/limit", "pids.max", "", 1)], all);
    for (member, file) in [("/cpuset/cpus", "cpuset.cpus"), ("/cpuset/mems", "cpuset.mems")] {
        let list = cpus(&read(dir, file).unwrap_or_default());
        if !list.is_empty() {
            set(all, member, Value::from(list));
        }
    }
    if let Some(text) = read(dir, "memory.stat") {
        // One by one: to collect them brings a sort of its own.
        let mut raw = Map::new();
        for (word, n) in text.lines().filter_map(|l| l.split_once(' ')) {
            if let Ok(n) = n.parse::<u64>() {
                raw.insert(word.to_owned(), n.into());
            }
        }
        set(all, "/memory/raw", raw.into());
        // v1's word for what the table has of v2.
        if let Some(cache @ 1..) = value_of(&text, "cache") {
            set(all, "/memory/cache", cache.into());
        }
    }
}

/// One object for each size of huge pages that the group knows.
fn huge(dir: &Path, all: &mut Value, members: &[(&str, &str, &str)]) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|n| n.strip_prefix("hugetlb.")?.strip_suffix(members[0].1));
        let Some(size) = size.filter(|s| !s.contains('.')) else { continue };
        set(all, &format!("/hugetlb/{size}/failcnt"), 0.into());
        for (member, file, word) in members {
            let file = format!("hugetlb.{size}{file}");
            if let Some(n) = number(dir, &file, word).filter(|n| *n != 0) {
                set(all, &format!("/hugetlb/{size}/{member}"), n.into());
            }
        }
    }
}

/// Lines of `MAJOR:MINOR [OP] VALUE`; the sum over all devices is left out.
fn entries(text: &str) -> Vec<Value> {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [device, op, value] => entry(device, op, value),
        [device, value] => entry(device, "", value),
        _ => None,
    };
    text.lines().filter_map(line).collect()
}

fn entry(device: &str, op: &str, value: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let mut entry = Map::new();
    for (name, n) in [("major", major), ("minor", minor), ("value", value)] {
        match n.parse::<u64>().ok()? {
            0 => {}
            n => drop(entry.insert(name.to_owned(), n.into())),
        }
    }
    if !op.is_empty() {
        entry.insert("op".to_owned(), op.into());
    }
    Some(Value::Object(entry))
}

/// A list such as `0-2,7`, number by number.
fn cpus(text: &str) -> Vec<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// Go leaves out what is 0 unless the field says otherwise: those are there from the start.
fn fill(dir: &Path, rows: &[Row], all: &mut Value) {
    for (member, file, word, unit) in rows {
        if let Some(n) = number(dir, file, word).filter(|n| *n != 0) {
            set(all, member, n.saturating_mul(*unit).into());
        }
    }
}

fn number(dir: &Path, file: &str, word: &str) -> Option<i64> {
    let text = read(dir, file)?;
    match word {
        "" => text.trim().parse().ok(),
        word => value_of(&text, word).and_then(|n| i64::try_from(n).ok()),
    }
}

fn read(dir: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A folder that looks like a group.
    fn group(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("metrics-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(dir.join(file), text).unwrap());
        dir
    }

    fn empty() -> Value {
        serde_json::from_str(NOTHING).unwrap()
    }

    #[test]
    fn version_1_is_told_as_runc_tells_it() {
        let files = [
            ("cpuacct.usage", "30047314\n"),
            ("cpuacct.usage_percpu", "14077966 15969348 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 0 4000000\n1 0 15977953\n"),
            ("cpuacct.stat", "user 0\nsystem 3\n"),
            ("cpuset.cpus", "0-1\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "651264\n"),
            ("memory.stat", "cache 0\nrss 49152\n"),
            ("pids.current", "1\n"),
            ("pids.max", "max\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 512\n8:0 Total 512\nTotal 512\n"),
            ("hugetlb.2MB.usage_in_bytes", "0\n"),
            ("hugetlb.2MB.failcnt", "7\n"),
        ];
        let mut all = empty();
        let dir = group("v1", &files);
        separate(&dir, &mut all);
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(
            all["cpu"],
            json!({"usage": {"total": 30047314, "percpu": [14077966, 15969348], "kernel": 30000000, "user": 0,
                "percpu_kernel": [4000000, 15977953], "percpu_user": [0, 0]}, "throttling": {}})
        );
        assert_eq!(
            (&all["cpuset"]["cpus"], &all["cpuset"]["sched_relax_domain_level"]),
            (&json!([0, 1]), &json!(-1))
        );
        assert_eq!(
            all["memory"]["usage"],
            json!({"limit": 9223372036854771712u64, "usage": 651264, "failcnt": 0})
        );
        assert_eq!(all["memory"]["raw"], json!({"cache": 0, "rss": 49152}));
        assert_eq!(all["pids"], json!({"current": 1}));
        let read = json!({"major": 8, "op": "Read", "value": 512});
        assert_eq!(all["blkio"]["ioServiceBytesRecursive"][0], read);
        assert_eq!(all["hugetlb"], json!({"2MB": {"failcnt": 7}}));
    }

    #[test]
    fn version_2_is_told_in_the_words_of_version_1() {
        let files = [
            ("cpu.stat", "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 0\n"),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "20\n"),
            ("memory.swap.max", "500\n"),
            ("memory.stat", "anon 5\nfile 6\n"),
            ("pids.max", "9\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ];
        let mut all = empty();
        let dir = group("v2", &files);
        unified(&dir, &mut all);
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(all["cpu"]["usage"], json!({"total": 30000, "kernel": 20000, "user": 10000}));
        let memory = &all["memory"];
        assert_eq!(memory["usage"], json!({"limit": u64::MAX, "usage": 100, "failcnt": 0}));
        assert_eq!((&memory["swap"]["usage"], &memory["cache"]), (&json!(120), &json!(6)));
        assert_eq!(all["pids"], json!({"limit": 9}));
        let bytes = json!([{"major": 8, "minor": 16, "op": "Read", "value": 1}, {"major": 8, "minor": 16, "op": "Write", "value": 2}]);
        assert_eq!(all["blkio"]["ioServiceBytesRecursive"], bytes);
    }
}
