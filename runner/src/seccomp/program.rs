//! From rules to one BPF program, seccomp(2): each architecture has a tree over ranges of system call
//! numbers, so that a call is judged in a handful of instructions. (Since Linux 5.11 the kernel runs
//! the program over all numbers when it is installed and keeps which are allowed: a short way to every
//! one is what makes a start quick.) Nothing but the rules is known here, and nothing is installed.
//! The build script uses this file as well, for the default profile.

mod backwards;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use backwards::{AND, Backwards, JEQ, load};

/// One instruction, `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub code: u16,
    /// How many instructions are skipped when the comparison holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// How an argument is compared, as libseccomp names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Not equal.
    Ne,
    /// Below.
    Lt,
    /// Below or equal.
    Le,
    /// Equal.
    Eq,
    /// Above or equal.
    Ge,
    /// Above.
    Gt,
    /// Equal in the bits of the mask.
    MaskedEq(u64),
}

/// One comparison of a 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which argument, from 0.
    pub arg: u8,
    /// How.
    pub op: Op,
    /// With what.
    pub value: u64,
}

/// What becomes of a call. Of several rules for one call an unconditional one counts before the
/// others, and of those the first that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The call.
    pub number: u32,
    /// All of them must hold.
    pub checks: Vec<Check>,
    /// The filter's return value, `SECCOMP_RET_*`.
    pub result: u32,
}

/// What numbers with [`ABI_BIT`] are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Abi {
    /// Numbers like all others.
    #[default]
    None,
    /// Calls of another ABI, x32, and who makes them is foreign. But -1 is no call: it is what a tracer
    /// writes to have one left out.
    Foreign,
    /// The bit is taken off, and x32 has these numbers of its own.
    Own(Vec<Rule>),
}

/// The rules for callers of one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arch {
    /// `AUDIT_ARCH_*`.
    pub audit: u32,
    /// What numbers with [`ABI_BIT`] are.
    pub abi: Abi,
    /// In any order.
    pub rules: Vec<Rule>,
    /// The newest call that the profile knows.
    pub newest: u32,
    /// What becomes of newer ones that have no rule.
    pub above: u32,
}

/// What x32 adds to its numbers.
pub const ABI_BIT: u32 = 0x4000_0000;

/// The kernel's limit, BPF_MAXINSNS.
const MAX: usize = 4096;

/// The whole program. `default` is for calls without a rule that holds, `foreign` for callers of an
/// architecture that is not listed.
pub fn assemble(archs: &[Arch], default: u32, foreign: u32) -> Result<Vec<Insn>, String> {
    let mut code = Backwards::default();
    let mut next = code.ret(foreign);
    for arch in archs.iter().rev() {
        let ranges = ranges(arch, default, foreign);
        let default = code.ret(default);
        let mut body = code.tree(&ranges, default);
        if let Abi::Own(_) = arch.abi {
            body = code.then(Insn { code: AND, jt: 0, jf: 0, k: !ABI_BIT }, body);
        }
        // seccomp_data: nr at 0, arch at 4. The number is loaded once the architecture is known.
        let body = code.then(load(0), body);
        next = code.branch(JEQ, arch.audit, body, next);
    }
    code.then(load(4), next);
    let code: Vec<Insn> = code.last_first.into_iter().rev().collect();
    if code.len() > MAX {
        return Err(format!("the filter has {} instructions, and the kernel takes {MAX}", code.len()));
    }
    Ok(code)
}

/// What happens on numbers from `first` to where the next range begins: what the rules say, one after
/// the other.
#[derive(PartialEq)]
struct Range<'a> {
    first: u32,
    rules: Vec<(&'a [Check], u32)>,
}

fn ranges(arch: &Arch, default: u32, foreign: u32) -> Vec<Range<'_>> {
    let mut by_number: BTreeMap<u32, Vec<(&[Check], u32)>> = BTreeMap::new();
    let own = if let Abi::Own(rules) = &arch.abi { &rules[..] } else { &[] };
    for rule in arch.rules.iter().chain(own) {
        let rules = by_number.entry(rule.number).or_default();
        match rules.first() {
            Some(([], _)) => {}
            _ if rule.checks.is_empty() => *rules = vec![(&[], rule.result)],
            _ => rules.push((&rule.checks, rule.result)),
        }
    }
    let mut ranges: Vec<Range<'_>> = Vec::new();
    let mut add = |first, rules| {
        if ranges.last().is_none_or(|last| last.rules != rules) {
            ranges.push(Range { first, rules });
        }
    };
    let plain = |result| vec![(&[][..], result)];
    let mut next = 0;
    for (number, rules) in by_number {
        if next <= arch.newest && next < number {
            add(next, plain(default));
        }
        if next < number && arch.newest + 1 < number {
            add(next.max(arch.newest + 1), plain(arch.above));
        }
        add(number, rules);
        next = number + 1;
    }
    if next <= arch.newest {
        add(next, plain(default));
    }
    add(next.max(arch.newest + 1), plain(arch.above));
    if arch.abi == Abi::Foreign {
        add(ABI_BIT, plain(foreign));
        add(u32::MAX, plain(arch.above));
    }
    ranges
}
