//! Seccomp: which system calls a container may make. A profile becomes one program for the kernel,
//! all architectures in it; the default one is compiled at build time. Installing comes last, after
//! everything that the filter would forbid.

mod docker;
pub mod names;
pub mod profile;
pub mod program;
mod sys;

use coracle_sys::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use names::Machine;
use program::{Arch, Check, Insn, Op, Rule, assemble};

pub use docker::load;

/// The default profile for the capabilities that a container has unasked, 8 bytes an instruction.
static DEFAULT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/seccomp"));

/// Which filter a container has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The default profile, by the container's capabilities.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(LinuxSeccomp),
}

/// A program, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    code: Vec<Insn>,
    flags: u64,
}

impl Choice {
    /// The program; none for a container that is not confined. `capabilities` are those of the
    /// bounding set, by name.
    pub fn compile(&self, capabilities: &[String]) -> Result<Option<Program>> {
        match self {
            Self::Unconfined => Ok(None),
            Self::Profile(profile) => compile(profile).map(Some),
            Self::Default => default_program(capabilities).map(Some),
        }
    }
}

impl Choice {
    /// The same as the runtime specification has it, for any runtime to read.
    pub fn profile(&self, capabilities: &[String]) -> Result<Option<LinuxSeccomp>> {
        match self {
            Self::Unconfined => Ok(None),
            Self::Profile(profile) => Ok(Some(profile.clone())),
            Self::Default => expand(capabilities).map(Some),
        }
    }
}

/// The default profile in the runtime specification's words.
fn expand(capabilities: &[String]) -> Result<LinuxSeccomp> {
    let own = own_machine()?;
    let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let mut syscalls = Vec::new();
    for section in profile::sections(own, &names).map_err(Error::invalid)? {
        let allow = section.result == libc::SECCOMP_RET_ALLOW;
        let action = if allow { "SCMP_ACT_ALLOW" } else { "SCMP_ACT_ERRNO" };
        let rule = |args| LinuxSyscall {
            names: section.calls.iter().map(|c| (*c).to_owned()).collect(),
            action: action.to_owned(),
            errno_ret: (!allow).then_some(section.result & 0xffff),
            args,
        };
        for checks in section.alternatives() {
            syscalls.push(rule(checks.iter().map(spec_arg).collect()));
        }
    }
    let architectures = match own {
        Machine::X86_64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"][..],
        Machine::I386 => &["SCMP_ARCH_X86"],
        Machine::Aarch64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        Machine::Arm => &["SCMP_ARCH_ARM"],
    };
    Ok(LinuxSeccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures.iter().map(|a| (*a).to_owned()).collect(),
        syscalls,
        ..LinuxSeccomp::default()
    })
}

fn spec_arg(check: &Check) -> LinuxSeccompArg {
    let (op, value, value_two) = match check.op {
        Op::Ne => ("SCMP_CMP_NE", check.value, 0),
        Op::Lt => ("SCMP_CMP_LT", check.value, 0),
        Op::Le => ("SCMP_CMP_LE", check.value, 0),
        Op::Eq => ("SCMP_CMP_EQ", check.value, 0),
        Op::Ge => ("SCMP_CMP_GE", check.value, 0),
        Op::Gt => ("SCMP_CMP_GT", check.value, 0),
        Op::MaskedEq(mask) => ("SCMP_CMP_MASKED_EQ", mask, check.value),
    };
    LinuxSeccompArg { index: check.arg.into(), value, value_two, op: op.to_owned() }
}

impl Program {
    /// Give it to the kernel, for this process and all that it starts. Needs CAP_SYS_ADMIN or
    /// no_new_privs.
    pub fn install(&self) -> Result<()> {
        sys::install(&self.code, self.flags)
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Whether it has none; it never has.
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }
}

/// The architecture that this program is built for.
pub fn own_machine() -> Result<Machine> {
    Machine::parse(std::env::consts::ARCH)
        .ok_or_else(|| Error::unsupported(format!("seccomp on {} is not supported", std::env::consts::ARCH)))
}

/// Capabilities that open calls in the default profile and that a container does not have unasked.
const OPENERS: [&str; 12] = [
    "CAP_SYS_ADMIN",
    "CAP_DAC_READ_SEARCH",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_SYS_NICE",
    "CAP_SYSLOG",
    "CAP_BPF",
];

fn default_program(capabilities: &[String]) -> Result<Program> {
    let has = |name: &str| capabilities.iter().any(|c| c == name);
    let plain = has("CAP_SYS_CHROOT") && !has("CAP_PERFMON") && !OPENERS.iter().any(|name| has(name));
    if plain && !DEFAULT.is_empty() {
        let insn = |b: &[u8]| Insn {
            code: u16::from_le_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        };
        return Ok(Program { code: DEFAULT.chunks_exact(8).map(insn).collect(), flags: 0 });
    }
    let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let code = profile::compile(own_machine()?, &names).map_err(Error::invalid)?;
    Ok(Program { code, flags: 0 })
}

/// A profile as the runtime specification has it.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    let set = |s: &Option<String>| s.as_deref().is_some_and(|s| !s.is_empty());
    if set(&profile.listener_path) || set(&profile.listener_metadata) {
        return Err(Error::unsupported("linux.seccomp.listenerPath is not supported yet"));
    }
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
            (None, other) if other.starts_with("SCMP_ARCH_") => {}
            (None, other) => {
                return Err(Error::invalid(format!("linux.seccomp.architectures: {other:?} is unknown")));
            }
        }
    }
    let archs = machines.iter().map(|machine| {
        let x32 = x32 && *machine == Machine::X86_64;
        let numbers = machine.calls();
        let (mut rules, mut abi, mut newest) = (Vec::new(), Vec::new(), None);
        for syscall in &profile.syscalls {
            let result = action(&syscall.action, syscall.errno_ret)?;
            let checks = alternatives(&syscall.args)?;
            for name in syscall.names.iter().map(String::as_str) {
                // A call that this architecture does not have, or that is newer than our table.
                let number = numbers.get(name).copied();
                newest = newest.max(number.filter(|n| *n < names::PRIVATE));
                let rule =
                    |(number, checks): (u32, &Vec<Check>)| Rule { number, checks: checks.clone(), result };
                let each = |number| checks.iter().map(move |checks| (number, checks));
                // What is done anyway needs no rule; libseccomp has it so, and it is not one among others.
                if result != default {
                    rules.extend(number.into_iter().flat_map(each).map(rule));
                    abi.extend(names::x32_number(name).into_iter().flat_map(each).map(rule));
                }
            }
        }
        // A call newer than the profile is one that it could not know: programs fall back on ENOSYS.
        // A tracer sees it all the same, and what is let through is.
        let permissive = matches!(default, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
            || default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRACE;
        let above = match newest {
            Some(_) if !permissive => RET_ERRNO | libc::ENOSYS as u32,
            _ => default,
        };
        let newest = newest.unwrap_or(0);
        Ok(Arch { audit: machine.audit(), abi: x32.then_some(abi), rules, newest, above })
    });
    let code = assemble(&archs.collect::<Result<Vec<_>>>()?, default, libc::SECCOMP_RET_KILL_PROCESS);
    Ok(Program { code: code.map_err(Error::invalid)?, flags: flags(&profile.flags)? })
}

const RET_ERRNO: u32 = libc::SECCOMP_RET_ERRNO;

/// The checks of a rule. As runc reads it, two conditions on one argument are two rules, not one that
/// can never hold.
fn alternatives(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Check>>> {
    let checks = args.iter().map(check).collect::<Result<Vec<_>>>()?;
    let twice = checks.iter().enumerate().any(|(i, c)| checks[..i].iter().any(|d| d.arg == c.arg));
    Ok(if twice { checks.into_iter().map(|c| vec![c]).collect() } else { vec![checks] })
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

/// The return value of an action, `SECCOMP_RET_*`.
fn action(name: &str, errno: Option<u32>) -> Result<u32> {
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
        "SCMP_ACT_NOTIFY" => {
            return Err(Error::unsupported("linux.seccomp: SCMP_ACT_NOTIFY is not supported yet"));
        }
        other => return Err(Error::invalid(format!("linux.seccomp: the action {other:?} is unknown"))),
    })
}

fn flags(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |all, name| {
        Ok(all
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                other => {
                    return Err(Error::unsupported(format!(
                        "linux.seccomp.flags: {other:?} is unknown or not supported"
                    )));
                }
            })
    })
}

#[cfg(test)]
mod tests;
