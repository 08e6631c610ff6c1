//! From rules to one BPF program, seccomp(2): each architecture has a tree over ranges of system call
//! numbers, so that a call is judged in a handful of instructions. (Since Linux 5.11 the kernel runs
//! the program over all numbers when it is installed and keeps which are allowed: a short way to every
//! one is what makes a start quick.) Nothing but the rules is known here, and nothing is installed.
//! The build script uses this file as well, for the default profile.

use std::collections::{BTreeMap, HashMap};

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
    /// Numbers with [`ABI_BIT`] are calls of another ABI, x32: `Some` has its own numbers, and the bit
    /// is taken off. Without it such callers are foreign.
    pub abi: Option<Vec<Rule>>,
    /// In any order.
    pub rules: Vec<Rule>,
    /// The newest call that the profile knows.
    pub newest: u32,
    /// What becomes of newer ones that have no rule.
    pub above: u32,
}

/// What x32 adds to its numbers.
pub const ABI_BIT: u32 = 0x4000_0000;

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
    let mut code = Backwards::default();
    let mut next = code.ret(foreign);
    for arch in archs.iter().rev() {
        let ranges = ranges(arch, default);
        let default = code.ret(default);
        let mut body = code.tree(&ranges, default);
        body = match arch.abi {
            Some(_) => code.then(Insn { code: AND, jt: 0, jf: 0, k: !ABI_BIT }, body),
            None => {
                let foreign = code.ret(foreign);
                code.branch(JGE, ABI_BIT, foreign, body)
            }
        };
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

fn ranges(arch: &Arch, default: u32) -> Vec<Range<'_>> {
    let mut by_number: BTreeMap<u32, Vec<(&[Check], u32)>> = BTreeMap::new();
    for rule in arch.rules.iter().chain(arch.abi.iter().flatten()) {
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
    ranges
}

/// A program that is written from its end: all jumps go forward, so what is jumped to is there first.
/// What exists already is not written again.
#[derive(Default)]
struct Backwards {
    last_first: Vec<Insn>,
    known: HashMap<(u16, u32, At, At), At>,
}

/// An instruction, counted from the end of the program.
type At = usize;

/// A conditional jump skips 255 instructions at most; some room is left for what is put between.
const REACH: usize = 250;

impl Backwards {
    /// Where the accumulator is in which range: halve until one is left.
    fn tree(&mut self, ranges: &[Range<'_>], otherwise: At) -> At {
        match ranges {
            [one] => self.rules(&one.rules, otherwise),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let above = self.tree(high, otherwise);
                let below = self.tree(low, otherwise);
                self.branch(JGE, high[0].first, above, below)
            }
        }
    }

    /// One rule after the other.
    fn rules(&mut self, rules: &[(&[Check], u32)], otherwise: At) -> At {
        let Some(((checks, result), rest)) = rules.split_first() else { return otherwise };
        if let [Check { arg, op: Op::Eq, value }] = *checks {
            let high = (value >> 32) as u32;
            let alike = |(checks, _): &&(&[Check], u32)| matches!(checks, [c] if c.arg == *arg && c.op == Op::Eq && (c.value >> 32) as u32 == high);
            let several = rules.iter().take_while(alike).count();
            if several > 1 {
                let otherwise = self.rules(&rules[several..], otherwise);
                return self.among(&rules[..several], *arg, high, otherwise);
            }
        }
        let otherwise = self.rules(rest, otherwise);
        let holds = self.ret(*result);
        checks.iter().rev().fold(holds, |holds, check| self.check(check, holds, otherwise))
    }

    /// Rules that compare one argument to values whose upper half is the same: the lower half is
    /// looked for as a call's number is.
    fn among(&mut self, rules: &[(&[Check], u32)], arg: u8, high: u32, otherwise: At) -> At {
        let mut results = BTreeMap::new();
        for (checks, result) in rules {
            results.entry(checks[0].value as u32).or_insert(*result);
        }
        let mut ranges = vec![Range { first: 0, rules: Vec::new() }];
        for (value, result) in results {
            let rules = vec![(&[][..], result)];
            match ranges.last_mut() {
                // The gap that was thought to begin here does not.
                Some(gap) if gap.first == value => {
                    ranges.pop();
                    if ranges.last().is_none_or(|last| last.rules != rules) {
                        ranges.push(Range { first: value, rules });
                    }
                }
                _ => ranges.push(Range { first: value, rules }),
            }
            if let Some(next) = value.checked_add(1) {
                ranges.push(Range { first: next, rules: Vec::new() });
            }
        }
        let mut at = self.tree(&ranges, otherwise);
        at = self.then(load(low_word(arg)), at);
        at = self.branch(JEQ, high, at, otherwise);
        self.then(load(low_word(arg) + 4), at)
    }

    /// A comparison in two halves of 32 bits.
    fn check(&mut self, check: &Check, holds: At, otherwise: At) -> At {
        let (high, low) = ((check.value >> 32) as u32, check.value as u32);
        let low_word = low_word(check.arg);
        let masked = |word, mask, code: &mut Self, at| match mask {
            u32::MAX => code.then(load(word), at),
            _ => {
                let at = code.then(Insn { code: AND, jt: 0, jf: 0, k: mask }, at);
                code.then(load(word), at)
            }
        };
        match check.op {
            Op::Eq => self.check(&Check { op: Op::MaskedEq(u64::MAX), ..*check }, holds, otherwise),
            Op::Ne => self.check(&Check { op: Op::Eq, ..*check }, otherwise, holds),
            Op::Lt => self.check(&Check { op: Op::Ge, ..*check }, otherwise, holds),
            Op::Le => self.check(&Check { op: Op::Gt, ..*check }, otherwise, holds),
            Op::MaskedEq(mask) => {
                let (high_mask, low_mask) = ((mask >> 32) as u32, mask as u32);
                let mut at = self.branch(JEQ, low, holds, otherwise);
                at = masked(low_word, low_mask, self, at);
                // Half of a word that is not looked at is 0 on both sides.
                if high_mask != 0 || high != 0 {
                    at = self.branch(JEQ, high, at, otherwise);
                    at = masked(low_word + 4, high_mask, self, at);
                }
                at
            }
            Op::Gt | Op::Ge => {
                let jump = if check.op == Op::Gt { JGT } else { JGE };
                let at = self.branch(jump, low, holds, otherwise);
                let at = self.then(load(low_word), at);
                let at = self.branch(JEQ, high, at, otherwise);
                let at = self.branch(JGT, high, holds, at);
                self.then(load(low_word + 4), at)
            }
        }
    }

    /// End with this result.
    fn ret(&mut self, result: u32) -> At {
        self.put((RET, result, 0, 0), |_| Insn { code: RET, jt: 0, jf: 0, k: result })
    }

    /// Do this and go on there.
    fn then(&mut self, insn: Insn, at: At) -> At {
        if let Some(known) = self.near((insn.code, insn.k, at, at)) {
            return known;
        }
        if at + 1 != self.last_first.len() {
            self.jump(at);
        }
        self.put((insn.code, insn.k, at, at), |_| insn)
    }

    /// Go to one place where the accumulator compares to `k`, else to the other.
    fn branch(&mut self, code: u16, k: u32, holds: At, otherwise: At) -> At {
        if holds == otherwise {
            return holds;
        }
        if let Some(known) = self.near((code, k, holds, otherwise)) {
            return known;
        }
        let (to, or) = (self.reach(holds), self.reach(otherwise));
        self.put((code, k, holds, otherwise), |at| Insn {
            code,
            jt: (at - to - 1) as u8,
            jf: (at - or - 1) as u8,
            k,
        })
    }

    /// Somewhere near from where one gets there.
    fn reach(&mut self, at: At) -> At {
        match self.last_first[at] {
            _ if self.last_first.len() - at <= REACH => at,
            Insn { code: RET, k, .. } => self.ret(k),
            _ => match self.near((JA, 0, at, at)) {
                Some(jump) => jump,
                None => {
                    let jump = self.jump(at);
                    self.known.insert((JA, 0, at, at), jump);
                    jump
                }
            },
        }
    }

    fn jump(&mut self, at: At) -> At {
        let skip = self.last_first.len() - at - 1;
        self.last_first.push(Insn { code: JA, jt: 0, jf: 0, k: skip as u32 });
        self.last_first.len() - 1
    }

    fn near(&self, key: (u16, u32, At, At)) -> Option<At> {
        self.known.get(&key).copied().filter(|at| self.last_first.len() - at <= REACH)
    }

    fn put(&mut self, key: (u16, u32, At, At), insn: impl FnOnce(At) -> Insn) -> At {
        if let Some(known) = self.near(key) {
            return known;
        }
        let at = self.last_first.len();
        self.last_first.push(insn(at));
        self.known.insert(key, at);
        at
    }
}

/// Where an argument lies in seccomp_data; its upper half is 4 bytes further.
fn low_word(arg: u8) -> u32 {
    16 + 8 * u32::from(arg)
}

fn load(offset: u32) -> Insn {
    Insn { code: LD_ABS, jt: 0, jf: 0, k: offset }
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
        let newest = rules.iter().map(|r| r.number).max().unwrap_or(0);
        Arch { audit: X, abi: None, rules, newest, above: ENOSYS }
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
    fn many_values_of_one_argument_are_told_apart() {
        let is = |value| Check { arg: 1, op: Op::Eq, value };
        let values =
            [0, 1, 2, 5, 6, 9, 0xffff_fffe, 0xffff_ffff, 1 << 32, 5 << 32 | 3, 5 << 32 | 4, u64::MAX];
        let mut rules: Vec<Rule> = values.iter().map(|v| rule(3, &[is(*v)])).collect();
        rules[4].result = ENOSYS;
        rules.push(rule(3, &[Check { arg: 0, op: Op::Eq, value: 7 }]));
        let code = assemble(&[arch(rules)], EPERM, 0).unwrap();
        for value in values.into_iter().flat_map(|v| [v.wrapping_sub(1), v, v.wrapping_add(1), v ^ 1 << 32]) {
            let expected = match values.iter().position(|v| *v == value) {
                Some(4) => ENOSYS,
                Some(_) => ALLOW,
                None => EPERM,
            };
            assert_eq!(judge(&code, X, 3, [0, value, 0, 0, 0, 0]), expected, "{value:#x}");
            let last = if expected == EPERM { ALLOW } else { expected };
            assert_eq!(judge(&code, X, 3, [7, value, 0, 0, 0, 0]), last, "{value:#x}");
        }
    }

    #[test]
    fn numbers_of_another_abi_are_the_same_calls_or_none() {
        let mut one = arch(vec![rule(3, &[])]);
        let code = assemble(std::slice::from_ref(&one), EPERM, 7).unwrap();
        assert_eq!(judge(&code, X, 3 | ABI_BIT, [0; 6]), 7);
        one.abi = Some(vec![rule(512, &[])]);
        let code = assemble(&[one], EPERM, 7).unwrap();
        for (number, result) in
            [(3, ALLOW), (2, EPERM), (4, ENOSYS), (511, ENOSYS), (512, ALLOW), (513, ENOSYS)]
        {
            assert_eq!(judge(&code, X, number | ABI_BIT, [0; 6]), result, "{number}");
            assert_eq!(judge(&code, X, number, [0; 6]), result, "{number}");
        }
    }

    #[test]
    fn calls_newer_than_the_newest_known_are_told_from_those_that_have_no_rule() {
        for newest in [0, 1, 4, 5, 6, 9] {
            let mut one = arch(vec![rule(0, &[]), rule(5, &[])]);
            one.newest = newest;
            let code = assemble(&[one], EPERM, 7).unwrap();
            for number in 0..12 {
                let expected = match number {
                    0 | 5 => ALLOW,
                    n if n > newest => ENOSYS,
                    _ => EPERM,
                };
                assert_eq!(judge(&code, X, number, [0; 6]), expected, "{newest} {number}");
            }
        }
    }

    #[test]
    fn jumps_reach_over_any_distance_and_too_many_rules_are_refused() {
        let is = |value| Check { arg: 0, op: Op::Eq, value };
        let many = |n: u32| -> Vec<Rule> {
            (0..n)
                .map(|n| Rule {
                    number: 2 * (n % 100),
                    checks: vec![is(n.into())],
                    result: 0x5_0000 + n % 999,
                })
                .collect()
        };
        let code = assemble(&[arch(many(700))], EPERM, 0).unwrap();
        assert!(code.len() > 2000, "{}", code.len());
        for n in 0..700 {
            assert_eq!(judge(&code, X, 2 * (n % 100), [n.into(), 0, 0, 0, 0, 0]), 0x5_0000 + n % 999);
            assert_eq!(judge(&code, X, 2 * (n % 100), [n as u64 | 1 << 32, 0, 0, 0, 0, 0]), EPERM);
        }
        let error = assemble(&[arch(many(3000))], EPERM, 0).unwrap_err();
        assert!(error.contains("instructions, and the kernel takes 4096"), "{error}");
    }
}
