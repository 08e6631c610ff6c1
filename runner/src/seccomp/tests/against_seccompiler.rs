//! The programs held against seccompiler's, over every number and every kind of argument.
//!
//! seccompiler knows one architecture, one ABI and one action in a program. So it is asked for a program
//! for each architecture and action, those of i386, arm and x32 made of their numbers. Where we differ on
//! purpose is [`DIFFERENCES`].

mod profiles;

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::*;
use program::ABI_BIT;

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS as u32;

/// A filter as both are asked for it.
struct Case<'a> {
    name: &'a str,
    ours: Vec<Insn>,
    /// The rules for the callers of each architecture.
    rules: Vec<(Machine, Vec<LinuxSyscall>)>,
    x32: bool,
    default: u32,
}

/// Where we differ on purpose: when, what we say then, and why.
struct Difference {
    when: fn(&Case<'_>, Option<&Theirs>, u32) -> bool,
    ours: fn(&Case<'_>) -> u32,
    why: &'static str,
}

/// The first that holds counts.
const DIFFERENCES: [Difference; 2] = [
    Difference {
        when: |case, theirs, number| {
            let x86_64 = theirs.is_some_and(|t| t.machine == Machine::X86_64);
            number >= ABI_BIT && number != u32::MAX && x86_64 && !case.x32
        },
        ours: |_| KILL,
        why: "a number of x32 is a foreign caller's; to seccompiler it is a call without a rule, which a \
              filter that allows by default would let through",
    },
    Difference {
        when: |case, theirs, number| {
            let x32 = case.x32 && theirs.is_some_and(|t| t.machine == Machine::X86_64);
            let call = if x32 { number & !ABI_BIT } else { number };
            let permissive = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_TRACE];
            let permissive = permissive.contains(&(case.default & libc::SECCOMP_RET_ACTION_FULL));
            !permissive
                && theirs.is_some_and(|t| t.newest.is_some_and(|n| call > n) && !t.numbers.contains(&call))
        },
        ours: |_| ENOSYS,
        why: "programs fall back when a call newer than the profile is ENOSYS, and not when it is EPERM",
    },
];

/// What seccompiler makes for the callers of one architecture.
struct Theirs {
    machine: Machine,
    /// For each result that the filter can have.
    programs: Vec<Vec<Insn>>,
    /// Those that have a rule, and the newest that is named.
    numbers: BTreeSet<u32>,
    newest: Option<u32>,
}

impl Theirs {
    fn new(case: &Case<'_>, machine: Machine, syscalls: &[LinuxSyscall]) -> Self {
        let calls = machine.calls();
        let mut numbers = BTreeSet::new();
        let mut newest = None;
        let mut rules: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
        let mut result_of: BTreeMap<u32, u32> = BTreeMap::new();
        for syscall in syscalls {
            let result = action(&syscall.action, syscall.errno_ret).unwrap();
            for name in &syscall.names {
                let own = calls.get(name.as_str()).copied();
                newest = newest.max(own.filter(|n| *n < names::PRIVATE));
                let x32 = case.x32 && machine == Machine::X86_64;
                let other = names::x32_number(name).filter(|_| x32);
                for number in own.into_iter().chain(other) {
                    // The bit of x32 is taken off: a call is the same with it and without.
                    for number in [Some(number), x32.then_some(number | ABI_BIT)].into_iter().flatten() {
                        if result == case.default {
                            continue;
                        }
                        numbers.insert(number);
                        let before = result_of.insert(number, result);
                        assert!(before.is_none_or(|b| b == result), "{}: {name} has two results", case.name);
                        let of_result = rules.entry(result).or_default();
                        let had = of_result.contains_key(&number.into());
                        let list = of_result.entry(number.into()).or_default();
                        match syscall.args.is_empty() {
                            // No rule in the list is one that always holds.
                            true => list.clear(),
                            false if had && list.is_empty() => {}
                            false => list.extend(conditions(&syscall.args)),
                        }
                    }
                }
            }
        }
        // So many calls fit into one of its programs.
        let parts = rules.iter().flat_map(|(result, rules)| {
            let rules: Vec<_> = rules.iter().map(|(number, list)| (*number, list.clone())).collect();
            rules.chunks(300).map(|part| (*result, part.iter().cloned().collect())).collect::<Vec<_>>()
        });
        let programs = parts.map(|(result, part)| {
            let default = as_action(case.default);
            let filter = SeccompFilter::new(part, default, as_action(result), TargetArch::x86_64).unwrap();
            let program = BpfProgram::try_from(filter).unwrap();
            program.iter().map(|i| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
        });
        Self { machine, programs: programs.collect(), numbers, newest }
    }

    fn judge(&self, default: u32, number: u32, args: [u64; 6]) -> u32 {
        let judge = |code: &Vec<Insn>| judge(code, Machine::X86_64.audit(), number, args);
        self.programs.iter().map(judge).find(|r| *r != default).unwrap_or(default)
    }
}

/// The rules that one of a profile is, as runc reads it: two conditions on one argument are two rules.
fn conditions(args: &[LinuxSeccompArg]) -> Vec<SeccompRule> {
    let condition = |arg: &LinuxSeccompArg| {
        let (op, value) = match arg.op.as_str() {
            "SCMP_CMP_NE" => (SeccompCmpOp::Ne, arg.value),
            "SCMP_CMP_LT" => (SeccompCmpOp::Lt, arg.value),
            "SCMP_CMP_LE" => (SeccompCmpOp::Le, arg.value),
            "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, arg.value),
            "SCMP_CMP_GE" => (SeccompCmpOp::Ge, arg.value),
            "SCMP_CMP_GT" => (SeccompCmpOp::Gt, arg.value),
            "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
            other => panic!("{other}"),
        };
        SeccompCondition::new(arg.index as u8, SeccompCmpArgLen::Qword, op, value).unwrap()
    };
    let all: Vec<_> = args.iter().map(condition).collect();
    let indices: BTreeSet<u32> = args.iter().map(|a| a.index).collect();
    match indices.len() == args.len() {
        true => vec![SeccompRule::new(all).unwrap()],
        false => all.into_iter().map(|one| SeccompRule::new(vec![one]).unwrap()).collect(),
    }
}

fn as_action(result: u32) -> SeccompAction {
    let data = result & libc::SECCOMP_RET_DATA;
    match result & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW => SeccompAction::Allow,
        libc::SECCOMP_RET_ERRNO => SeccompAction::Errno(data),
        libc::SECCOMP_RET_KILL_THREAD => SeccompAction::KillThread,
        libc::SECCOMP_RET_KILL_PROCESS => SeccompAction::KillProcess,
        libc::SECCOMP_RET_LOG => SeccompAction::Log,
        libc::SECCOMP_RET_TRACE => SeccompAction::Trace(data),
        libc::SECCOMP_RET_TRAP => SeccompAction::Trap,
        other => panic!("{other:#x}"),
    }
}

/// Every number that a filter can tell from another, and then some.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [names::PRIVATE - 1, names::PRIVATE, 0xf0005, 0xf0006, ABI_BIT - 1, 0x8000_0000];
    let plain = (0..=600).flat_map(|n| [n, n | ABI_BIT]);
    plain.chain(edges).chain([u32::MAX - 1, u32::MAX])
}

/// Arguments of every kind: of each that a rule looks at, its values and what lies beside them, with
/// higher bits and without; of several, all pairs.
fn arguments(rules: &[&LinuxSyscall]) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [1; 6], [u64::MAX; 6]];
    let mut looked_at: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for arg in rules.iter().flat_map(|r| &r.args) {
        let values = looked_at.entry(arg.index as usize).or_insert_with(|| [0, 1, u64::MAX].into());
        for v in [arg.value, arg.value_two] {
            values.extend([v, v.wrapping_sub(1), v.wrapping_add(1), v | 1 << 32, v | 0xffff_ffff << 32]);
            values.extend([v ^ 1 << 63, v & 0xffff_ffff, v >> 32, !v]);
        }
    }
    for (one, values) in &looked_at {
        for value in values {
            for rest in [0, *value] {
                let mut args = [rest; 6];
                args[*one] = *value;
                all.push(args);
                for (other, values) in looked_at.iter().filter(|(other, _)| *other > one) {
                    all.extend(values.iter().map(|value| {
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

/// Hold one filter against seccompiler's; say which differences there were.
fn agree(case: &Case<'_>) -> BTreeSet<&'static str> {
    let machines = [Machine::X86_64, Machine::I386, Machine::Aarch64, Machine::Arm];
    let audits = machines.map(Machine::audit).into_iter().chain([0, u32::MAX, 0xc000_00f3]);
    let mut met = BTreeSet::new();
    for audit in audits {
        let known = case.rules.iter().find(|(m, _)| m.audit() == audit);
        let theirs = known.map(|(machine, syscalls)| Theirs::new(case, *machine, syscalls));
        let machine = known.map(|(machine, _)| *machine);
        let calls = machine.map(Machine::calls).unwrap_or_default();
        let mut about: BTreeMap<u32, Vec<&LinuxSyscall>> = BTreeMap::new();
        for (rule, name) in known.iter().flat_map(|k| &k.1).flat_map(|r| r.names.iter().map(move |n| (r, n)))
        {
            for number in calls.get(name.as_str()).copied().into_iter().chain(names::x32_number(name)) {
                about.entry(number).or_default().push(rule);
            }
        }
        for number in numbers() {
            let difference = DIFFERENCES.iter().find(|d| (d.when)(case, theirs.as_ref(), number));
            let rules = about.get(&(number & !ABI_BIT)).map_or(&[][..], Vec::as_slice);
            for args in arguments(rules) {
                let theirs = theirs.as_ref().map_or(KILL, |t| t.judge(case.default, number, args));
                let expected = difference.map_or(theirs, |d| (d.ours)(case));
                if let Some(difference) = difference.filter(|_| expected != theirs) {
                    met.insert(difference.why);
                }
                let ours = judge(&case.ours, audit, number, args);
                assert_eq!(
                    ours, expected,
                    "{}: {machine:?} {audit:#x} number {number:#x} {args:#x?}: {ours:#x}, not {expected:#x}",
                    case.name
                );
            }
        }
    }
    met
}

/// The rules of the default profile, in a profile's words.
fn default_rules(machine: Machine, capabilities: &[&str]) -> Vec<LinuxSyscall> {
    let rule = |section: &profile::Section<'_>, checks: Vec<Check>| {
        let names = section.calls.iter().map(|c| (*c).to_owned()).collect();
        let args = checks.iter().map(spec_arg).collect();
        let errno = (section.result != ALLOW).then_some(section.result & libc::SECCOMP_RET_DATA);
        let action = if errno.is_none() { "SCMP_ACT_ALLOW" } else { "SCMP_ACT_ERRNO" };
        LinuxSyscall { names, action: action.to_owned(), errno_ret: errno, args }
    };
    let sections = profile::sections(machine, capabilities).unwrap();
    sections.iter().flat_map(|s| s.alternatives().into_iter().map(|checks| rule(s, checks))).collect()
}

#[test]
fn the_default_filter_agrees_with_seccompilers_for_every_capability_and_architecture() {
    let mut sets = vec![vec!["CAP_SYS_CHROOT"], vec![], vec!["CAP_PERFMON"], OPENERS.to_vec()];
    sets.extend(OPENERS.map(|one| vec!["CAP_SYS_CHROOT", one]));
    let mut met = BTreeSet::new();
    for machine in [Machine::X86_64, Machine::Aarch64] {
        for set in &sets {
            met.extend(agree(&Case {
                name: &format!("{machine:?} {set:?}"),
                ours: profile::compile(machine, set).unwrap(),
                rules: machine.family().iter().map(|m| (*m, default_rules(*m, set))).collect(),
                x32: machine == Machine::X86_64,
                default: RET_ERRNO | 1,
            }));
        }
    }
    assert_eq!(met, BTreeSet::from([DIFFERENCES[1].why]));
}
