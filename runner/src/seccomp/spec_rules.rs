//! `linux.seccomp` of the runtime specification as rules for the generator. What a rule may say is checked
//! here; what is in no architecture of this machine is left out.

use std::collections::HashMap;

use coracle_sys::{Context, Error, Result};

use super::names::{self, Machine};
use super::program::{Abi, Arch, Check, Op, Rule, assemble};
use super::{Notify, Program, own_machine};
use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// A profile as the runtime specification has it.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    let set = |s: &Option<String>| s.as_deref().is_some_and(|s| !s.is_empty());
    if set(&profile.listener_metadata) && !set(&profile.listener_path) {
        return Err(Error::invalid("linux.seccomp.listenerMetadata needs listenerPath beside it"));
    }
    let notifies = profile.syscalls.iter().any(|s| s.action == NOTIFY);
    if profile.default_action == NOTIFY {
        return Err(Error::invalid(format!("linux.seccomp.defaultAction: {NOTIFY} is for single calls")));
    }
    if notifies && !set(&profile.listener_path) {
        return Err(Error::invalid(format!("linux.seccomp: {NOTIFY} needs listenerPath")));
    }
    let notify = notifies.then(|| Notify {
        path: profile.listener_path.clone().unwrap_or_default().into(),
        metadata: profile.listener_metadata.clone().unwrap_or_default(),
        state: serde_json::Value::Null,
    });
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let own = own_machine()?;
    let mut machines = vec![own];
    let mut x32 = false;
    for name in &profile.architectures {
        match (Machine::parse(name), name.as_str()) {
            (Some(machine), _) if machines.contains(&machine) => {}
            (Some(machine), _) => machines.push(machine),
            (None, "SCMP_ARCH_X32") => x32 = true,
            // What this kernel never runs needs no rules.
            (None, other)
                if other.strip_prefix("SCMP_ARCH_").is_some_and(|a| names::ELSEWHERE.contains(&a)) => {}
            (None, other) => {
                return Err(Error::invalid(format!("linux.seccomp.architectures: {other:?} is unknown")));
            }
        }
    }
    let mut archs = Vec::new();
    for machine in machines {
        let mut rules = Rules::new(machine);
        for syscall in &profile.syscalls {
            rules.add(syscall, default)?;
        }
        let abi = match machine {
            Machine::X86_64 if x32 => Abi::Own(rules.x32),
            Machine::X86_64 => Abi::Foreign,
            _ => Abi::None,
        };
        // A call newer than the profile is one that it could not know: programs fall back on ENOSYS.
        // A tracer sees it all the same, and what is let through is.
        let permissive = matches!(default, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
            || default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRACE;
        let above = match rules.newest {
            Some(_) if !permissive => RET_ERRNO | libc::ENOSYS as u32,
            _ => default,
        };
        let (rules, newest) = (rules.own, rules.newest.unwrap_or(0));
        archs.push(Arch { audit: machine.audit(), abi, rules, newest, above });
    }
    let code = assemble(&archs, default, libc::SECCOMP_RET_KILL_PROCESS).map_err(Error::invalid)?;
    let flags = flags(&profile.flags, notifies)?;
    let [execve, execveat, fcntl] = ["execve", "execveat", "fcntl"].map(|call| lets_through(profile, call));
    Ok(Program { code, flags, notify, execve, execveat, fcntl, ..Program::plain() })
}

/// Whether a profile has nothing against a call, whatever its arguments.
fn lets_through(profile: &LinuxSeccomp, call: &str) -> bool {
    let lets = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    let mut about = profile.syscalls.iter().filter(|s| s.names.iter().any(|name| name == call)).peekable();
    match about.peek() {
        Some(_) => about.all(|s| lets(&s.action) && s.args.is_empty()),
        None => lets(&profile.default_action),
    }
}

/// More than any program of 4096 instructions is made of. A few lines can name millions.
const MOST: usize = 8192;

/// What a profile says to the callers of one architecture.
struct Rules<'a> {
    machine: Machine,
    numbers: HashMap<&'static str, u32>,
    own: Vec<Rule>,
    x32: Vec<Rule>,
    /// The newest call that is named.
    newest: Option<u32>,
    /// How many there are of them, a name with each of its alternatives being one.
    count: usize,
    /// Those with arguments, to tell when two contradict each other.
    by_name: HashMap<&'a str, Vec<(Vec<Check>, u32)>>,
}

impl<'a> Rules<'a> {
    fn new(machine: Machine) -> Self {
        let (own, x32, newest, count, by_name) = Default::default();
        Self { machine, numbers: machine.calls(), own, x32, newest, count, by_name }
    }

    fn add(&mut self, syscall: &'a LinuxSyscall, default: u32) -> Result<()> {
        let of = || format!("read the rule for {}", syscall.names.first().map_or("no call", |n| n));
        if syscall.names.is_empty() {
            return Err(Error::invalid("linux.seccomp.syscalls: a rule has no names"));
        }
        let result = action(&syscall.action, syscall.errno_ret).context(of)?;
        let mut alternatives = alternatives(&syscall.args).context(of)?;
        self.count += syscall.names.len() * alternatives.len();
        if self.count > MOST {
            return Err(Error::invalid(
                "linux.seccomp: more than 8192 rules, counting each name with each condition",
            ));
        }
        if self.machine.narrow() {
            alternatives.iter_mut().flatten().for_each(lower_half);
        }
        for name in syscall.names.iter().map(String::as_str) {
            // A call that this architecture does not have, or that is newer than our table.
            let number = self.numbers.get(name).copied();
            self.newest = self.newest.max(number.filter(|n| *n < names::PRIVATE));
            // What is done anyway needs no rule; libseccomp has it so, and it is not one among others.
            if result == default {
                continue;
            }
            for checks in &alternatives {
                self.contradicts(name, checks, result)?;
                let rule = |number| Rule { number, checks: checks.clone(), result };
                self.own.extend(number.map(rule));
                self.x32.extend(names::x32_number(name).map(rule));
            }
            if self.machine == Machine::I386 {
                self.own.extend(behind_another(name, &syscall.args, result, default, &self.numbers));
            }
        }
        Ok(())
    }

    /// Refuse a second action for the same arguments, as libseccomp does.
    fn contradicts(&mut self, name: &'a str, checks: &[Check], result: u32) -> Result<()> {
        if checks.is_empty() {
            return Ok(());
        }
        let known = self.by_name.entry(name).or_default();
        match known.iter().find(|(c, _)| c == checks) {
            Some((_, other)) if *other != result => {
                Err(Error::invalid(format!("linux.seccomp: {name:?} has two actions for the same arguments")))
            }
            Some(_) => Ok(()),
            None => {
                known.push((checks.to_vec(), result));
                Ok(())
            }
        }
    }
}

/// The rule for i386's other way to a call, `socketcall` or `ipc`. Arguments cannot be looked at there: a
/// rule that has some is kept when it takes rights away, and then for all arguments, and never when it
/// gives some.
fn behind_another(
    name: &str,
    args: &[LinuxSeccompArg],
    result: u32,
    default: u32,
    numbers: &HashMap<&str, u32>,
) -> Option<Rule> {
    let (multiplexer, mask, which) = names::multiplexer(name)?;
    // The kernel's order: as signed numbers, the stricter action is the lower.
    let strictness = |result: u32| (result & libc::SECCOMP_RET_ACTION_FULL) as i32;
    if !args.is_empty() && strictness(result) > strictness(default) {
        return None;
    }
    let check = Check { arg: 0, op: Op::MaskedEq(mask), value: which };
    Some(Rule { number: *numbers.get(multiplexer)?, checks: vec![check], result })
}

pub(super) const RET_ERRNO: u32 = libc::SECCOMP_RET_ERRNO;

/// The checks of a rule. As runc reads it, two conditions on one argument are two rules, not one that
/// can never hold.
fn alternatives(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Check>>> {
    let checks = args.iter().map(check).collect::<Result<Vec<_>>>()?;
    let twice = checks.iter().enumerate().any(|(i, c)| checks[..i].iter().any(|d| d.arg == c.arg));
    Ok(if twice { checks.into_iter().map(|c| vec![c]).collect() } else { vec![checks] })
}

/// Arguments of 32 bits are compared to the lower half of what is written, as libseccomp has it: -1 is
/// 0xffffffff there.
fn lower_half(check: &mut Check) {
    check.value &= u64::from(u32::MAX);
    if let Op::MaskedEq(mask) = &mut check.op {
        *mask &= u64::from(u32::MAX);
    }
}

fn check(arg: &LinuxSeccompArg) -> Result<Check> {
    let index = u8::try_from(arg.index).ok().filter(|i| *i < 6);
    let index = index
        .ok_or_else(|| Error::invalid(format!("linux.seccomp: args.index {} is not 0 to 5", arg.index)))?;
    let (op, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (Op::Ne, arg.value),
        "SCMP_CMP_LT" => (Op::Lt, arg.value),
        "SCMP_CMP_LE" => (Op::Le, arg.value),
        "SCMP_CMP_EQ" => (Op::Eq, arg.value),
        "SCMP_CMP_GE" => (Op::Ge, arg.value),
        "SCMP_CMP_GT" => (Op::Gt, arg.value),
        "SCMP_CMP_MASKED_EQ" => (Op::MaskedEq(arg.value), arg.value_two & arg.value),
        other => return Err(Error::invalid(format!("linux.seccomp: the operator {other:?} is unknown"))),
    };
    Ok(Check { arg: index, op, value })
}

const NOTIFY: &str = "SCMP_ACT_NOTIFY";

/// The return value of an action, `SECCOMP_RET_*`.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    // Profiles have it as 0 where it means nothing.
    if errno.is_some_and(|n| n != 0) && !matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE") {
        return Err(Error::invalid(format!("linux.seccomp: errnoRet means nothing for {name:?}")));
    }
    let errno = errno.unwrap_or(libc::EPERM as u32);
    if errno > 4095 {
        return Err(Error::invalid(format!("linux.seccomp: errnoRet {errno} is above 4095")));
    }
    Ok(match name {
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => RET_ERRNO | errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | errno,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        NOTIFY => libc::SECCOMP_RET_USER_NOTIF,
        other => return Err(Error::invalid(format!("linux.seccomp: the action {other:?} is unknown"))),
    })
}

fn flags(names: &[String], notifies: bool) -> Result<u64> {
    names.iter().try_fold(0, |all, name| {
        Ok(all
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                // Linux 5.19; only of a filter with a listener.
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if notifies => 1 << 5,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                other => {
                    return Err(Error::unsupported(format!(
                        "linux.seccomp.flags: {other:?} is unknown or not supported"
                    )));
                }
            })
    })
}
