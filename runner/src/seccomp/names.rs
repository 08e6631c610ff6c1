//! System calls by name, and architectures. The build script uses this file as well.

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
}

impl Machine {
    /// Its name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
        }
    }

    /// By its name, and by libseccomp's.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "SCMP_ARCH_X86_64" | "amd64" => Some(Self::X86_64),
            "i386" | "SCMP_ARCH_X86" | "x86" => Some(Self::I386),
            "aarch64" | "SCMP_ARCH_AARCH64" | "arm64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*`, linux/audit.h.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// What a kernel of this architecture runs: itself, and its 32-bit sister.
    pub fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::I386],
            Self::I386 => &[Self::I386],
            Self::Aarch64 => &[Self::Aarch64],
        }
    }

    /// The number of a call here. `None`: there is no such call.
    pub fn number(self, name: &str) -> Option<u32> {
        let line = TABLE.lines().find(|line| line.split(' ').next() == Some(name))?;
        self.column(line)
    }

    /// All calls that there are here.
    pub fn calls(self) -> impl Iterator<Item = (&'static str, u32)> {
        TABLE
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(move |line| Some((line.split(' ').next()?, self.column(line)?)))
    }

    fn column(self, line: &str) -> Option<u32> {
        let column = match self {
            Self::X86_64 => 1,
            Self::I386 => 2,
            Self::Aarch64 => 3,
        };
        line.split(' ').nth(column)?.parse().ok()
    }
}
