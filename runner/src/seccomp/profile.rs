//! The default profile, `default.txt`, as rules. The build script uses this file as well, and compiles
//! the profile for the capabilities that a container has unasked.

use super::names::{Machine, PRIVATE, x32_number};
use super::program::{Abi, Arch, Check, Insn, Op, Rule, assemble};

const TEXT: &str = include_str!("default.txt");

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_KILL_PROCESS`.
const KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO`, with the errno in the low bits.
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A section of the profile: its calls, and what has to be so for it to count.
pub struct Section<'a> {
    /// The filter's return value.
    pub result: u32,
    capability: Option<(bool, &'a str)>,
    machine: Option<Machine>,
    /// A comparison of an argument; one of several is enough, and where there is none nothing is asked.
    pub any: Vec<Check>,
    /// The calls, by name.
    pub calls: Vec<&'a str>,
}

/// The sections that count for callers of this architecture with these capabilities.
pub fn sections(machine: Machine, capabilities: &[&str]) -> Result<Vec<Section<'static>>, String> {
    let mut all: Vec<Section<'_>> = Vec::new();
    for line in TEXT.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix("    ") {
            None => all.push(head(line)?),
            Some(names) => {
                let section = all.last_mut().ok_or("the profile begins without a section")?;
                section.calls.extend(names.split(' '));
            }
        }
    }
    all.retain(|s| {
        s.capability.is_none_or(|(has, name)| capabilities.contains(&name) == has)
            && s.machine.is_none_or(|m| m == machine)
    });
    Ok(all)
}

/// The program for a container with these capabilities, on a kernel of this architecture.
pub fn compile(machine: Machine, capabilities: &[&str]) -> Result<Vec<Insn>, String> {
    let mut archs = Vec::new();
    for machine in machine.family() {
        let numbers = machine.calls();
        let (mut rules, mut abi) = (Vec::new(), Vec::new());
        for section in sections(*machine, capabilities)? {
            for checks in section.alternatives() {
                let rule = |number| Rule { number, checks: checks.clone(), result: section.result };
                for name in &section.calls {
                    rules.extend(numbers.get(name).copied().map(rule));
                    abi.extend(x32_number(name).map(rule));
                }
            }
        }
        let newest = rules.iter().map(|r| r.number).filter(|n| *n < PRIVATE).max().unwrap_or(0);
        let abi = if *machine == Machine::X86_64 { Abi::Own(abi) } else { Abi::None };
        archs.push(Arch { audit: machine.audit(), abi, rules, newest, above: ERRNO | ENOSYS });
    }
    assemble(&archs, ERRNO | EPERM, KILL_PROCESS)
}

impl Section<'_> {
    /// The checks of each of its rules.
    pub fn alternatives(&self) -> Vec<Vec<Check>> {
        match self.any.is_empty() {
            true => vec![Vec::new()],
            false => self.any.iter().map(|check| vec![*check]).collect(),
        }
    }
}

fn head(line: &str) -> Result<Section<'_>, String> {
    let wrong = || format!("the profile's section {line:?} is malformed");
    let number = |word: &str| {
        match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse::<u64>(),
        }
        .map_err(|_| wrong())
    };
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(wrong);
    let result = match word()? {
        "allow" => ALLOW,
        "errno" => ERRNO | number(word()?)? as u32,
        _ => return Err(wrong()),
    };
    let mut section = Section { result, capability: None, machine: None, any: Vec::new(), calls: Vec::new() };
    while let Ok(condition) = word() {
        match condition {
            "cap" | "nocap" => section.capability = Some((condition == "cap", word()?)),
            "arch" => section.machine = Some(Machine::parse(word()?).ok_or_else(wrong)?),
            "arg" => {
                let arg = number(word()?)? as u8;
                match word()? {
                    "masked" => {
                        let op = Op::MaskedEq(number(word()?)?);
                        section.any.push(Check { arg, op, value: number(word()?)? });
                    }
                    "any" => {
                        while let Ok(value) = word() {
                            let (first, last) = value.split_once('-').unwrap_or((value, value));
                            let values = number(first)?..=number(last)?;
                            section.any.extend(values.map(|value| Check { arg, op: Op::Eq, value }));
                        }
                    }
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(section)
}
