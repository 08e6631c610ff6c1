//! The programs, run by an interpreter of the kernel's instructions.

use super::backwards::{AND, JA, JEQ, JGE, JGT, LD_ABS, RET};
use super::{ABI_BIT, Abi, Arch, Check, Insn, Op, Rule, assemble};

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
    Arch { audit: X, abi: Abi::Foreign, rules, newest, above: ENOSYS }
}

#[test]
fn every_number_is_judged_by_its_own_rule() {
    // Patterns with runs, gaps, the ends, and so many that jumps are long.
    for pattern in [1u64, 0x8000_0000_0000_0001, 0x5555_5555_5555_5555, 0xf0f0_1234_0000_ffff, u64::MAX] {
        let allowed = |n: u32| pattern >> (n % 64) & 1 == 1 && n < 1500;
        let code =
            assemble(&[arch((0..1500).filter(|n| allowed(*n)).map(|n| rule(n, &[])).collect())], EPERM, 0);
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
    let interesting = [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x8000_0000_0000_0000, u64::MAX];
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
    let values = [0, 1, 2, 5, 6, 9, 0xffff_fffe, 0xffff_ffff, 1 << 32, 5 << 32 | 3, 5 << 32 | 4, u64::MAX];
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
    one.abi = Abi::Own(vec![rule(512, &[])]);
    let code = assemble(&[one], EPERM, 7).unwrap();
    for (number, result) in [(3, ALLOW), (2, EPERM), (4, ENOSYS), (511, ENOSYS), (512, ALLOW), (513, ENOSYS)]
    {
        assert_eq!(judge(&code, X, number | ABI_BIT, [0; 6]), result, "{number}");
        assert_eq!(judge(&code, X, number, [0; 6]), result, "{number}");
    }
}

#[test]
fn a_call_that_a_tracer_has_left_out_is_not_killed_as_a_foreign_one() {
    for (abi, next) in [(Abi::Foreign, 7), (Abi::None, ENOSYS), (Abi::Own(Vec::new()), ENOSYS)] {
        let code = assemble(&[Arch { abi, ..arch(vec![rule(3, &[])]) }], EPERM, 7).unwrap();
        assert_eq!(judge(&code, X, u32::MAX, [0; 6]), ENOSYS);
        assert_eq!(judge(&code, X, u32::MAX - 1, [0; 6]), next);
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
            .map(|n| Rule { number: 2 * (n % 100), checks: vec![is(n.into())], result: 0x5_0000 + n % 999 })
            .collect()
    };
    let code = assemble(&[arch(many(700))], EPERM, 0).unwrap();
    assert!(code.len() > 1800, "{}", code.len());
    for n in 0..700 {
        assert_eq!(judge(&code, X, 2 * (n % 100), [n.into(), 0, 0, 0, 0, 0]), 0x5_0000 + n % 999);
        assert_eq!(judge(&code, X, 2 * (n % 100), [n as u64 | 1 << 32, 0, 0, 0, 0, 0]), EPERM);
    }
    let error = assemble(&[arch(many(3000))], EPERM, 0).unwrap_err();
    assert!(error.contains("instructions, and the kernel takes 4096"), "{error}");
}
