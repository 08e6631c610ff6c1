//! What the profiles let through, judged by an interpreter of the kernel's instructions.

mod against_seccompiler;

use super::program::tests::judge;
use super::spec_rules::{RET_ERRNO, action};
use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn plain() -> Vec<String> {
    crate::from_image::units::capabilities(&[], &[], false, u64::MAX).unwrap().0
}

fn on(program: &Program, machine: Machine, name: &str, args: [u64; 6]) -> u32 {
    judge(&program.code, machine.audit(), machine.calls()[name], args)
}

#[test]
fn the_default_profile_refuses_what_reaches_the_host() {
    let program = Choice::Default.compile(&plain()).unwrap().unwrap();
    let own = own_machine().unwrap();
    for name in ["read", "openat", "execve", "clone", "ptrace", "chroot", "futex_wait", "rseq"] {
        assert_eq!(on(&program, own, name, [0; 6]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "reboot",
        "init_module",
        "kexec_load",
        "pivot_root",
        "open_by_handle_at",
        "perf_event_open",
        "settimeofday",
        "swapon",
        "userfaultfd",
        "io_uring_setup",
        "move_mount",
        "fsopen",
        "acct",
    ] {
        assert_eq!(on(&program, own, name, [0; 6]), RET_ERRNO | 1, "{name}");
    }
    assert_eq!(on(&program, own, "clone3", [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
    // The kernel takes the lower half of the family, whatever stands above it.
    let families = [1, 2, 10, 16, 17, 29, 39, 41, 45].map(|f| (f, true)).into_iter();
    for (family, allowed) in families.chain([38, 40, 46, 38 | 1 << 32, 40 | 1 << 63].map(|f| (f, false))) {
        assert_eq!(on(&program, own, "socket", [family, 0, 0, 0, 0, 0]) == ALLOW, allowed, "{family}");
    }
    let new_user = libc::CLONE_NEWUSER as u64;
    assert_eq!(on(&program, own, "clone", [new_user, 0, 0, 0, 0, 0]), RET_ERRNO | 1);
    assert_eq!(judge(&program.code, own.audit(), 9999, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
}

#[test]
fn a_capability_opens_its_calls_and_no_others() {
    let mut capabilities = plain();
    capabilities.push("CAP_SYS_ADMIN".to_owned());
    let program = Choice::Default.compile(&capabilities).unwrap().unwrap();
    let own = own_machine().unwrap();
    assert_eq!(on(&program, own, "mount", [0; 6]), ALLOW);
    assert_eq!(on(&program, own, "clone3", [0; 6]), ALLOW);
    assert_eq!(on(&program, own, "reboot", [0; 6]), RET_ERRNO | 1);
}

#[test]
fn what_was_compiled_at_build_time_is_what_would_be_compiled_now() {
    let names = plain();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let now = profile::compile(own_machine().unwrap(), &names).unwrap();
    assert_eq!(default_program(&plain()).unwrap().code, now);
    assert!(now.len() < 180, "{} instructions", now.len());
}

#[test]
fn every_architecture_has_the_calls_that_every_program_makes() {
    for machine in [Machine::X86_64, Machine::I386, Machine::Aarch64, Machine::Arm] {
        let calls = machine.calls();
        assert!(calls.len() > 300, "{machine:?}: {}", calls.len());
        let code = profile::compile(machine, &["CAP_SYS_CHROOT"]).unwrap();
        for name in ["read", "write", "openat", "execve", "exit_group", "clone", "futex", "mseal", "statx"] {
            assert_eq!(judge(&code, machine.audit(), calls[name], [0; 6]), ALLOW, "{machine:?} {name}");
        }
        for name in ["mount", "setns", "unshare", "keyctl", "bpf", "io_uring_setup"] {
            assert_eq!(
                judge(&code, machine.audit(), calls[name], [0; 6]),
                RET_ERRNO | 1,
                "{machine:?} {name}"
            );
        }
        assert_eq!(judge(&code, machine.audit(), 500, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
    }
    // ARM's own calls are far above all others; what lies between is new.
    let code = profile::compile(Machine::Aarch64, &[]).unwrap();
    assert_eq!(judge(&code, Machine::Arm.audit(), 0xf0002, [0; 6]), ALLOW);
    assert_eq!(judge(&code, Machine::Arm.audit(), 0xf0006, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
}

#[test]
fn x32_callers_are_judged_by_their_own_numbers() {
    let code = profile::compile(Machine::X86_64, &[]).unwrap();
    let on = |number| judge(&code, Machine::X86_64.audit(), number | program::ABI_BIT, [0; 6]);
    assert_eq!(names::x32_number("pwritev2"), Some(547));
    assert_eq!((on(0), on(512), on(520)), (ALLOW, ALLOW, ALLOW), "read, rt_sigaction, execve");
    assert_eq!((on(165), on(528)), (RET_ERRNO | 1, RET_ERRNO | libc::ENOSYS as u32), "mount, kexec_load");
}

#[test]
fn what_a_profile_could_not_know_is_enosys_unless_it_is_let_through() {
    let own = own_machine().unwrap();
    let newest = own.calls()["mseal"];
    let profile = |default: &str, action: &str| {
        let profile = format!(
            r#"{{"defaultAction":"{default}","syscalls":[{{"names":["read","mseal","frobnicate"],"action":"{action}"}}]}}"#
        );
        compile(&load(&profile, &plain(), "6.1").unwrap()).unwrap()
    };
    let enosys = RET_ERRNO | libc::ENOSYS as u32;
    for (default, above) in [
        ("SCMP_ACT_ERRNO", enosys),
        ("SCMP_ACT_KILL_PROCESS", enosys),
        ("SCMP_ACT_TRAP", enosys),
        ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
        ("SCMP_ACT_TRACE", libc::SECCOMP_RET_TRACE | 1),
    ] {
        let allowing = profile(default, "SCMP_ACT_ALLOW");
        assert_eq!(judge(&allowing.code, own.audit(), newest + 1, [0; 6]), above, "{default}");
        assert_ne!(judge(&allowing.code, own.audit(), newest - 1, [0; 6]), enosys, "{default}");
    }
    // A rule that only says what is done anyway tells what was known all the same.
    let refusing = profile("SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO");
    assert_eq!(judge(&refusing.code, own.audit(), newest, [0; 6]), RET_ERRNO | 1);
    assert_eq!(judge(&refusing.code, own.audit(), newest + 1, [0; 6]), enosys);
}

#[test]
fn thirty_two_bit_callers_are_judged_by_their_own_numbers() {
    let program = Choice::Default.compile(&plain()).unwrap().unwrap();
    for machine in own_machine().unwrap().family() {
        assert_eq!(on(&program, *machine, "read", [0; 6]), ALLOW, "{machine:?}");
        assert_eq!(on(&program, *machine, "mount", [0; 6]), RET_ERRNO | 1, "{machine:?}");
    }
}

const DOCKER: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
  "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],
  "syscalls":[
    {"names":["read","write","openat2"],"action":"SCMP_ACT_ALLOW"},
    {"name":"getpid","action":"SCMP_ACT_ERRNO","errnoRet":77},
    {"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":4294967295,"valueTwo":21522,"op":"SCMP_CMP_MASKED_EQ"}]},
    {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
    {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
    {"names":["bpf"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_CHOWN"]}}]}"#;

#[test]
fn a_profile_of_dockers_is_read_by_capability_kernel_and_argument() {
    let own = own_machine().unwrap();
    let program = |kernel| compile(&load(DOCKER, &plain(), kernel).unwrap()).unwrap();
    let new = program("6.1.0-13-amd64");
    for (name, args, result) in [
        ("read", [0; 6], ALLOW),
        ("getpid", [0; 6], RET_ERRNO | 77),
        ("ioctl", [0, 21522 | 1 << 32, 0, 0, 0, 0], ALLOW),
        ("ioctl", [0, 21523, 0, 0, 0, 0], RET_ERRNO | 1),
        ("mount", [0; 6], RET_ERRNO | 1),
        ("ptrace", [0; 6], ALLOW),
        ("bpf", [0; 6], RET_ERRNO | 1),
    ] {
        assert_eq!(on(&new, own, name, args), result, "{name}");
    }
    assert_eq!(on(&program("4.4.0"), own, "ptrace", [0; 6]), RET_ERRNO | 1);
}

#[test]
fn a_malformed_profile_is_refused_by_what_is_wrong_in_it() {
    let default = |rest: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rest}}}"#);
    let rule = |rest: &str| default(&format!(r#""syscalls":[{{"names":["dup"],{rest}}}]"#));
    let arg = |arg: &str| rule(&format!(r#""action":"SCMP_ACT_ERRNO","args":[{{{arg}}}]"#));
    let eq = r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"}"#;
    for (json, names) in [
        (String::new(), "EOF"),
        ("seccomp: none".into(), "expected value at line 1 column 1"),
        ("{}".into(), "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_FROB"}"#.into(), "SCMP_ACT_FROB"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into(), "SCMP_ACT_NOTIFY is for single calls"),
        (rule(r#""action":"SCMP_ACT_ALLOW","errnoRet":5"#), "errnoRet means nothing"),
        (default(r#""syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]"#), "no name"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#.into(), "4096"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EIO"}"#.into(), "\"EIO\" without errnoRet"),
        (rule(r#""action":"X""#), "\"X\""),
        (rule(r#""action":"SCMP_ACT_NOTIFY""#), "SCMP_ACT_NOTIFY"),
        (rule(r#""action":"SCMP_ACT_ERRNO","errnoRet":-1"#), "-1"),
        (rule(r#""action":"SCMP_ACT_ERRNO","errno":"ENOSYS""#), "\"ENOSYS\" without errnoRet"),
        (rule(r#""name":"dup","action":"SCMP_ACT_ERRNO""#), "both name and names"),
        (rule(r#""action":"SCMP_ACT_ERRNO","includes":{"minKernel":"new"}"#), "\"new\""),
        (arg(r#""index":6,"value":0,"op":"SCMP_CMP_EQ""#), "index 6"),
        (arg(r#""index":0,"value":0,"op":"SCMP_CMP_FROB""#), "SCMP_CMP_FROB"),
        (arg(r#""index":0,"value":-1,"op":"SCMP_CMP_EQ""#), "-1"),
        (
            default(&format!(
                r#""syscalls":[{{"names":["read","dup"],"action":"SCMP_ACT_ERRNO","args":[{eq}]}},
                               {{"names":["dup"],"action":"SCMP_ACT_KILL","args":[{eq}]}}]"#
            )),
            "\"dup\" has two actions",
        ),
        (default(r#""flags":["F"]"#), "\"F\""),
        (default(r#""flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#), "WAIT_KILLABLE_RECV"),
        (default(r#""listenerMetadata":"x""#), "listenerMetadata"),
        (default(r#""architectures":["X86"]"#), "\"X86\""),
        (default(r#""architectures":["SCMP_ARCH_FROB"]"#), "SCMP_ARCH_FROB"),
    ] {
        let error = load(&json, &plain(), "6.1").and_then(|p| compile(&p)).unwrap_err().to_string();
        assert!(error.contains(names) && !error.contains('\n'), "{json}: {error}");
    }
}

#[test]
fn a_rule_about_a_call_holds_for_the_other_way_to_it_that_i386_has() {
    let result = |default: &str, action: &str, name: &str, args: &str, number: &str, given: u64| {
        let json = format!(
            r#"{{"defaultAction":"{default}","architectures":["SCMP_ARCH_X86"],
                 "syscalls":[{{"names":["{name}"],"action":"{action}","args":[{args}]}}]}}"#
        );
        let program = compile(&load(&json, &[], "6.1").unwrap()).unwrap();
        on(&program, Machine::I386, number, [given, 0, 0, 0, 0, 0])
    };
    let (give, take) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    let family = r#"{"index":0,"value":40,"op":"SCMP_CMP_EQ"}"#;
    let refused = RET_ERRNO | 1;
    for (default, action, name, args, other, given, expected) in [
        (give, take, "socket", "", "socketcall", 1, refused),
        (give, take, "socket", "", "socketcall", 2, ALLOW),
        (give, take, "sendmmsg", "", "socketcall", 20, refused),
        (give, take, "shmget", "", "ipc", 23, refused),
        // The version that older programs ask for.
        (give, take, "shmget", "", "ipc", 23 | 1 << 16, refused),
        (give, take, "shmget", "", "ipc", 22, ALLOW),
        // Which family is asked for lies in memory.
        (give, take, "socket", family, "socketcall", 1, refused),
        (take, give, "socket", family, "socketcall", 1, refused),
        (take, give, "connect", "", "socketcall", 3, ALLOW),
        (take, give, "connect", "", "socketcall", 4, refused),
    ] {
        let got = result(default, action, name, args, other, given);
        assert_eq!(got, expected, "{default}: {action} {name} {args}: {other} {given}");
    }
}

#[test]
fn what_is_counted_stays_in_its_project_whatever_the_filter() {
    let everything = LinuxSeccomp { default_action: "SCMP_ACT_ALLOW".to_owned(), ..LinuxSeccomp::default() };
    for inner in [Choice::Default, Choice::Unconfined, Choice::Profile(everything)] {
        let kept = serde_json::to_value(Choice::Counted(Box::new(inner.clone()))).unwrap();
        let read: Choice = json::from_value(kept).unwrap();
        let program = read.compile(&plain()).unwrap().unwrap();
        let guard = if program.guard.is_empty() { &program.code } else { &program.guard };
        for (machine, x32) in [(Machine::X86_64, 0), (Machine::X86_64, 1 << 30), (Machine::I386, 0)] {
            let ioctl = if x32 == 0 { machine.calls()["ioctl"] } else { x32 | 514 };
            let on = |number, request| judge(guard, machine.audit(), number, [3, request, 0, 0, 0, 0]);
            for request in [0x401c_5820, 0x4008_6602, 0x4004_6602, 0xff_401c_5820] {
                assert_eq!(on(ioctl, request), RET_ERRNO | 1, "{inner:?} {request:#x}");
            }
            // TIOCGWINSZ, FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR.
            for request in [0x5413, 0x8008_6601, 0x801c_581f] {
                assert_eq!(on(ioctl, request), ALLOW, "{inner:?} {request:#x}");
            }
            assert_eq!(on(machine.calls()["file_setattr"] | x32, 0), RET_ERRNO | 1, "{inner:?}");
            for name in ["seccomp", "execveat", "write"] {
                assert_eq!(on(machine.calls()[name] | x32, 0), ALLOW, "{inner:?} {name}");
            }
        }
    }
}
