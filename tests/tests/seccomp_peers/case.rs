//! One profile, and our filter held against a peer's over every call. Where we differ on purpose is
//! [`DIFFERENCES`].

use std::collections::{BTreeMap, BTreeSet};

use coracle_tests::filters::Filter;
use serde_json::Value;

use crate::calls::{self, ARCHITECTURES, ARM, I386, X32, X86_64};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL_THREAD: u32 = libc::SECCOMP_RET_KILL_THREAD;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// One caller's call, judged by both.
pub(crate) struct Point<'a> {
    case: &'a Case,
    arch: u32,
    number: u32,
    args: [u64; 6],
    ours: u32,
    theirs: u32,
    their_filter: &'a Filter,
}

/// A profile, and what the table of calls says of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) profile: Value,
    /// What is done with calls without a rule.
    default: u32,
    calls: BTreeMap<String, [Option<u32>; 4]>,
    /// Per architecture: calls that are named, by number.
    named: BTreeMap<u32, BTreeSet<u32>>,
}

/// Where we differ on purpose, and how.
pub(crate) type Difference = (&'static str, fn(&Point) -> bool);

/// What is compared: how far we may differ is said by both verdicts, never by the call alone.
pub(crate) const DIFFERENCES: [Difference; 7] = [
    // Through runc, numbers of x32 that are newer than the profile are ENOSYS.
    ("callers of an architecture that is not listed: their thread is killed, our process", |p| {
        let name = ARCHITECTURES.iter().find(|(arch, _)| *arch == p.arch).map_or("", |(_, name)| name);
        let listed = match p.arch {
            X86_64 => p.number < X32 || p.case.lists("SCMP_ARCH_X32"),
            _ => p.case.lists(name),
        };
        !listed && p.ours == libc::SECCOMP_RET_KILL_PROCESS && [KILL_THREAD, ENOSYS].contains(&p.theirs)
    }),
    ("calls newer than the profile: crun knows no ENOSYS for them", |p| {
        p.newer_than(|_| true) && (p.ours, p.theirs) == (ENOSYS, p.case.default)
    }),
    ("the newest call of a profile is one of our table: runc's libseccomp has no name for it", |p| {
        let unknown = calls::unknown_to_libseccomp();
        p.newer_than(|n| !unknown.contains(&(p.arch, n))) && (p.ours, p.theirs) == (p.case.default, ENOSYS)
    }),
    ("calls of x86_64 are the same with the bit of x32, and x32's without it: old kernels run both", |p| {
        let nothing = [p.case.default, ENOSYS].contains(&p.theirs);
        p.arch == X86_64
            && p.case.lists("SCMP_ARCH_X32")
            && nothing
            && p.ours == p.their_filter.judge(p.arch, p.number ^ X32, p.args)
    }),
    ("x32's arguments: libseccomp compares their lower half, we all that the call is given", |p| {
        let values = p.case.values(p.number).into_values().flatten();
        p.arch == X86_64 && p.number & X32 != 0 && values.chain(p.args).any(|v| v >> 32 != 0)
    }),
    ("socketcall and ipc: what is given for some arguments only is not given where they are not seen", |p| {
        let multiplexed = p.arch == I386 && [102, 117].contains(&p.number);
        multiplexed && p.ours == p.case.default && strictness(p.theirs) > strictness(p.ours)
    }),
    ("ipc: the version in the upper half of its first argument is no part of which call is meant", |p| {
        let versioned = p.arch == I386 && p.number == 117 && p.args[0] >> 16 == 1;
        let mut args = p.args;
        args[0] &= 0xffff;
        versioned && p.theirs == p.case.default && p.ours == p.their_filter.judge(p.arch, 117, args)
    }),
];

impl Point<'_> {
    /// Whether the call is above all that the profile names.
    fn newer_than(&self, counts: impl Fn(u32) -> bool) -> bool {
        let number = if self.arch == X86_64 { self.number & !X32 } else { self.number };
        let named = self.case.named.get(&self.arch).into_iter().flatten().copied();
        named.filter(|n| counts(*n)).max().is_some_and(|newest| number > newest)
    }
}

/// The kernel's order: as signed numbers, the stricter action is the lower.
fn strictness(result: u32) -> i32 {
    (result & libc::SECCOMP_RET_ACTION_FULL) as i32
}

impl Case {
    pub(crate) fn new(name: &str, profile: Value) -> Self {
        let calls = calls::table();
        let errno = |v: &Value| v.as_u64().unwrap_or(1) as u32;
        let default = match profile["defaultAction"].as_str().expect("a default action") {
            "SCMP_ACT_ALLOW" => ALLOW,
            "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
            "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
            "SCMP_ACT_KILL" => libc::SECCOMP_RET_KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
            "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO | errno(&profile["defaultErrnoRet"]),
            "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | errno(&profile["defaultErrnoRet"]),
            other => panic!("{other}"),
        };
        let mut named: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for rule in profile["syscalls"].as_array().into_iter().flatten() {
            for name in rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let numbers = calls.get(name).copied().unwrap_or_default();
                for ((arch, _), number) in ARCHITECTURES.into_iter().zip(numbers) {
                    named.entry(arch).or_default().extend(number);
                }
            }
        }
        Self { name: name.to_owned(), profile, default, calls, named }
    }

    fn lists(&self, arch: &str) -> bool {
        self.profile["architectures"].as_array().is_some_and(|a| a.iter().any(|a| a == arch))
    }

    /// The values that rules about a call compare its arguments to, by argument.
    fn values(&self, number: u32) -> BTreeMap<usize, BTreeSet<u64>> {
        let about = |name: &Value| {
            let numbers = name.as_str().and_then(|n| self.calls.get(n)).copied().unwrap_or_default();
            numbers.contains(&Some(number & !X32))
        };
        let mut values: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for rule in self.profile["syscalls"].as_array().into_iter().flatten() {
            if rule["names"].as_array().is_some_and(|names| names.iter().any(about)) {
                for arg in rule["args"].as_array().into_iter().flatten() {
                    let index = arg["index"].as_u64().expect("an index") as usize;
                    let both = ["value", "valueTwo"].map(|k| arg[k].as_u64());
                    values.entry(index).or_default().extend(both.into_iter().flatten());
                }
            }
        }
        values
    }

    /// Arguments of every kind: the values of the rules and what lies beside them, alone and in pairs.
    fn arguments(&self, number: u32) -> Vec<[u64; 6]> {
        let mut all = vec![[0; 6], [1; 6], [3; 6], [23; 6], [23 | 1 << 16; 6], [u64::MAX; 6]];
        let beside =
            |v: &u64| [*v, v.wrapping_sub(1), v.wrapping_add(1), v | 1 << 32, v | 1 << 63, v & 0xffff_ffff];
        let values: BTreeMap<usize, BTreeSet<u64>> = self
            .values(number)
            .into_iter()
            .map(|(i, set)| (i, set.iter().flat_map(beside).collect()))
            .collect();
        for (index, set) in &values {
            for value in set {
                for rest in [0, 1, *value] {
                    let mut args = [rest; 6];
                    args[*index] = *value;
                    all.push(args);
                    for (other, set) in values.range(index + 1..) {
                        all.extend(set.iter().map(|value| {
                            let mut args = args;
                            args[*other] = *value;
                            args
                        }));
                    }
                }
            }
        }
        all
    }

    /// Hold our filter against a peer's. Which differences were met is added.
    #[track_caller]
    pub(crate) fn agree(
        &self,
        ours: &Filter,
        peer: &str,
        their_filter: &Filter,
        met: &mut BTreeSet<&'static str>,
    ) {
        let unknown = calls::unknown_to_libseccomp();
        let mut wrong = Vec::new();
        let edges = [X32 - 1, 0x8000_0000, 0xbfff_ffff, u32::MAX - 1, u32::MAX];
        for number in (0..=600).flat_map(|n| [n, n | X32]).chain(edges) {
            let arguments = self.arguments(number);
            for arch in ARCHITECTURES.map(|(arch, _)| arch).into_iter().chain([0]) {
                if unknown.contains(&(arch, number & !X32)) {
                    continue;
                }
                for args in &arguments {
                    // A 32-bit caller has no upper halves.
                    let args =
                        if [I386, ARM].contains(&arch) { args.map(|a| a & 0xffff_ffff) } else { *args };
                    let (ours, theirs) =
                        (ours.judge(arch, number, args), their_filter.judge(arch, number, args));
                    let point = Point { case: self, arch, number, args, ours, theirs, their_filter };
                    if ours == theirs {
                        continue;
                    }
                    match DIFFERENCES.iter().find(|(_, meant)| meant(&point)) {
                        Some((why, _)) => drop(met.insert(why)),
                        None => wrong
                            .push(format!("{arch:#x} {number:#x} {args:x?}: {ours:#x}, {peer} {theirs:#x}")),
                    }
                }
            }
        }
        wrong.truncate(20);
        assert!(wrong.is_empty(), "{}: ours, and {peer}'s:\n{}", self.name, wrong.join("\n"));
    }
}
