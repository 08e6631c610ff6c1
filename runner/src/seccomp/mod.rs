//! Seccomp: which system calls a container may make. A profile becomes one program for the kernel,
//! all architectures in it; the default one is compiled at build time. Installing comes last, after
//! everything that the filter would forbid.

mod docker;
pub mod names;
mod notify;
pub mod profile;
pub mod program;
mod projects;
mod spec_rules;
mod sys;

use std::os::fd::OwnedFd;

use coracle_sys::{Error, Result, json};
use serde::Serialize;

use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use names::Machine;
use program::{Check, Insn, Op};

pub use docker::load;
pub use notify::Notify;
pub use spec_rules::compile;
pub(crate) use sys::is_flag_supported;

/// The default profile for the capabilities that a container has unasked, 8 bytes an instruction.
static DEFAULT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/seccomp"));

/// Which filter a container has.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The default profile, by the container's capabilities.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(LinuxSeccomp),
    /// That one, of a container that is held to a quota on disk: no file leaves its project either.
    Counted(Box<Choice>),
}

impl json::Read for Choice {
    fn read(&mut self, value: json::Value) -> std::result::Result<(), json::Wrong> {
        *self = match value.as_str() {
            Some("default") => Self::Default,
            Some("unconfined") => Self::Unconfined,
            _ if value.get("counted").is_some() => {
                let mut inner = Self::Default;
                json::members(value, &mut [json::Member::must("counted", &mut inner)])?;
                Self::Counted(Box::new(inner))
            }
            _ => {
                let mut profile = LinuxSeccomp::default();
                json::members(value, &mut [json::Member::must("profile", &mut profile)])?;
                Self::Profile(profile)
            }
        };
        Ok(())
    }
}

/// A program, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is installed before it, and refuses whatever it says; nothing where it is empty.
    guard: Vec<Insn>,
    code: Vec<Insn>,
    flags: u64,
    /// Who is asked about calls, where the profile has it so.
    pub notify: Option<Notify>,
    /// It has nothing against execveat(2).
    pub execveat: bool,
    /// It has nothing against fcntl(2).
    pub fcntl: bool,
    /// It has nothing against execve(2).
    execve: bool,
}

impl Choice {
    /// The program; none for a container that is not confined. `capabilities` are those of the
    /// bounding set, by name.
    pub fn compile(&self, capabilities: &[String]) -> Result<Option<Program>> {
        match self {
            Self::Unconfined => Ok(None),
            Self::Profile(profile) => compile(profile).map(Some),
            Self::Default => default_program(capabilities).map(Some),
            Self::Counted(inner) => {
                let projects = compile(&projects::profile(architectures(own_machine()?)))?;
                Ok(Some(match inner.compile(capabilities)? {
                    Some(program) => Program { guard: projects.code, ..program },
                    None => projects,
                }))
            }
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
            // A quota is the store's affair, and the specification has none.
            Self::Counted(inner) => inner.profile(capabilities),
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
    Ok(LinuxSeccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures(own),
        syscalls,
        ..LinuxSeccomp::default()
    })
}

/// Whose programs a machine's kernel runs.
fn architectures(own: Machine) -> Vec<String> {
    let names = match own {
        Machine::X86_64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"][..],
        Machine::I386 => &["SCMP_ARCH_X86"],
        Machine::Aarch64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        Machine::Arm => &["SCMP_ARCH_ARM"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
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
    const fn plain() -> Self {
        Self {
            guard: Vec::new(),
            code: Vec::new(),
            flags: 0,
            notify: None,
            execveat: true,
            fcntl: true,
            execve: true,
        }
    }

    /// Whether it surely lets a command come to its execution.
    pub fn lets_exec(&self) -> bool {
        self.execve && self.execveat && self.fcntl
    }

    /// Give it to the kernel, for this process and all that it starts. Needs CAP_SYS_ADMIN or
    /// no_new_privs. `give` hands the listener over, where calls are to be asked about.
    pub fn install(&self, give: impl FnOnce(OwnedFd) -> bool + Send + 'static) -> Result<()> {
        if !self.guard.is_empty() {
            sys::install(&self.guard, 0)?;
        }
        match self.notify {
            Some(_) => notify::install(self, give),
            None => sys::install(&self.code, self.flags).map(drop),
        }
    }

    /// What the kernel is given.
    pub fn code(&self) -> &[Insn] {
        &self.code
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
        return Ok(Program { code: DEFAULT.chunks_exact(8).map(insn).collect(), ..Program::plain() });
    }
    let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let code = profile::compile(own_machine()?, &names).map_err(Error::invalid)?;
    Ok(Program { code, ..Program::plain() })
}

#[cfg(test)]
mod tests;
