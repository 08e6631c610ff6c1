//! The BPF program for cgroup v2: rules in, instructions out. Nothing is loaded here.
//!
//! The rules are walked from the last to the first while r3 holds the kinds of access that no rule
//! has decided yet: an allowing rule takes its own away, and the request is granted once none is
//! left; a denying rule that meets one ends it. What no rule spoke of is denied.

use super::{MAKE, READ, Rule, Type, WRITE};

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub registers: u8,
    /// Offset of a load or a jump.
    pub offset: i16,
    /// The immediate operand.
    pub imm: i32,
}

/// `r = *(u32 *)(r1 + off)`.
const LOAD: u8 = 0x61;
/// `r &= imm`, 64 bits.
const AND: u8 = 0x57;
/// `r >>= imm`, 64 bits.
const SHIFT: u8 = 0x77;
/// `r = r'`, 64 bits.
const COPY: u8 = 0xbf;
/// `r = imm`, 64 bits.
const SET: u8 = 0xb7;
/// `if r != imm goto`, the low 32 bits.
const JUMP_NE: u8 = 0x56;
/// `if r == imm goto`, the low 32 bits.
const JUMP_EQ: u8 = 0x16;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context, the type, the access not decided, the numbers, a scratch.
const R0: u8 = 0;
const CTX: u8 = 1;
const TYPE: u8 = 2;
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const HIT: u8 = 6;

fn op(code: u8, to: u8, from: u8, offset: i16, imm: i32) -> Insn {
    Insn { code, registers: from << 4 | to, offset, imm }
}

/// The program of `rules`. It starts from everything denied.
pub fn assemble(rules: &[Rule]) -> Vec<Insn> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, type in the low half.
    let mut program = vec![
        op(LOAD, TYPE, CTX, 0, 0),
        op(LOAD, MAJOR, CTX, 4, 0),
        op(LOAD, MINOR, CTX, 8, 0),
        op(COPY, OPEN, TYPE, 0, 0),
        op(SHIFT, OPEN, 0, 0, 16),
        op(AND, TYPE, 0, 0, 0xffff),
    ];
    for rule in rules.iter().rev() {
        if rule.kind.is_none() && rule.access == READ | WRITE | MAKE {
            answer(&mut program, rule.allow);
            return program;
        }
        append(&mut program, rule);
    }
    answer(&mut program, false);
    program
}

fn answer(program: &mut Vec<Insn>, allow: bool) {
    program.push(op(SET, R0, 0, 0, allow as i32));
    program.push(op(EXIT, 0, 0, 0, 0));
}

fn append(program: &mut Vec<Insn>, rule: &Rule) {
    let start = program.len();
    let kind = rule.kind.map(|k| if k == Type::Block { 1 } else { 2 });
    for (register, value) in [(TYPE, kind), (MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(value) = value {
            program.push(op(JUMP_NE, register, 0, 0, value as i32));
        }
    }
    if rule.allow {
        program.push(op(AND, OPEN, 0, 0, !(rule.access as i32)));
        program.push(op(JUMP_NE, OPEN, 0, 0, 0));
    } else {
        program.push(op(COPY, HIT, OPEN, 0, 0));
        program.push(op(AND, HIT, 0, 0, rule.access as i32));
        program.push(op(JUMP_EQ, HIT, 0, 0, 0));
    }
    answer(program, rule.allow);
    let end = program.len();
    for (at, insn) in program.iter_mut().enumerate().skip(start) {
        if matches!(insn.code, JUMP_NE | JUMP_EQ) {
            insn.offset = (end - at - 1) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{plan, tests::rule};
    use super::*;

    /// Runs a program on a request, as the kernel does.
    fn interpret(program: &[Insn], kind: u32, major: u32, minor: u32, access: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 11];
        let mut pc = 0;
        loop {
            let i = program[pc];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            pc += 1;
            match i.code {
                LOAD => r[to] = context[i.offset as usize / 4] as u64,
                AND => r[to] &= i.imm as i64 as u64,
                SHIFT => r[to] >>= i.imm,
                COPY => r[to] = r[from],
                SET => r[to] = i.imm as i64 as u64,
                JUMP_NE if r[to] as u32 != i.imm as u32 => pc += i.offset as usize,
                JUMP_EQ if r[to] as u32 == i.imm as u32 => pc += i.offset as usize,
                JUMP_NE | JUMP_EQ => {}
                EXIT => return r[0],
                code => panic!("no such instruction: {code:#x}"),
            }
        }
    }

    /// The meaning of the rules, said plainly: each kind of access by the last rule that speaks of it.
    fn allowed(rules: &[Rule], kind: Type, major: u32, minor: u32, access: u32) -> bool {
        [MAKE, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let speaks = |r: &&Rule| {
                r.access & bit != 0
                    && r.kind.is_none_or(|k| k == kind)
                    && r.major.is_none_or(|n| n == major)
                    && r.minor.is_none_or(|n| n == minor)
            };
            rules.iter().rev().find(speaks).is_some_and(|r| r.allow)
        })
    }

    #[test]
    fn the_program_agrees_with_the_rules_over_every_list_of_four() {
        let atoms = [
            rule(false, "a *:* rwm"),
            rule(true, "a *:* rwm"),
            rule(true, "c 1:3 rw"),
            rule(true, "c *:* m"),
            rule(false, "c 1:* w"),
            rule(true, "b 8:0 r"),
            rule(false, "b *:0 rm"),
            rule(false, "a *:* m"),
            rule(true, "c 4294967295:3 rwm"),
        ];
        let n = atoms.len();
        for list in 0..n.pow(4) {
            let rules: Vec<_> = (0..4).map(|d| atoms[list / n.pow(d) % n].clone()).collect();
            let rules = plan(&rules).unwrap();
            let program = assemble(&rules);
            for (kind, number) in [(Type::Block, 1), (Type::Char, 2)] {
                for (major, minor) in [(1, 3), (1, 5), (8, 0), (8, 1), (u32::MAX, 3)] {
                    for access in 1..8 {
                        assert_eq!(
                            interpret(&program, number, major, minor, access) == 1,
                            allowed(&rules, kind, major, minor, access),
                            "{rules:?} {kind:?} {major}:{minor} {access}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_rule_at_all_denies() {
        assert_eq!(interpret(&assemble(&[]), 2, 1, 3, READ), 0);
    }
}
