//! The filter of a container held against the ones that libseccomp makes of the same profile, through crun,
//! runc and docker: each is read back from a process that runs, and judged over every call.
#![cfg(target_arch = "x86_64")] // the numbers of calls are

mod calls;
mod case;
mod containers;

use std::collections::BTreeSet;
use std::path::Path;

use calls::{ARCHITECTURES, X86_64};
use case::{Case, DIFFERENCES};
use containers::{a_time, filter_of, read_back};
use coracle_tests::dockerd::Dockerd;
use coracle_tests::podman::podman;
use coracle_tests::rootfs::{self, Image};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};
use serde_json::{Value, json};

fn ready() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox")) && need(Privilege::Peer("cc"))
}

#[test]
fn the_numbers_of_calls_are_libseccomps() {
    if !need(Privilege::Peer("cc")) {
        return;
    }
    let table = calls::table();
    let resolved = calls::resolved();
    assert!(resolved.len() > 1400, "{}", resolved.len());
    for ((arch, number), name) in resolved {
        let column = ARCHITECTURES.iter().position(|(a, _)| *a == arch).expect("one of ours");
        let ours = table.get(&name).map(|n| n[column]);
        assert_eq!(ours, Some(Some(number)), "{name} on {arch:#x}");
    }
}

/// The calls that a runtime makes between the filter and the command, and `sleep` itself.
const NEEDED: &str = "access arch_prctl brk capget capset chdir clock_gettime clock_nanosleep close \
    close_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait execve execveat exit exit_group faccessat2 \
    fchdir fcntl fstat fstatfs futex getcwd getdents64 geteuid getgid getpid getppid getrandom gettid getuid \
    ioctl kill lstat madvise mmap mprotect munmap nanosleep newfstatat open openat openat2 pipe2 poll ppoll \
    prctl pread64 prlimit64 read readlink readlinkat restart_syscall rseq rt_sigaction rt_sigprocmask \
    rt_sigreturn sched_getaffinity sched_yield seccomp sendmsg set_robust_list set_tid_address setgid \
    setgroups setsid setuid setresuid setresgid sigaltstack stat statx tgkill umask uname wait4 write writev";

/// Rules of every kind about calls that are not needed.
fn rules() -> Vec<Value> {
    let rule =
        |names: &str, args: Value| json!({"names": names.split(' ').collect::<Vec<_>>(), "args": args});
    let arg = |index: u32, op: &str, value: u64| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value});
    let masked = |index: u32, mask: u64, value: u64| json!({"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value});
    let wide = 1 << 33 | 5_u64;
    vec![
        rule("mkdir personality mseal frobnicate", json!([])),
        rule("socket", json!([arg(0, "EQ", 40)])),
        rule("connect shmget", json!([])),
        rule("sync_file_range", json!([arg(1, "NE", wide)])),
        rule("lseek", json!([arg(1, "GT", wide)])),
        rule("getpriority", json!([arg(1, "GE", 5)])),
        rule("setpriority", json!([arg(2, "LE", u64::MAX - 1)])),
        rule("sched_setscheduler", json!([arg(2, "LT", 1 << 32)])),
        rule("sched_setparam", json!([masked(0, 0x7e02_0000, 0)])),
        rule("sched_getparam", json!([masked(0, 15, 255)])),
        rule("sched_getscheduler", json!([masked(5, 0xffff_0000_ffff_0000, 0x1_0000_0001_0000)])),
        rule("ioperm", json!([arg(0, "EQ", 4), arg(1, "NE", 5)])),
        rule("fadvise64", json!([arg(0, "GE", wide), arg(1, "LT", wide), arg(3, "EQ", 1)])),
        rule("iopl", json!([arg(0, "LT", 4), arg(0, "GT", 9)])),
        rule("swapon", json!([arg(0, "EQ", 4)])),
        rule("swapon", json!([arg(0, "EQ", 8)])),
        rule("swapon", json!([arg(1, "GE", 8)])),
        rule("swapoff", json!([arg(1, "GE", 8)])),
        rule("swapoff", json!([])),
    ]
}

#[test]
fn written_profiles_agree_with_libseccomps_through_crun_and_runc() {
    if !ready() || !need(Privilege::Peer("crun")) || !need(Privilege::Peer("runc")) {
        return;
    }
    let actions = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "LOG", "TRACE"];
    let mut met = BTreeSet::new();
    for (n, default) in actions.iter().enumerate() {
        // All the architectures that there are, and no other than the kernel's own.
        let all = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
        for (step, architectures) in [(1, json!(all)), (3, json!([]))] {
            let action = actions[(n + step) % actions.len()];
            let with_errno = |action: &str| ["ERRNO", "TRACE"].contains(&action);
            let mut syscalls = rules();
            for rule in &mut syscalls {
                rule["action"] = json!(format!("SCMP_ACT_{action}"));
                if with_errno(action) {
                    rule["errnoRet"] = json!(77);
                }
            }
            syscalls.push(json!({"names": NEEDED.split_ascii_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}));
            let mut profile = json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": architectures, "syscalls": syscalls});
            if with_errno(default) {
                profile["defaultErrnoRet"] = json!(5);
            }
            let case = Case::new(&format!("{action} else {default}"), profile);
            let ours = filter_of("runner", &case.profile).expect("the runner starts it");
            for peer in ["crun", "runc"] {
                let theirs =
                    filter_of(peer, &case.profile).unwrap_or_else(|e| panic!("{}: {peer}: {e}", case.name));
                case.agree(&ours, peer, &theirs, &mut met);
            }
        }
    }
    let missed: Vec<_> =
        DIFFERENCES.iter().filter(|(why, _)| !met.contains(why)).map(|(why, _)| why).collect();
    assert!(missed.is_empty(), "no difference any more: {missed:#?}");
}

#[test]
fn the_default_filter_agrees_with_what_crun_and_runc_make_of_it() {
    if !ready() || !need(Privilege::Peer("crun")) || !need(Privilege::Peer("runc")) {
        return;
    }
    let store = Store::new("seccomp-default");
    let _image = Image::busybox().expect("busybox").compose(&store, "box");
    for flags in
        ["", "--cap-add SYS_ADMIN", "--cap-drop ALL", "--cap-add SYS_PTRACE --cap-add SYS_NICE --cap-add BPF"]
    {
        let time = a_time();
        let config = store.run(flags).words("--dry-run box true").ok().json();
        let case = Case::new(&format!("the default with {flags:?}"), config["linux"]["seccomp"].clone());
        let ours = store.run(flags).args(["--init=never", "box", "sleep", &time]);
        let ours = read_back(ours, &time).expect("the runner starts it");
        for peer in ["crun", "runc"] {
            let theirs =
                filter_of(peer, &case.profile).unwrap_or_else(|e| panic!("{}: {peer}: {e}", case.name));
            case.agree(&ours, peer, &theirs, &mut BTreeSet::new());
        }
    }
}

#[test]
fn two_actions_for_the_same_arguments_are_refused_by_all() {
    if !ready() || !need(Privilege::Peer("crun")) || !need(Privilege::Peer("runc")) {
        return;
    }
    let rule = |action: &str| json!({"names": ["swapon"], "action": action, "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 4}]});
    let with = |second: &str| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_ERRNO"), rule(second)]});
    for runtime in ["runner", "crun", "runc"] {
        filter_of(runtime, &with("SCMP_ACT_ALLOW")).expect("what is done anyway is no second action");
        let error = filter_of(runtime, &with("SCMP_ACT_TRAP")).expect_err("a second action");
        assert!(runtime != "runner" || error.contains("\"swapon\" has two actions"), "{error}");
    }
}

/// What docker reads and the runtime specification does not have.
const DOCKERS: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
  "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
              {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
  "syscalls": [
    {"names": ["swapon", "swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
    {"names": ["ioperm"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN"]}},
    {"names": ["iopl"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN", "CAP_SYS_TIME"]}},
    {"names": ["acct"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN", "CAP_SYS_TIME"]}},
    {"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_TIME"]}},
    {"names": ["vhangup"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["amd64", "s390x"]}},
    {"names": ["quotactl"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
    {"names": ["setns"], "action": "SCMP_ACT_ERRNO", "excludes": {"arches": ["amd64"]}},
    {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "4.8"}},
    {"names": ["kcmp"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
    {"names": ["ustat"], "action": "SCMP_ACT_TRAP", "comment": "with an argument", "args":
      [{"index": 0, "value": 4294967295, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;

#[test]
fn dockers_profiles_agree_with_docker_itself() {
    if !ready() || !need(Privilege::Peer("dockerd")) {
        return;
    }
    let daemon = Dockerd::start(&[]);
    rootfs::busybox(&daemon.scratch.mkdir("rootfs")).expect("busybox");
    let archive = daemon.scratch.join("image.tar");
    Cmd::new("tar").arg("-C").arg(daemon.scratch.join("rootfs")).arg("-cf").arg(&archive).arg(".").ok();
    daemon.docker("import").arg(archive).arg("box:1").ok();
    let store = Store::new("seccomp-docker");
    let _image = Image::busybox().expect("busybox").compose(&store, "box");

    // A profile of docker's kind, read by both.
    let agree_on = |file: &Path| {
        let option = format!("--security-opt seccomp={}", file.display());
        let time = a_time();
        let theirs = daemon.docker("run --rm --network none").words(&option).args(["box:1", "sleep", &time]);
        let theirs = read_back(theirs, &time).expect("docker starts it");
        let time = a_time();
        let ours = read_back(store.run(&option).args(["--init=never", "box", "sleep", &time]), &time);
        let ours = ours.expect("the runner starts it");
        let config = store.run(&option).words("--dry-run box true").ok().json();
        let case = Case::new(&file.display().to_string(), config["linux"]["seccomp"].clone());
        case.agree(&ours, "docker", &theirs, &mut BTreeSet::new());
        ours
    };
    let ours = agree_on(&daemon.scratch.write("profile.json", DOCKERS));
    assert_eq!(ours.judge(X86_64, 167, [0; 6]), libc::SECCOMP_RET_ERRNO | 77, "swapon");

    // The daemon's own default, as its runtime got it.
    let time = a_time();
    daemon.docker("run -d --name own --network none").args(["box:1", "sleep", &time]).ok();
    let id = daemon.docker("inspect -f {{.Id}} own").ok().text().to_owned();
    let bundle =
        daemon.scratch.join(format!("exec/containerd/daemon/io.containerd.runtime.v2.task/moby/{id}"));
    let config = std::fs::read(bundle.join("config.json")).expect("the bundle of docker's container");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let pid = daemon.docker("inspect -f {{.State.Pid}} own").ok().text().parse().expect("a number");
    let theirs = coracle_tests::filters::installed(pid);
    daemon.docker("rm -f own").ok();
    let case = Case::new("docker's own default", config["linux"]["seccomp"].clone());
    let ours = filter_of("runner", &case.profile).expect("the runner starts it");
    case.agree(&ours, "docker", &theirs[0], &mut BTreeSet::new());
}

#[test]
fn podmans_profile_agrees_with_podman_itself() {
    if !ready() || !need(Privilege::Peer("podman")) || !need(Privilege::Peer("runc")) {
        return;
    }
    let scratch = Scratch::new("seccomp-podman");
    let store = Store::new("seccomp-podman-ours");
    let image = Image::busybox().expect("busybox").compose(&store, "box");
    let podman = |words: &str| podman(&scratch, words);
    let archive = scratch.join("image.tar");
    Cmd::new("tar").arg("-C").arg(image.rootfs()).arg("-cf").arg(&archive).arg(".").ok();
    podman("import -q").arg(&archive).arg("box:1").ok();
    let profile = podman("info -f {{.Host.Security.SECCOMPProfilePath}}").ok().text().to_owned();
    // What AUDIT_WRITE and SYS_ADMIN open has arguments.
    for capabilities in ["--cap-drop ALL", "--cap-drop ALL --cap-add AUDIT_WRITE --cap-add SYS_ADMIN"] {
        let option = format!("{capabilities} --security-opt seccomp={profile}");
        let time = a_time();
        let limits = "run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
        let theirs = podman(limits).words(&option).args(["box:1", "sleep", &time]);
        let theirs = read_back(theirs, &time).expect("podman starts it");
        let time = a_time();
        let ours = read_back(store.run(&option).args(["--init=never", "box", "sleep", &time]), &time);
        let ours = ours.expect("the runner starts it");
        let config = store.run(&option).words("--dry-run box true").ok().json();
        let case = Case::new(&option, config["linux"]["seccomp"].clone());
        case.agree(&ours, "podman", &theirs, &mut BTreeSet::new());
    }
}
