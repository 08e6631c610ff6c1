//! System calls by name, and architectures. The build script uses this file as well.

use std::collections::HashMap;

const TABLE: &str = include_str!("syscalls.txt");

/// An architecture whose callers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// The calls that x32 has numbers of its own for, from [`X32_FIRST`] on; all others are x86_64's.
const X32: &str = "rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace \
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid \
    set_robust_list get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg \
    process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2";
const X32_FIRST: u32 = 512;

/// Where ARM's private calls begin, far above the newest call.
pub const PRIVATE: u32 = 0xf0000;

/// Architectures that profiles may name and that this program is not built for, as libseccomp calls them.
pub const ELSEWHERE: [&str; 18] = [
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SH",
    "SHEB",
];

impl Machine {
    /// Its name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }

    /// By its name, and by libseccomp's.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "SCMP_ARCH_X86_64" | "amd64" => Some(Self::X86_64),
            "i386" | "SCMP_ARCH_X86" | "x86" => Some(Self::I386),
            "aarch64" | "SCMP_ARCH_AARCH64" | "arm64" => Some(Self::Aarch64),
            "arm" | "SCMP_ARCH_ARM" => Some(Self::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*`, linux/audit.h.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// What a kernel of this architecture runs: itself, and its 32-bit sister.
    pub fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::I386],
            Self::I386 => &[Self::I386],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
        }
    }

    /// Whether its callers have arguments of 32 bits.
    pub fn narrow(self) -> bool {
        matches!(self, Self::I386 | Self::Arm)
    }

    /// All calls that there are here, with their numbers.
    pub fn calls(self) -> HashMap<&'static str, u32> {
        let column = match self {
            Self::X86_64 => 1,
            Self::I386 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        };
        let call = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            Some((name, words.nth(column - 1)?.parse().ok()?))
        };
        TABLE.lines().filter(|l| !l.starts_with('#')).filter_map(call).collect()
    }
}

/// The number that x32 alone has for a call, without the bit that all its numbers have.
pub fn x32_number(name: &str) -> Option<u32> {
    X32.split_ascii_whitespace().zip(X32_FIRST..).find(|(call, _)| *call == name).map(|(_, number)| number)
}

/// What stands behind i386's `socketcall`, from 1 on.
const SOCKETCALL: &str = "socket bind connect listen accept getsockname getpeername socketpair send recv \
    sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";

/// What stands behind i386's `ipc`: four calls from 1 on, from 11 on and from 21 on.
const IPC: [(u64, &str); 3] = [
    (1, "semop semget semctl semtimedop"),
    (11, "msgsnd msgrcv msgget msgctl"),
    (21, "shmat shmdt shmget shmctl"),
];

/// The other way to a call that i386 has: `socketcall` or `ipc`, the bits of its first argument that tell
/// which call is meant, and what they are then. The call's own arguments lie elsewhere, partly in memory.
pub fn multiplexer(name: &str) -> Option<(&'static str, u64, u64)> {
    let place = |list: &str| list.split_ascii_whitespace().position(|call| call == name).map(|n| n as u64);
    match place(SOCKETCALL) {
        Some(n) => Some(("socketcall", u64::from(u32::MAX), 1 + n)),
        // The kernel keeps a version in the upper half.
        None => IPC.iter().find_map(|(first, list)| Some(("ipc", 0xffff, first + place(list)?))),
    }
}
