//! `linux.seccomp`.

use serde_json::{Value, json};

use crate::case::{Case, case};

/// Everything is allowed but what the rules say.
fn rules(name: &str, list: Value) -> Case {
    profile(
        name,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list}),
    )
}

fn profile(name: &str, profile: Value) -> Case {
    case(format!("seccomp: {name}")).set("/linux/seccomp", profile).ask(&["calls=all"])
}

/// One rule about `getpriority`, whose first argument the probe varies from 0 to 2.
fn argument(name: &str, arguments: Value) -> Case {
    rules(
        name,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": arguments}]),
    )
}

pub(super) fn cases() -> Vec<Case> {
    let errno = |names: &[&str]| json!({"names": names, "action": "SCMP_ACT_ERRNO"});
    let kill = |action: &str| {
        rules(&format!("a call with {action}"), json!([{"names": ["syslog"], "action": action}]))
    };
    let compare =
        |op: &str, value: u64| json!([{"index": 0, "value": value, "op": format!("SCMP_CMP_{op}")}]);
    let mut all = vec![
        rules("no rule", json!([])),
        rules("one rule", json!([errno(&["sethostname", "mkdirat"])])),
        rules("an unknown call among the names", json!([errno(&["sethostname", "frobnicate"])])),
        rules(
            "a rule with an errno",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]),
        ),
        rules(
            "a rule with errno 0",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]),
        ),
        rules(
            "a rule with an errno beyond them all",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]),
        ),
        rules(
            "a rule with an errno for an action without",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_LOG", "errnoRet": 5}]),
        ),
        rules(
            "a rule with the default action",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_ALLOW"}]),
        ),
        rules(
            "a call in two rules, both of which deny",
            json!([errno(&["sethostname"]), {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]),
        ),
        rules(
            "a call in two rules about its argument",
            json!([
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": compare("EQ", 0)},
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": compare("EQ", 2)}
            ]),
        ),
        rules("a rule without names", json!([{"names": [], "action": "SCMP_ACT_ERRNO"}])),
        rules("a rule whose names are missing", json!([{"action": "SCMP_ACT_ERRNO"}])),
        rules("a rule with the old name", json!([{"name": "sethostname", "action": "SCMP_ACT_ERRNO"}])),
        rules("a rule without an action", json!([{"names": ["sethostname"]}])),
        rules(
            "a rule of an unknown action",
            json!([{"names": ["sethostname"], "action": "SCMP_ACT_FORGIVE"}]),
        ),
        kill("SCMP_ACT_KILL"),
        kill("SCMP_ACT_KILL_PROCESS"),
        kill("SCMP_ACT_KILL_THREAD"),
        kill("SCMP_ACT_TRAP"),
        kill("SCMP_ACT_TRACE"),
        kill("SCMP_ACT_LOG"),
        kill("SCMP_ACT_NOTIFY"),
        argument("an argument that is equal", compare("EQ", 1)),
        argument("an argument that is not equal", compare("NE", 1)),
        argument("an argument that is less", compare("LT", 1)),
        argument("an argument that is less or equal", compare("LE", 1)),
        argument("an argument that is greater", compare("GT", 1)),
        argument("an argument that is greater or equal", compare("GE", 1)),
        argument(
            "an argument under a mask",
            json!([{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]),
        ),
        argument(
            "an argument of an unknown comparison",
            json!([{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]),
        ),
        argument("an argument beyond the sixth", json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])),
        argument(
            "two arguments",
            json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]),
        ),
        argument(
            "one argument twice",
            json!([{"index": 0, "value": 0, "op": "SCMP_CMP_GT"}, {"index": 0, "value": 2, "op": "SCMP_CMP_LT"}]),
        ),
        profile(
            "a default of errno and a list of what is allowed",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": NEEDED.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}]}),
        ),
        profile("an empty profile", json!({})),
        profile("without a default", json!({"architectures": ["SCMP_ARCH_X86_64"]})),
        profile("a default alone", json!({"defaultAction": "SCMP_ACT_ALLOW"})),
        profile("an unknown default", json!({"defaultAction": "SCMP_ACT_FORGIVE"})),
        profile(
            "without architectures",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [errno(&["sethostname"])]}),
        ),
        profile(
            "three architectures",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [errno(&["sethostname"])]}),
        ),
        profile(
            "an architecture of another machine alone",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_AARCH64"], "syscalls": [errno(&["sethostname"])]}),
        ),
        profile(
            "an unknown architecture",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}),
        ),
        profile(
            "a listener and nothing to tell it",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/none"}),
        ),
        profile("a default of notify", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/none"})),
        profile(
            "metadata for a listener and no listener",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
        ),
    ];
    for flag in [
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        "SECCOMP_FILTER_FLAG_NONE",
    ] {
        all.push(
            rules(&format!("the flag {flag}"), json!([errno(&["sethostname"])]))
                .set("/linux/seccomp/flags", json!([flag])),
        );
    }
    for (name, user) in [("as a user", 1000), ("as root", 0)] {
        all.push(
            rules(&format!("new privileges are allowed, {name}"), json!([errno(&["sethostname"])]))
                .set("/process/noNewPrivileges", json!(false))
                .set("/process/user", json!({"uid": user, "gid": user})),
        );
    }
    all
}

/// What a runtime does after it has set the filter, and the probe.
const NEEDED: &str = "access arch_prctl bpf brk capget capset chdir clock_gettime clone clone3 close close_range \
    dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve execveat exit exit_group faccessat faccessat2 \
    fchdir fchown fcntl fstat fstatfs fsync futex get_mempolicy getcwd getdents64 getegid geteuid getgid getgroups \
    getpgrp getpid getppid getrandom getresgid getresuid getrlimit getsid gettid getuid ioctl ioprio_get keyctl kill \
    lseek lstat madvise mknod mknodat mmap mprotect munmap nanosleep newfstatat open openat openat2 personality pipe2 \
    poll ppoll prctl pread64 prlimit64 read readlink readlinkat readv restart_syscall rseq rt_sigaction rt_sigprocmask \
    rt_sigreturn sched_getaffinity sched_getattr sched_yield seccomp sendmsg set_robust_list set_tid_address setgid \
    setgroups setfsuid setfsgid setresgid setresuid setsid setuid sigaltstack socket stat statfs statx tgkill umask \
    uname unlink unlinkat wait4 waitid write writev";
