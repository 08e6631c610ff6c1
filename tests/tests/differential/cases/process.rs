//! `process`, `hostname`, `annotations`, `ociVersion`: how the command is started, and how it ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::case::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        case("process: as runc spec writes it"),
        case("process: an exit code of 7").ask(&["exit=7"]),
        case("process: an exit code of 200").ask(&["exit=200"]),
        case("process: killed by SIGUSR1, which PID 1 does not take from itself").ask(&["kill=10"]),
        case("process: killed by SIGUSR1 without a pid namespace").shares("pid").ask(&["kill=10"]),
        case("process: killed by SIGSEGV without a pid namespace").shares("pid").ask(&["kill=11"]),
        case("process: arguments with spaces, nothing, quotes and bytes beyond ASCII")
            .ask(&["a b", "", "\"q'", "é", "\\", "\t\n"]),
        case("process: a name without a slash is looked for in PATH")
            .set("/process/env/0", json!("PATH=/none:/bin:/"))
            .set("/process/args/0", json!("probe")),
        case("process: PATH has an empty element and cwd is the root")
            .set("/process/env/0", json!("PATH=/none::/bin"))
            .set("/process/args/0", json!("probe")),
        case("process: a name without a slash and no PATH in the environment")
            .set("/process/env", json!([]))
            .prepare(|b| fs::hard_link(b.join("rootfs/probe"), b.join("rootfs/bin/probe")).expect("link"))
            .set("/process/args/0", json!("probe")),
        case("process: a relative path is from cwd")
            .set("/process/args/0", json!("../probe"))
            .set("/process/cwd", json!("/bin")),
        case("process: a link to the command")
            .set("/process/args/0", json!("/bin/l"))
            .prepare(|b| symlink("../probe", b.join("rootfs/bin/l")).expect("link")),
        case("process: a script with an interpreter")
            .prepare(|b| {
                let path = b.join("rootfs/script");
                fs::write(&path, "#!/bin/sh\nexec /probe \"$0\" \"$@\"\n").expect("write");
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
            })
            .set("/process/args", json!(["/script", "one"])),
        case("process: no environment").set("/process/env", json!([])),
        case("process: without env").without("/process/env"),
        case("process: HOME is given").set("/process/env/-", json!("HOME=/there")),
        case("process: HOME is given as nothing").set("/process/env/-", json!("HOME=")),
        case("process: a variable twice").set("/process/env", json!(["PATH=/bin", "A=1", "A=2"])),
        case("process: a variable with an equals sign in its value").set("/process/env/-", json!("A=b=c")),
        case("process: a variable without an equals sign").set("/process/env/-", json!("ALONE")),
        case("process: a variable without a name").set("/process/env/-", json!("=x")),
        case("process: variables of a supervisor's")
            .set("/process/env/-", json!("LISTEN_FDS=0"))
            .set("/process/env/-", json!("LISTEN_PID=1"))
            .set("/process/env/-", json!("NOTIFY_SOCKET=/none")),
        case("process: cwd is a folder of the image").set("/process/cwd", json!("/tmp")),
        case("process: cwd does not exist, and the root is read only")
            .set("/process/cwd", json!("/made/here")),
        case("process: cwd does not exist, and the root can be written to")
            .set("/process/cwd", json!("/made/here"))
            .set("/root/readonly", json!(false)),
        case("process: cwd is below a mount")
            .mount("/data", "tmpfs", "tmpfs", &[])
            .set("/process/cwd", json!("/data/made")),
        case("process: cwd is a link")
            .prepare(|b| symlink("/tmp", b.join("rootfs/way")).expect("link"))
            .set("/process/cwd", json!("/way")),
        case("process: cwd is for another user alone")
            .prepare(|b| {
                fs::create_dir(b.join("rootfs/closed")).expect("mkdir");
                fs::set_permissions(b.join("rootfs/closed"), fs::Permissions::from_mode(0o700))
                    .expect("chmod");
            })
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/cwd", json!("/closed")),
        case("process: cwd with dots").set("/process/cwd", json!("/bin/../tmp/.")),
        case("process: noNewPrivileges is false").set("/process/noNewPrivileges", json!(false)),
        case("process: without noNewPrivileges").without("/process/noNewPrivileges"),
        case("process: a terminal, and nobody to take it").set("/process/terminal", json!(true)),
        case("process: a console size and no terminal")
            .set("/process/consoleSize", json!({"height": 5, "width": 6})),
        case("process: scheduler SCHED_BATCH with nice 5")
            .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5})),
        case("process: scheduler SCHED_IDLE").set("/process/scheduler", json!({"policy": "SCHED_IDLE"})),
        case("process: scheduler SCHED_OTHER with reset-on-fork").set(
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": -3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        ),
        case("process: scheduler SCHED_FIFO with priority 3")
            .set("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 3})),
        case("process: scheduler SCHED_RR with priority 100")
            .set("/process/scheduler", json!({"policy": "SCHED_RR", "priority": 100})),
        case("process: scheduler of an unknown policy")
            .set("/process/scheduler", json!({"policy": "SCHED_NONE"})),
        case("process: ioPriority best effort 3")
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 3})),
        case("process: ioPriority idle")
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0})),
        case("process: ioPriority of an unknown class")
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NONE_SUCH", "priority": 0})),
        case("process: execCPUAffinity, which is not for the first process")
            .set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})),
        case("process: oomScoreAdj 500").set("/process/oomScoreAdj", json!(500)),
        case("process: oomScoreAdj 0").set("/process/oomScoreAdj", json!(0)),
        case("process: oomScoreAdj -500").set("/process/oomScoreAdj", json!(-500)),
        case("process: oomScoreAdj 1000").set("/process/oomScoreAdj", json!(1000)),
        case("process: oomScoreAdj 1001").set("/process/oomScoreAdj", json!(1001)),
        case("process: oomScoreAdj -1000 as a user")
            .set("/process/oomScoreAdj", json!(-1000))
            .set("/process/user", json!({"uid": 1000, "gid": 1000})),
        case("process: an AppArmor profile on a host without AppArmor")
            .set("/process/apparmorProfile", json!("acme")),
        case("process: an AppArmor profile of nothing").set("/process/apparmorProfile", json!("")),
        case("process: a SELinux label on a host without SELinux")
            .set("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c1,c2")),
        case("process: a SELinux label of nothing").set("/process/selinuxLabel", json!("")),
        case("process: a personality of 32 bits").set("/linux/personality", json!({"domain": "LINUX32"})),
        case("process: a personality of this machine").set("/linux/personality", json!({"domain": "LINUX"})),
        case("process: a personality of none").set("/linux/personality", json!({"domain": "VMS"})),
        case("process: annotations").set("/annotations", json!({"a.b": "c", "": "no name", "empty": ""})),
        case("process: annotations that other runtimes act on").set(
            "/annotations",
            json!({"run.oci.keep_original_groups": "1", "run.oci.hooks.stdout": "/none/x"}),
        ),
        case("process: unknown members everywhere")
            .set("/unknown", json!({"a": 1}))
            .set("/process/unknown", json!([1]))
            .set("/linux/unknown", json!("x"))
            .set("/root/unknown", json!(null)),
        case("process: sections of other systems")
            .set("/windows", json!({"layerFolders": ["x"]}))
            .set("/solaris", json!({}))
            .set("/vm", json!({"kernel": {"path": "/none"}})),
        case("process: without a hostname").without("/hostname"),
        case("process: a hostname of 64 bytes").set("/hostname", json!("h".repeat(64))),
        case("process: a hostname of 65 bytes").set("/hostname", json!("h".repeat(65))),
        case("process: a hostname of nothing").set("/hostname", json!("")),
        case("process: a domainname").set("/domainname", json!("example.org")),
        case("process: a hostname without a uts namespace").shares("uts"),
        case("process: a domainname without a uts namespace")
            .shares("uts")
            .without("/hostname")
            .set("/domainname", json!("example.org")),
        case("process: a root that can be written to")
            .set("/root/readonly", json!(false))
            .ask(&["path=/", "path=/tmp"]),
        case("process: without root.readonly").without("/root/readonly").ask(&["path=/"]),
        case("process: the root by an absolute path").set("/root/path", json!("@BUNDLE@/rootfs")),
        case("process: the root by a link")
            .prepare(|b| symlink("rootfs", b.join("way")).expect("link"))
            .set("/root/path", json!("way")),
        case("process: the root by a path with dots").set("/root/path", json!("./log/../rootfs/")),
        case("process: the root of a folder that has nothing but the probe")
            .prepare(|b| {
                fs::create_dir(b.join("bare")).expect("mkdir");
                fs::hard_link(b.join("rootfs/probe"), b.join("bare/probe")).expect("link");
            })
            .set("/root/path", json!("bare")),
    ];
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.0", "1.3.0", "1.99.0", "1.0.0-rc5"] {
        all.push(case(format!("process: ociVersion {version}")).set("/ociVersion", json!(version)));
    }
    all
}
