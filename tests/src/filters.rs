//! Seccomp filters as the kernel has them: read back from a process that runs, and judged outside of it. And one that
//! makes a kernel look older: calls that it answers with ENOSYS.

use std::process::Command;

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

    /// One that says ENOSYS to these calls and lets all others through.
    pub fn denying(calls: &[i64]) -> Self {
        let insn = |code, k, jt, jf| Insn { code, jt, jf, k };
        let mut code = vec![insn(0x20, 0, 0, 0)];
        for call in calls {
            code.push(insn(0x15, *call as u32, 0, 1));
            code.push(insn(0x06, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0));
        }
        code.push(insn(0x06, libc::SECCOMP_RET_ALLOW, 0, 0));
        Self(code)
    }

    /// One under which no overlay can be mounted: EPERM to every parameter of a new file system that is a descriptor, as
    /// the layers of an overlay are.
    pub fn refusing_overlay() -> Self {
        const SET_FD: u32 = 5;
        let insn = |code, k, jt, jf| Insn { code, jt, jf, k };
        Self(vec![
            insn(0x20, 0, 0, 0),
            insn(0x15, libc::SYS_fsconfig as u32, 0, 3),
            insn(0x20, 24, 0, 0),
            insn(0x15, SET_FD, 0, 1),
            insn(0x06, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
            insn(0x06, libc::SECCOMP_RET_ALLOW, 0, 0),
        ])
    }

    /// Have a program begin under it. The caller is root.
    pub fn install(self, command: &mut Command) {
        sys::install(command, self.0);
    }

    /// How many instructions it has.
    pub fn instructions(&self) -> usize {
        self.0.len()
    }
}

/// Calls that the runner does without where it has to: KERNEL.md. Not faccessat2, which is older than what is required,
/// and by which paths are walked where openat2 is missing.
const NEWER: [i64; 9] = [
    libc::SYS_clone3,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_epoll_pwait2,
    FCHMODAT2,
    STATMOUNT,
    LISTMOUNT,
];

/// Of Linux 6.6 and 6.8: the libc crate has no names for them.
const FCHMODAT2: i64 = 452;
const STATMOUNT: i64 = 457;
const LISTMOUNT: i64 = 458;

/// Names the variable under which every runner that a test starts is denied [`NEWER`] calls.
const DENIED: &str = "CORACLE_TEST_NEWER_CALLS_DENIED";

/// Its value where there are no files in memory besides.
const NO_MEMFD: &str = "memfd_create";

/// Where the tests run on what looks like an older kernel, have this runner see it so.
pub fn as_on_an_older_kernel(command: &mut Command) {
    let Some(more) = std::env::var_os(DENIED) else { return };
    let mut calls = NEWER.to_vec();
    if more == NO_MEMFD {
        calls.push(libc::SYS_memfd_create);
    }
    Filter::denying(&calls).install(command);
}

/// All tests of this program but the one that calls this, with [`NEWER`] calls denied to the runner. The caller is
/// root.
#[track_caller]
pub fn again_with_newer_calls_denied() {
    again("1");
}

/// The same on a kernel that was built without memfd_create.
#[track_caller]
pub fn again_without_files_in_memory() {
    again(NO_MEMFD);
}

#[track_caller]
fn again(denied: &str) {
    let this = std::thread::current().name().expect("a test has a name").to_owned();
    let tests = std::env::current_exe().expect("the tests are a program");
    crate::Cmd::new(tests)
        .args(["--skip", &this, "--skip", "killed", "--skip", "older_kernel"])
        .env(DENIED, denied)
        .ok();
}
