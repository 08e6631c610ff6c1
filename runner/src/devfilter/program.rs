//! The BPF program for cgroup v2: rules in, instructions out. Nothing is loaded here.
//!
//! Every kind of access has a chain of its own, in which the last rule comes first and the first match
//! decides; kinds with the same chain share it. A request is granted when no chain of its kinds denies it.
//! What the kernel's verifier spends on a program grows with its branches, and every container loads one:
//! rules that cannot matter are left out, and a type or a number is compared once for all rules that
//! have it.

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
/// `goto`.
const JUMP: u8 = 0x05;
/// `if r != imm goto`, the low 32 bits.
const JUMP_NE: u8 = 0x56;
/// `if r == imm goto`, the low 32 bits.
const JUMP_EQ: u8 = 0x16;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context, the type, the access that is asked for, the numbers, a scratch.
const R0: u8 = 0;
const CTX: u8 = 1;
const TYPE: u8 = 2;
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const HIT: u8 = 6;

/// A place in the program that is not known yet when it is jumped to.
#[derive(Clone, Copy, PartialEq)]
struct Label(usize);

#[derive(Default)]
struct Assembler {
    code: Vec<Insn>,
    /// Where each label is.
    places: Vec<usize>,
    /// Jumps and their labels.
    jumps: Vec<(usize, Label)>,
}

/// What a rule says once its kind of access is settled.
#[derive(Clone, Copy, PartialEq)]
struct Link {
    allow: bool,
    kind: Option<Type>,
    major: Option<u32>,
    minor: Option<u32>,
}

/// The last link of every chain.
const DENY_ALL: Link = Link { allow: false, kind: None, major: None, minor: None };

/// The program of `rules`. It starts from everything denied.
pub fn assemble(rules: &[Rule]) -> Vec<Insn> {
    let mut asm = Assembler::default();
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, type in the low half.
    asm.op(LOAD, TYPE, CTX, 0, 0);
    asm.op(LOAD, MAJOR, CTX, 4, 0);
    asm.op(LOAD, MINOR, CTX, 8, 0);
    asm.op(COPY, ASKED, TYPE, 0, 0);
    asm.op(SHIFT, ASKED, 0, 0, 16);
    asm.op(AND, TYPE, 0, 0, 0xffff);
    let mut chains: Vec<(u32, Vec<Link>)> = Vec::new();
    for access in [MAKE, READ, WRITE] {
        let chain = chain(rules, access);
        match chains.iter_mut().find(|(_, same)| *same == chain) {
            Some((accesses, _)) => *accesses |= access,
            None => chains.push((access, chain)),
        }
    }
    let denied = asm.label();
    let mut granted = denied;
    for (accesses, chain) in &chains {
        granted = asm.label();
        if chains.len() > 1 {
            asm.op(COPY, HIT, ASKED, 0, 0);
            asm.op(AND, HIT, 0, 0, *accesses as i32);
            asm.jump(JUMP_EQ, HIT, 0, granted);
        }
        asm.chain(chain, granted, denied);
        asm.place(granted);
    }
    // What is never jumped to the verifier would call unreachable.
    if asm.is_used(granted) {
        asm.answer(true);
    }
    asm.place(denied);
    if asm.is_used(denied) {
        asm.answer(false);
    }
    asm.finish()
}

/// The rules that speak of one kind of access, the one that decides first, without those that cannot matter.
fn chain(rules: &[Rule], access: u32) -> Vec<Link> {
    let speaks = rules.iter().rev().filter(|r| r.access & access != 0);
    let links = speaks.map(|r| Link { allow: r.allow, kind: r.kind, major: r.major, minor: r.minor });
    let mut chain: Vec<Link> = Vec::new();
    for link in links.chain([DENY_ALL]) {
        // One before it takes all that it would match.
        if !chain.iter().any(|before| before.covers(&link)) {
            chain.push(link);
        }
    }
    let mut at = 0;
    while at < chain.len() {
        let link = chain[at];
        let after = &chain[at + 1..];
        let decides = after.iter().find(|l| l.covers(&link) || (l.allow != link.allow && l.meets(&link)));
        // One after it would say the same.
        match decides {
            Some(same) if same.allow == link.allow => drop(chain.remove(at)),
            _ => at += 1,
        }
    }
    chain
}

impl Link {
    /// Whether it matches all that `other` does.
    fn covers(&self, other: &Self) -> bool {
        fn covers<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || a == b
        }
        covers(self.kind, other.kind) && covers(self.major, other.major) && covers(self.minor, other.minor)
    }

    /// Whether both match something.
    fn meets(&self, other: &Self) -> bool {
        fn meet<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        meet(self.kind, other.kind) && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

impl Assembler {
    fn op(&mut self, code: u8, to: u8, from: u8, offset: i16, imm: i32) {
        self.code.push(Insn { code, registers: from << 4 | to, offset, imm });
    }

    fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.places[label.0] = self.code.len();
    }

    fn jump(&mut self, code: u8, register: u8, imm: u32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.op(code, register, 0, 0, imm as i32);
    }

    fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, l)| *l == label)
    }

    fn answer(&mut self, allow: bool) {
        self.op(SET, R0, 0, 0, allow.into());
        self.op(EXIT, 0, 0, 0, 0);
    }

    /// Links that follow each other and say the same may be asked in any order.
    fn chain(&mut self, chain: &[Link], granted: Label, denied: Label) {
        let answer = |link: &Link| if link.allow { granted } else { denied };
        let Some((last, links)) = chain.split_last() else { return };
        for run in links.chunk_by(|a, b| a.allow == b.allow) {
            for_each_key(
                run,
                |l| l.kind,
                |kind, run| {
                    let other_kind =
                        self.skip_unless(TYPE, kind.map(|k| if k == Type::Block { 1 } else { 2 }));
                    for_each_key(
                        run,
                        |l| l.major,
                        |major, run| {
                            let other_major = self.skip_unless(MAJOR, major);
                            for link in run {
                                match link.minor {
                                    Some(minor) => self.jump(JUMP_EQ, MINOR, minor, answer(link)),
                                    None => self.jump(JUMP, 0, 0, answer(link)),
                                }
                            }
                            self.place_if(other_major);
                        },
                    );
                    self.place_if(other_kind);
                },
            );
        }
        // It matches everything: the chain ends with it.
        self.jump(JUMP, 0, 0, answer(last));
    }

    /// Go past what comes when the register holds something else.
    fn skip_unless(&mut self, register: u8, value: Option<u32>) -> Option<Label> {
        let value = value?;
        let label = self.label();
        self.jump(JUMP_NE, register, value, label);
        Some(label)
    }

    fn place_if(&mut self, label: Option<Label>) {
        if let Some(label) = label {
            self.place(label);
        }
    }

    fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            self.code[at].offset = (self.places[label.0] - at - 1) as i16;
        }
        self.code
    }
}

/// Once for each key, with all that have it.
fn for_each_key<K: PartialEq + Copy>(
    links: &[Link],
    key: impl Fn(&Link) -> K,
    mut each: impl FnMut(K, &[Link]),
) {
    let mut keys: Vec<K> = Vec::new();
    for link in links {
        if !keys.contains(&key(link)) {
            keys.push(key(link));
        }
    }
    for k in keys {
        let those: Vec<Link> = links.iter().filter(|l| key(l) == k).copied().collect();
        each(k, &those);
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
                JUMP => pc += i.offset as usize,
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

    /// Rules that meet, cover and contradict each other.
    fn atoms() -> [crate::spec::resources::DeviceRule; 9] {
        [
            rule(false, "a *:* rwm"),
            rule(true, "a *:* rwm"),
            rule(true, "c 1:3 rw"),
            rule(true, "c *:* m"),
            rule(false, "c 1:* w"),
            rule(true, "b 8:0 r"),
            rule(false, "b *:0 rm"),
            rule(false, "a *:* m"),
            rule(true, "c 4294967295:3 rwm"),
        ]
    }

    #[test]
    fn the_verifier_takes_every_program() {
        for list in 0..729 {
            let rules: Vec<_> = [list % 9, list / 9 % 9, list / 81].map(|n| atoms()[n].clone()).to_vec();
            match super::super::sys::load(&assemble(&plan(&rules).unwrap())) {
                Err(e) if matches!(e.errno(), Some(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS)) => {
                    assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{e}");
                    return println!("skipped: {e}");
                }
                loaded => drop(loaded.unwrap_or_else(|e| panic!("{rules:?}: {e}"))),
            }
        }
    }

    #[test]
    fn the_program_agrees_with_the_rules_over_every_list_of_four() {
        let atoms = atoms();
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
