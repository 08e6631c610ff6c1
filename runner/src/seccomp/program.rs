//! From rules to one BPF program, seccomp(2): each architecture has a tree over ranges of system call
//! numbers, so that a call is judged in a handful of instructions. Nothing but the rules is known
//! here, and nothing is installed. The build script uses this file as well, for the default profile.

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

/// The rules for callers of one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arch {
    /// `AUDIT_ARCH_*`.
    pub audit: u32,
    /// Numbers with this bit are the same calls of another ABI (x32): the bit is taken off. Without
    /// it such numbers get the default.
    pub abi_bit: Option<u32>,
    /// In any order.
    pub rules: Vec<Rule>,
    /// What becomes of numbers above all that have a rule.
    pub above: u32,
}

const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// The kernel's limit, BPF_MAXINSNS.
const MAX: usize = 4096;

/// The whole program. `default` is for calls without a rule that holds, `foreign` for callers of an
/// architecture that is not listed.
pub fn assemble(archs: &[Arch], default: u32, foreign: u32) -> Result<Vec<Insn>, String> {
    let mut code = vec![ret(foreign)];
    for arch in archs.iter().rev() {
        let body = tree_of(arch, default);
        // seccomp_data: nr at 0, arch at 4. The number is loaded once the architecture is known.
        let mut block = vec![load(0)];
        block.extend(body);
        let mut whole = vec![load(4)];
        whole.extend(when(JEQ, arch.audit, block, code));
        code = whole;
    }
    if code.len() > MAX {
        return Err(format!("the filter has {} instructions, and the kernel takes {MAX}", code.len()));
    }
    Ok(code)
}

/// What happens on a range of numbers, from `first` to where the next one begins.
struct Range {
    first: u32,
    body: Vec<Insn>,
}

fn tree_of(arch: &Arch, default: u32) -> Vec<Insn> {
    let mut numbers: Vec<u32> = arch.rules.iter().map(|r| r.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |first: u32, body: Vec<Insn>| {
        if ranges.last().is_none_or(|last| last.body != body) {
            ranges.push(Range { first, body });
        }
    };
    let mut next = 0;
    for number in numbers {
        if number > next || next == 0 {
            add(next, vec![ret(default)]);
        }
        if number == 0 {
            add(0, body_of(arch, number, default));
        } else {
            add(number, body_of(arch, number, default));
        }
        next = number + 1;
    }
    add(next, vec![ret(arch.above)]);
    // A range that begins where the next one does is empty: number 0 has a rule of its own.
    let mut kept: Vec<Range> = Vec::new();
    for range in ranges {
        match kept.last_mut() {
            Some(last) if last.first == range.first => last.body = range.body,
            _ => kept.push(range),
        }
    }
    let tree = tree(&kept);
    const ABI: u32 = 0x4000_0000;
    match arch.abi_bit {
        Some(bit) => {
            let mut code = vec![Insn { code: AND, jt: 0, jf: 0, k: !bit }];
            code.extend(tree);
            code
        }
        None => when(JGE, ABI, vec![ret(default)], tree),
    }
}

/// Halve until one range is left.
fn tree(ranges: &[Range]) -> Vec<Insn> {
    match ranges {
        [] => Vec::new(),
        [one] => one.body.clone(),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            when(JGE, high[0].first, tree(high), tree(low))
        }
    }
}

/// The rules of one call, one after the other.
fn body_of(arch: &Arch, number: u32, default: u32) -> Vec<Insn> {
    let rules = || arch.rules.iter().filter(|r| r.number == number);
    if let Some(rule) = rules().find(|r| r.checks.is_empty()) {
        return vec![ret(rule.result)];
    }
    let mut code = Vec::new();
    for rule in rules() {
        let mut body = vec![ret(rule.result)];
        for check in rule.checks.iter().rev() {
            let mut whole = compare(check, body.len());
            whole.append(&mut body);
            body = whole;
        }
        code.extend(body);
    }
    code.push(ret(default));
    code
}

/// A comparison in two halves of 32 bits. What follows is reached when it holds; when not, so many
/// instructions of it are skipped.
fn compare(check: &Check, skip: usize) -> Vec<Insn> {
    let low = 16 + 8 * u32::from(check.arg);
    let (high_value, low_value) = ((check.value >> 32) as u32, check.value as u32);
    let skip = skip as u8;
    let jump = |code, k, jt, jf| Insn { code, jt, jf, k };
    match check.op {
        Op::Eq => {
            vec![load(low + 4), jump(JEQ, high_value, 0, skip + 2), load(low), jump(JEQ, low_value, 0, skip)]
        }
        Op::Ne => vec![load(low + 4), jump(JEQ, high_value, 0, 2), load(low), jump(JEQ, low_value, skip, 0)],
        Op::MaskedEq(mask) => vec![
            load(low + 4),
            Insn { code: AND, jt: 0, jf: 0, k: (mask >> 32) as u32 },
            jump(JEQ, high_value, 0, skip + 3),
            load(low),
            Insn { code: AND, jt: 0, jf: 0, k: mask as u32 },
            jump(JEQ, low_value, 0, skip),
        ],
        Op::Gt | Op::Ge => {
            let last = if check.op == Op::Gt { JGT } else { JGE };
            vec![
                load(low + 4),
                jump(JGT, high_value, 3, 0),
                jump(JEQ, high_value, 0, skip + 2),
                load(low),
                jump(last, low_value, 0, skip),
            ]
        }
        Op::Lt | Op::Le => {
            let last = if check.op == Op::Lt { JGE } else { JGT };
            vec![
                load(low + 4),
                jump(JGT, high_value, skip + 3, 0),
                jump(JEQ, high_value, 0, 2),
                load(low),
                jump(last, low_value, skip, 0),
            ]
        }
    }
}

/// `then` where the accumulator compares to `k`, else `otherwise`. A conditional jump reaches 255
/// instructions; beyond, it is made over an unconditional one.
fn when(code: u16, k: u32, then: Vec<Insn>, otherwise: Vec<Insn>) -> Vec<Insn> {
    let mut all = match u8::try_from(otherwise.len()) {
        Ok(jt) => vec![Insn { code, jt, jf: 0, k }],
        Err(_) => {
            vec![Insn { code, jt: 0, jf: 1, k }, Insn { code: JA, jt: 0, jf: 0, k: otherwise.len() as u32 }]
        }
    };
    all.extend(otherwise);
    all.extend(then);
    all
}

fn load(offset: u32) -> Insn {
    Insn { code: LD_ABS, jt: 0, jf: 0, k: offset }
}

fn ret(value: u32) -> Insn {
    Insn { code: RET, jt: 0, jf: 0, k: value }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What the kernel would do: the oracle of these tests.
    pub(crate) fn judge(code: &[Insn], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            16.. => {
                let value = args[((offset - 16) / 8) as usize];
                if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
            }
            other => panic!("load of {other}"),
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let insn = code[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
            match insn.code {
                LD_ABS => a = word(insn.k),
                AND => a &= insn.k,
                JA => at += insn.k as usize,
                JEQ => at += skip(a == insn.k),
                JGT => at += skip(a > insn.k),
                JGE => at += skip(a >= insn.k),
                RET => return insn.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const X: u32 = 0xc000_003e;
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    fn rule(number: u32, checks: &[Check]) -> Rule {
        Rule { number, checks: checks.to_vec(), result: ALLOW }
    }

    fn arch(rules: Vec<Rule>) -> Arch {
        Arch { audit: X, abi_bit: None, rules, above: ENOSYS }
    }

    #[test]
    fn every_number_is_judged_by_its_own_rule() {
        // Patterns with runs, gaps, the ends, and so many that jumps are long.
        for pattern in [1u64, 0x8000_0000_0000_0001, 0x5555_5555_5555_5555, 0xf0f0_1234_0000_ffff, u64::MAX] {
            let allowed = |n: u32| pattern >> (n % 64) & 1 == 1 && n < 1500;
            let code = assemble(
                &[arch((0..1500).filter(|n| allowed(*n)).map(|n| rule(n, &[])).collect())],
                EPERM,
                0,
            );
            let code = code.unwrap();
            let last = (0..1500).rev().find(|n| allowed(*n)).unwrap();
            for n in 0..1600 {
                let expected = if allowed(n) {
                    ALLOW
                } else if n > last {
                    ENOSYS
                } else {
                    EPERM
                };
                assert_eq!(judge(&code, X, n, [0; 6]), expected, "{pattern:#x} {n}");
            }
            assert_eq!(judge(&code, 7, 0, [0; 6]), 0, "another architecture");
        }
    }

    #[test]
    fn arguments_are_compared_with_all_their_bits() {
        let interesting =
            [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x8000_0000_0000_0000, u64::MAX];
        for value in interesting {
            for mask in interesting {
                for op in [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq(mask)] {
                    let value = if let Op::MaskedEq(mask) = op { value & mask } else { value };
                    let code =
                        assemble(&[arch(vec![rule(5, &[Check { arg: 2, op, value }])])], EPERM, 0).unwrap();
                    for given in interesting {
                        let holds = match op {
                            Op::Ne => given != value,
                            Op::Lt => given < value,
                            Op::Le => given <= value,
                            Op::Eq => given == value,
                            Op::Ge => given >= value,
                            Op::Gt => given > value,
                            Op::MaskedEq(mask) => given & mask == value,
                        };
                        let result = judge(&code, X, 5, [9, 9, given, 9, 9, 9]);
                        assert_eq!(result == ALLOW, holds, "{op:?} {value:#x} {given:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn checks_of_a_rule_all_hold_and_one_rule_of_several_is_enough() {
        let is = |arg, value| Check { arg, op: Op::Eq, value };
        let rules = vec![rule(9, &[is(0, 1), is(1, 2)]), rule(9, &[is(0, 3)])];
        let code = assemble(&[arch(rules)], EPERM, 0).unwrap();
        for (a, b, allowed) in [(1, 2, true), (1, 3, false), (3, 0, true), (0, 2, false)] {
            assert_eq!(judge(&code, X, 9, [a, b, 0, 0, 0, 0]) == ALLOW, allowed, "{a} {b}");
        }
        let mut both = vec![rule(9, &[is(0, 1)])];
        both.push(Rule { result: ENOSYS, ..rule(9, &[]) });
        assert_eq!(judge(&assemble(&[arch(both)], EPERM, 0).unwrap(), X, 9, [1; 6]), ENOSYS);
    }

    #[test]
    fn numbers_of_another_abi_are_the_same_calls_or_none() {
        let mut one = arch(vec![rule(3, &[])]);
        let code = assemble(std::slice::from_ref(&one), EPERM, 0).unwrap();
        assert_eq!(judge(&code, X, 3 | 0x4000_0000, [0; 6]), EPERM);
        one.abi_bit = Some(0x4000_0000);
        let code = assemble(&[one], EPERM, 0).unwrap();
        assert_eq!(judge(&code, X, 3 | 0x4000_0000, [0; 6]), ALLOW);
    }
}
