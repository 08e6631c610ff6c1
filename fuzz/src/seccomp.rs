//! Profiles of system calls, in the runtime specification's form and in docker's: what is compiled decides as the rules
//! read one after the other do.

use std::collections::HashMap;

use coracle_runner::seccomp::names::{self, Machine};
use coracle_runner::seccomp::{self, Program};
use coracle_runner::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use coracle_sys::json;
use coracle_tests::filters::{Filter, Insn};

/// The kernel's BPF_MAXINSNS.
const MAX: usize = 4096;
/// `SECCOMP_RET_KILL_PROCESS`.
const KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO` with ENOSYS.
const ENOSYS: u32 = 0x0005_0026;

/// A profile is refused, or becomes a program that the kernel's limit allows and that agrees with its rules.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(machine) = seccomp::own_machine() else { return };
    if let Ok(profile) = json::from_slice::<LinuxSeccomp>(data) {
        let written = serde_json::to_vec(&profile).expect("what was read can be written");
        assert_eq!(json::from_slice::<LinuxSeccomp>(&written).expect("and read again"), profile);
    }
    let capabilities = ["CAP_SYS_ADMIN", "CAP_CHOWN"].map(String::from);
    let Ok(profile) = seccomp::load(text, &capabilities, "6.1.0-13-amd64") else { return };
    let Ok(program) = seccomp::compile(&profile) else { return };
    assert!((1..=MAX).contains(&program.len()), "{} instructions", program.len());
    agrees(&profile, &program, machine);
}

/// Ask about calls that the profile names, with arguments that its checks are about, and about some that it does not.
fn agrees(profile: &LinuxSeccomp, program: &Program, machine: Machine) {
    let insn = |i: &seccomp::program::Insn| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let filter = Filter::of(program.code().iter().map(insn));
    let calls = machine.calls();
    let named = profile.syscalls.iter().flat_map(|s| s.names.iter().take(3).map(String::as_str));
    let others = ["read", "mount", "clone3", "mseal"];
    let numbers = named.chain(others).filter_map(|name| calls.get(name).copied());
    for number in numbers.take(40).chain([9999]) {
        for args in arguments(profile, &calls, number) {
            let expected = decide(profile, &calls, number, args);
            let got = filter.judge(machine.audit(), number, args);
            assert_eq!(got, expected, "call {number} with {args:x?} in {profile:?}");
        }
    }
    assert_eq!(filter.judge(0x1234, 0, [0; 6]), KILL_PROCESS, "an architecture that is not listed");
}

type Calls = HashMap<&'static str, u32>;

fn is_about(syscall: &LinuxSyscall, calls: &Calls, number: u32) -> bool {
    syscall.names.iter().any(|name| calls.get(name.as_str()) == Some(&number))
}

/// Arguments that are at the edges of what is asked about this call.
fn arguments(profile: &LinuxSeccomp, calls: &Calls, number: u32) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    for syscall in profile.syscalls.iter().filter(|s| is_about(s, calls, number)).take(8) {
        let mut holds = [0; 6];
        for arg in &syscall.args {
            let value = if arg.op == "SCMP_CMP_MASKED_EQ" { arg.value_two } else { arg.value };
            for near in
                [value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 32), value & 0xffff_ffff]
            {
                let mut args = holds;
                args[arg.index as usize] = near;
                all.push(args);
            }
            holds[arg.index as usize] = value;
        }
    }
    all.truncate(100);
    all
}

/// What the rules say, read one after the other.
fn decide(profile: &LinuxSeccomp, calls: &Calls, number: u32, args: [u64; 6]) -> u32 {
    let default = result(&profile.default_action, profile.default_errno_ret);
    let numbers = profile.syscalls.iter().flat_map(|s| &s.names).filter_map(|n| calls.get(n.as_str()));
    let newest = numbers.filter(|n| **n < names::PRIVATE).max().copied();
    let rules: Vec<(&LinuxSyscall, u32)> = profile
        .syscalls
        .iter()
        .filter(|s| is_about(s, calls, number))
        .map(|s| (s, result(&s.action, s.errno_ret)))
        .filter(|(_, result)| *result != default)
        .collect();
    if let Some((_, result)) = rules.iter().find(|(s, _)| s.args.is_empty()) {
        return *result;
    }
    for (syscall, result) in &rules {
        let twice = syscall
            .args
            .iter()
            .enumerate()
            .any(|(n, a)| syscall.args[..n].iter().any(|b| b.index == a.index));
        let mut checks = syscall.args.iter().map(|check| holds(check, args[check.index as usize]));
        // Two conditions on one argument are two rules, as every runtime has it.
        if if twice { checks.any(|h| h) } else { checks.all(|h| h) } {
            return *result;
        }
    }
    let lets_through =
        matches!(profile.default_action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
    match newest {
        Some(newest) if rules.is_empty() && number > newest && !lets_through => ENOSYS,
        _ => default,
    }
}

fn holds(check: &LinuxSeccompArg, arg: u64) -> bool {
    match check.op.as_str() {
        "SCMP_CMP_NE" => arg != check.value,
        "SCMP_CMP_LT" => arg < check.value,
        "SCMP_CMP_LE" => arg <= check.value,
        "SCMP_CMP_EQ" => arg == check.value,
        "SCMP_CMP_GE" => arg >= check.value,
        "SCMP_CMP_GT" => arg > check.value,
        "SCMP_CMP_MASKED_EQ" => arg & check.value == check.value_two & check.value,
        other => panic!("{other} was compiled"),
    }
}

/// `SECCOMP_RET_*` of an action.
fn result(action: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other} was compiled"),
    }
}

/// What is sound.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86",
            "SCMP_ARCH_X32"],"syscalls":[{"names":["accept","read","mseal"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,
            "op":"SCMP_CMP_MASKED_EQ"}]},{"names":["personality","socket"],"action":"SCMP_ACT_ALLOW","args":
            [{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":
            [{"index":0,"value":4294967295,"op":"SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"],"listenerPath":"/run/l","listenerMetadata":
            "m","syscalls":[{"names":["mknod"],"action":"SCMP_ACT_NOTIFY"},{"names":["ioctl"],"action":"SCMP_ACT_KILL",
            "args":[{"index":1,"value":21522,"op":"SCMP_CMP_GT"},{"index":2,"value":1,"op":"SCMP_CMP_NE"}]},
            {"names":["ioctl"],"action":"SCMP_ACT_TRACE","errnoRet":5,"args":[{"index":1,"value":7,"op":"SCMP_CMP_LE"}]},
            {"names":["mount"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_LT"},
            {"index":0,"value":4294967296,"op":"SCMP_CMP_GE"}]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"defaultErrno":"ENOSYS","archMap":[{"architecture":
            "SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],"syscalls":[{"names":["bdflush",
            "io_pgetevents"],"action":"SCMP_ACT_ERRNO","args":[],"comment":"","includes":{},"excludes":{},"errnoRet":1,
            "errno":"EPERM"},{"name":"ptrace","action":"SCMP_ACT_ALLOW","args":null,"includes":{"minKernel":"4.8"}},
            {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"],"arches":["amd64","arm64"]},
            "excludes":{"caps":["CAP_BPF"],"arches":["s390"]}}]}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
