//! The numbers of calls: the runner's own table, and what this machine's libseccomp knows.

use std::collections::{BTreeMap, BTreeSet};

use coracle_tests::{Cmd, Scratch};

/// `AUDIT_ARCH_*` of those that the table has numbers of, in its order, and their names in profiles.
pub(crate) const ARCHITECTURES: [(u32, &str); 4] = [
    (X86_64, "SCMP_ARCH_X86_64"),
    (I386, "SCMP_ARCH_X86"),
    (0xc000_00b7, "SCMP_ARCH_AARCH64"),
    (ARM, "SCMP_ARCH_ARM"),
];

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const ARM: u32 = 0x4000_0028;

/// What x32 adds to its numbers, which are x86_64's beside.
pub(crate) const X32: u32 = 0x4000_0000;

/// Calls by name, with their numbers on each architecture: the runner's own table.
pub(crate) fn table() -> BTreeMap<String, [Option<u32>; 4]> {
    let text = std::fs::read_to_string(coracle_tests::workspace().join("runner/src/seccomp/syscalls.txt"));
    let text = text.expect("the table of calls");
    let lines = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(' ').collect::<Vec<_>>());
    lines.map(|w| (w[0].to_owned(), [1, 2, 3, 4].map(|n| w[n].parse().ok()))).collect()
}

/// The calls of the table that this machine's libseccomp is too old to have a name for, or has another number
/// for: (architecture, number).
pub(crate) fn unknown_to_libseccomp() -> &'static BTreeSet<(u32, u32)> {
    static ONCE: std::sync::OnceLock<BTreeSet<(u32, u32)>> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let theirs = resolved();
        let mut unknown = BTreeSet::new();
        for (name, numbers) in table() {
            for ((arch, _), number) in ARCHITECTURES.into_iter().zip(numbers) {
                unknown.extend(number.filter(|n| theirs.get(&(arch, *n)) != Some(&name)).map(|n| (arch, n)));
            }
        }
        unknown
    })
}

/// What libseccomp calls each number of each architecture.
pub(crate) fn resolved() -> BTreeMap<(u32, u32), String> {
    let scratch = Scratch::new("libseccomp");
    let names = ARCHITECTURES.map(|(_, name)| name).join(", ");
    let source = scratch.write(
        "names.c",
        format!(
            "#include <seccomp.h>\n#include <stdio.h>\nint main(void) {{\n\
             unsigned arch[] = {{ {names} }};\n\
             for (int a = 0; a < 4; a++) for (int n = 0; n <= 600; n++) {{\n\
             char *name = seccomp_syscall_resolve_num_arch(arch[a], n);\n\
             if (name) printf(\"%u %d %s\\n\", arch[a], n, name); }} return 0; }}\n"
        ),
    );
    let program = scratch.join("names");
    Cmd::new("cc").arg("-o").arg(&program).arg(source).arg("-lseccomp").ok();
    let output = Cmd::new(&program).ok();
    let lines = output.stdout.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    lines
        .map(|w| ((w[0].parse().expect("a number"), w[1].parse().expect("a number")), w[2].to_owned()))
        .collect()
}
