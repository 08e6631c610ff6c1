//! Writing instructions: comparisons, trees and jumps of a limited reach, from the last instruction to the
//! first. What is to be written is decided elsewhere.

use std::collections::{BTreeMap, HashMap};

use super::{Check, Insn, Op, Range};

pub(super) const LD_ABS: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const RET: u16 = 0x06;

/// Neighbouring ranges of which all that are longer than one number say the same: a number that says
/// something else costs one comparison, where two ranges beside it would cost two.
struct Group<'a> {
    first: u32,
    most: &'a Range<'a>,
    odd: Vec<&'a Range<'a>>,
}

/// So many comparisons stand in a row at most.
const ODD: usize = 4;

/// Take as many ranges into each group as fit.
fn groups<'a>(ranges: &'a [Range<'a>]) -> Vec<Group<'a>> {
    let single = |n: usize| ranges.get(n + 1).is_some_and(|next| next.first - ranges[n].first == 1);
    let from = |start: usize, most: usize| {
        let mut group = Group { first: ranges[start].first, most: &ranges[most], odd: Vec::new() };
        let mut end = start;
        while let Some(range) = ranges.get(end) {
            if range.rules != group.most.rules {
                if group.odd.len() == ODD || !single(end) {
                    break;
                }
                group.odd.push(range);
            }
            end += 1;
        }
        (end, group)
    };
    let mut groups = Vec::new();
    let mut start = 0;
    while start < ranges.len() {
        // What most of them say, the first may say or the second.
        let second = single(start).then(|| from(start, start + 1));
        let first = from(start, start);
        let (end, group) = second.filter(|(end, _)| *end > first.0).unwrap_or(first);
        groups.push(group);
        start = end;
    }
    groups
}

/// A program that is written from its end: all jumps go forward, so what is jumped to is there first.
/// What exists already is not written again.
#[derive(Default)]
pub(super) struct Backwards {
    pub(super) last_first: Vec<Insn>,
    known: HashMap<(u16, u32, At, At), At>,
}

/// An instruction, counted from the end of the program.
pub(super) type At = usize;

/// A conditional jump skips 255 instructions at most; some room is left for what is put between.
const REACH: usize = 250;

impl Backwards {
    /// In which range the accumulator is: halve until one group is left, and look for its odd numbers then.
    pub(super) fn tree(&mut self, ranges: &[Range<'_>], otherwise: At) -> At {
        self.halve(&groups(ranges), otherwise)
    }

    fn halve(&mut self, groups: &[Group<'_>], otherwise: At) -> At {
        match groups {
            [one] => {
                let mut at = self.rules(&one.most.rules, otherwise);
                for odd in one.odd.iter().rev() {
                    let is = self.rules(&odd.rules, otherwise);
                    at = self.branch(JEQ, odd.first, is, at);
                }
                at
            }
            _ => {
                let (low, high) = groups.split_at(groups.len() / 2);
                let above = self.halve(high, otherwise);
                let below = self.halve(low, otherwise);
                self.branch(JGE, high[0].first, above, below)
            }
        }
    }

    /// One rule after the other; those that follow each other and are about the same half of a value at once.
    fn rules(&mut self, rules: &[(&[Check], u32)], otherwise: At) -> At {
        let alike = |a: &(&[Check], u32), b: &(&[Check], u32)| match (upper_half(a.0), upper_half(b.0)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        rules.chunk_by(alike).rev().fold(otherwise, |otherwise, run| match (run, upper_half(run[0].0)) {
            ([_, _, ..], Some((arg, high))) => self.among(run, arg, high, otherwise),
            _ => {
                let (checks, result) = run[0];
                let holds = self.ret(result);
                checks.iter().rev().fold(holds, |holds, check| self.check(check, holds, otherwise))
            }
        })
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
    pub(super) fn ret(&mut self, result: u32) -> At {
        self.put((RET, result, 0, 0), |_| Insn { code: RET, jt: 0, jf: 0, k: result })
    }

    /// Do this and go on there.
    pub(super) fn then(&mut self, insn: Insn, at: At) -> At {
        if let Some(known) = self.near((insn.code, insn.k, at, at)) {
            return known;
        }
        if at + 1 != self.last_first.len() {
            self.jump(at);
        }
        self.put((insn.code, insn.k, at, at), |_| insn)
    }

    /// Go to one place where the accumulator compares to `k`, else to the other.
    pub(super) fn branch(&mut self, code: u16, k: u32, holds: At, otherwise: At) -> At {
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

/// Of a rule that compares one argument to one value: which, and the upper half of the value.
fn upper_half(checks: &[Check]) -> Option<(u8, u32)> {
    match checks {
        [Check { arg, op: Op::Eq, value }] => Some((*arg, (value >> 32) as u32)),
        _ => None,
    }
}

/// Where an argument lies in seccomp_data; its upper half is 4 bytes further.
fn low_word(arg: u8) -> u32 {
    16 + 8 * u32::from(arg)
}

pub(super) fn load(offset: u32) -> Insn {
    Insn { code: LD_ABS, jt: 0, jf: 0, k: offset }
}
