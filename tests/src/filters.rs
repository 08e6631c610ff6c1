//! Seccomp filters as the kernel has them: read back from a process that runs, and judged outside of it.

use crate::sys;

/// One instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// One program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Vec<Insn>);

/// The filters of a process, the newest first. It is stopped for a moment. The caller is root:
/// `need(Privilege::Root)` comes first.
#[track_caller]
pub fn installed(pid: u32) -> Vec<Filter> {
    let tracer = sys::Tracer::stop(pid as i32).unwrap_or_else(|e| panic!("stop process {pid}: {e}"));
    let mut all = Vec::new();
    while let Some(code) = tracer.filter(all.len()).unwrap_or_else(|e| panic!("read a filter of {pid}: {e}"))
    {
        all.push(Filter(code));
    }
    all
}

impl Filter {
    /// One that is not installed anywhere.
    pub fn of(code: impl IntoIterator<Item = Insn>) -> Self {
        Self(code.into_iter().collect())
    }

    /// What the kernel would do with this call: an interpreter of the instructions that filters have.
    #[track_caller]
    pub fn judge(&self, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            16..64 => {
                let value = args[((offset - 16) / 8) as usize];
                if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
            }
            other => panic!("a load of {other}"),
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let insn = self.0[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
            match insn.code {
                0x20 => a = word(insn.k),
                0x54 => a &= insn.k,
                0x05 => at += insn.k as usize,
                0x15 => at += skip(a == insn.k),
                0x25 => at += skip(a > insn.k),
                0x35 => at += skip(a >= insn.k),
                0x45 => at += skip(a & insn.k != 0),
                0x06 => return insn.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// How many instructions it has.
    pub fn instructions(&self) -> usize {
        self.0.len()
    }
}
