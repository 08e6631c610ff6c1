//! The filter of system calls as one types it: `--security-opt seccomp=`, what holds without it, and what is
//! said of a profile that cannot be used.

use std::path::Path;

use coracle_tests::bundle::Bundle;
use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Scratch, Store, need};
use serde_json::json;

/// A store with an image called `box`: busybox, and `call ARCH NUMBER ARG..`, which makes one system call with
/// all the bits that are given and prints its errno. ARCH 32 makes it as an i386 program does.
fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Peer("cc")) {
        return None;
    }
    let store = Store::new(name);
    Image::busybox()?.program("bin/call", CALL)?.compose(&store, "box");
    Some(store)
}

const CALL: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **v) {
    unsigned long a[7] = {0};
    for (int i = 2; i < n && i < 9; i++) a[i - 2] = strtoul(v[i], 0, 0);
    long r;
#ifdef __x86_64__
    if (!strcmp(v[1], "32")) {
        int e;
        __asm__ volatile("int $0x80" : "=a"(e) : "a"((int)a[0]), "b"((int)a[1]), "c"((int)a[2]), "d"((int)a[3])
                         : "r8", "r9", "r10", "r11", "memory");
        r = e < 0 ? -1 : e;
        errno = -e;
    } else
#endif
    r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    printf("%d\n", r < 0 ? errno : 0);
    return 0;
}
"#;

/// `run --rm FLAGS box sh -c SCRIPT`.
fn script(store: &Store, flags: &str, script: &str) -> Output {
    store.run(flags).args(["box", "sh", "-c", script]).run()
}

fn option(profile: &Path) -> String {
    format!("--security-opt seccomp={}", profile.display())
}

#[test]
fn there_is_a_filter_unless_it_is_asked_for_none() {
    let Some(store) = store("seccomp-modes") else { return };
    let mode = "grep ^Seccomp: /proc/self/status | cut -f2";
    for (flags, expected) in [
        ("", "2\n"),
        ("--security-opt seccomp=builtin", "2\n"),
        ("--security-opt seccomp:builtin", "2\n"),
        ("--security-opt seccomp=unconfined", "0\n"),
        ("--security-opt seccomp=builtin --security-opt seccomp=unconfined", "0\n"),
        ("--privileged", "0\n"),
        ("--privileged --security-opt seccomp=builtin", "2\n"),
    ] {
        assert_eq!(script(&store, flags, mode).ok().stdout, expected, "{flags}");
    }
    // PID 1 is under it as well.
    let init = "grep ^Seccomp: /proc/1/status | cut -f2";
    assert_eq!(script(&store, "", init).ok().stdout, "2\n");
    script(&store, "", "unshare -m true").fails(1);
}

#[test]
fn a_profile_says_what_may_be_called_also_by_what_is_executed_later() {
    let Some(store) = store("seccomp-profile") else { return };
    let scratch = Scratch::new("seccomp-profile-file");
    let profile = scratch.write(
        "p.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#,
    );
    let output = script(&store, &option(&profile), "mkdir /tmp/x; echo on").ok().complains("No space left");
    assert_eq!(output.stdout, "on\n");
    let running = store.run(&option(&profile)).args(["--name", "profiled", "box", "sh", "-c"]);
    let running = running.arg("echo here; sleep 1000").spawn();
    running.wait_for("here");
    store.runner().words("exec profiled mkdir /tmp/x").fails(1).complains("No space left");
    store.runner().words("kill profiled").ok();
    running.wait(std::time::Duration::from_secs(60)).expect("the container ends");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_refused_request_is_refused_whatever_stands_in_its_upper_half() {
    let Some(store) = store("seccomp-tiocsti") else { return };
    let scratch = Scratch::new("seccomp-tiocsti-file");
    let profile = |check: &str| {
        let rule =
            format!(r#"{{"names":["ioctl"],"action":"SCMP_ACT_ERRNO","errnoRet":77,"args":[{check}]}}"#);
        scratch.write("p.json", format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#))
    };
    // TIOCSTI is 0x5412. What gets through is told that its standard input is no terminal.
    let calls = "for r in 0x5412 0x100005412 0x8000000000005412 0xffffffff00005412 0x5413; do call 64 16 0 $r 0; done";
    let masked = r#"{"index":1,"value":4294967295,"valueTwo":21522,"op":"SCMP_CMP_MASKED_EQ"}"#;
    let output = script(&store, &option(&profile(masked)), calls).ok();
    assert_eq!(output.stdout, "77\n77\n77\n77\n25\n");
    // An equal one compares all bits, here as in libseccomp: what SECURITY.md warns of.
    let equal = r#"{"index":1,"value":21522,"op":"SCMP_CMP_EQ"}"#;
    let output = script(&store, &option(&profile(equal)), calls).ok();
    assert_eq!(output.stdout, "77\n25\n25\n25\n25\n");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_filter_has_no_gap_for_32_bit_callers_or_upper_halves() {
    let Some(store) = store("seccomp-default") else { return };
    let errno = |call: &str| script(&store, "", &format!("call {call}")).ok().stdout;
    // Without a filter some answer otherwise; where the kernel runs no 32-bit programs they are killed.
    for (call, expected) in [
        ("64 39", "0\n"),
        ("64 165", "1\n"),
        ("64 435 0 0", "38\n"),
        ("64 9999", "38\n"),
        ("64 41 38 5 0", "1\n"),
        ("64 41 40 5 0", "1\n"),
        ("64 41 0x100000026 5 0", "1\n"),
        ("64 56 0x10000000", "1\n"),
        ("64 56 0x110000000", "1\n"),
    ] {
        assert_eq!(errno(call), expected, "{call}");
    }
    if script(&store, "--security-opt seccomp=unconfined", "call 32 20").code() != 0 {
        return; // the kernel was built without them: nothing is to be filtered
    }
    for (call, expected) in [
        ("32 20", "0\n"),
        ("32 21", "1\n"),
        ("32 102 1 0", "38\n"),
        ("32 359 38 5 0", "1\n"),
        ("32 120 0x10000000", "1\n"),
        ("32 9999", "38\n"),
    ] {
        assert_eq!(errno(call), expected, "{call}");
    }
}

#[test]
fn a_profile_that_cannot_be_used_is_refused_in_one_line_that_names_what_is_wrong() {
    let Some(store) = store("seccomp-refused") else { return };
    let scratch = Scratch::new("seccomp-refused-file");
    let rule = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
    let dup = |rest: &str| rule(&format!(r#"{{"names":["dup"],{rest}}}"#));
    let arg = |arg: &str| dup(&format!(r#""action":"SCMP_ACT_ERRNO","args":[{{{arg}}}]"#));
    let top = |rest: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rest}}}"#);
    let one = r#""names":["dup"],"args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#;
    for (profile, culprit) in [
        (String::new(), "EOF"),
        ("a profile".into(), "line 1 column 1"),
        (r#"{"defaultAction":"#.into(), "EOF"),
        ("{}".into(), "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_FROB"}"#.into(), "SCMP_ACT_FROB"),
        (dup(r#""action":"SCMP_ACT_FROB""#), "SCMP_ACT_FROB"),
        (dup(r#""action":"SCMP_ACT_ERRNO","errnoRet":5000"#), "5000"),
        (arg(r#""index":6,"value":0,"op":"SCMP_CMP_EQ""#), "the rule for dup: linux.seccomp: args.index 6"),
        (arg(r#""index":0,"value":0,"op":"SCMP_CMP_FROB""#), "SCMP_CMP_FROB"),
        (
            rule(&format!(r#"{{"action":"SCMP_ACT_ERRNO",{one}}},{{"action":"SCMP_ACT_KILL",{one}}}"#)),
            "\"dup\" has two actions",
        ),
        (top(r#""architectures":["SCMP_ARCH_FROB"]"#), "SCMP_ARCH_FROB"),
        (top(r#""flags":["SECCOMP_FILTER_FLAG_FROB"]"#), "SECCOMP_FILTER_FLAG_FROB"),
        // What comes with notifications.
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into(), "SCMP_ACT_NOTIFY"),
        (dup(r#""action":"SCMP_ACT_NOTIFY""#), "SCMP_ACT_NOTIFY"),
        (top(r#""listenerMetadata":"x""#), "listenerMetadata"),
        (
            top(r#""flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ),
    ] {
        let file = scratch.write("profile.json", &profile);
        let output = script(&store, &option(&file), "echo it ran").fails(125);
        let lines: Vec<&str> = output.stderr.trim_end().lines().collect();
        let said = matches!(lines[..], [line] if line.contains(culprit) && line.contains("profile.json"));
        assert!(said && output.stdout.is_empty(), "{profile}: {output}");
    }
    let missing = script(&store, &option(&scratch.join("missing.json")), "true").fails(125);
    missing.complains("missing.json");
    // A config.json says the same.
    if need(Privilege::Containers) {
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"});
        let bundle = Bundle::busybox(&["echo", "it ran"]).expect("busybox").set("/linux/seccomp", seccomp);
        assert!(bundle.run().fails(125).complains("listenerMetadata").stdout.is_empty());
    }
}

#[test]
fn calls_and_architectures_of_other_machines_are_passed_over_as_by_docker() {
    let Some(store) = store("seccomp-others") else { return };
    let scratch = Scratch::new("seccomp-others-file");
    // A profile names what newer kernels have, too. /bin/sh makes no such call, and starts.
    let profile = scratch.write(
        "p.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X","SCMP_ARCH_RISCV64"],
            "syscalls":[{"names":["frobnicate","s390_runtime_instr"],"action":"SCMP_ACT_KILL"}]}"#,
    );
    assert_eq!(script(&store, &option(&profile), "echo it ran").ok().stdout, "it ran\n");
}

/// What busybox's `true`, statically linked, makes of calls, and some more.
const FEW: [&str; 20] = [
    "execve",
    "exit_group",
    "exit",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "write",
    "read",
    "mmap",
    "munmap",
    "mprotect",
    "getuid",
    "setuid",
    "setgid",
    "getgid",
    "geteuid",
    "getegid",
    "readlink",
    "uname",
    "prctl",
];

fn under(names: &[&str], default: &str) -> Option<Output> {
    if !need(Privilege::Root) {
        return None;
    }
    let profile = json!({
        "defaultAction": default,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    let bundle = Bundle::busybox(&["true"])?.set("/linux/seccomp", profile);
    Some(bundle.run().limit(std::time::Duration::from_secs(20)).run())
}

// As runc does, which needs neither execveat, fcntl, capset nor rt_sigprocmask once the filter is there.
#[test]
fn a_profile_that_knows_few_calls_is_no_hindrance_to_the_start() {
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_KILL_PROCESS"] {
        // More than these are the program's own affair.
        let own = [
            "rt_sigaction",
            "getrandom",
            "rseq",
            "set_robust_list",
            "prlimit64",
            "newfstatat",
            "fstat",
            "ioctl",
        ];
        let names: Vec<&str> = FEW.into_iter().chain(own).collect();
        let Some(out) = under(&names, default) else { return };
        assert_eq!(out.code(), 0, "{default}: {out}");
    }
}

#[test]
fn a_profile_that_lets_nothing_be_executed_nor_ended_is_told_at_once() {
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_KILL_PROCESS"] {
        let Some(out) = under(&["read", "brk"], default) else { return };
        assert_eq!(out.code(), 126, "{default}: {out}");
        out.complains("container process is already dead");
    }
}
