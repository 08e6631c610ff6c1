//! What is wrong: types, members that are missing, commands that cannot be executed, roots that are none.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::case::{Case, case};

fn set(name: &str, pointer: &str, value: Value) -> Case {
    case(format!("broken: {name}")).set(pointer, value)
}

fn mode(bundle: &std::path::Path, name: &str, bytes: &[u8], mode: u32) {
    fs::write(bundle.join(name), bytes).expect("write");
    fs::set_permissions(bundle.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
}

pub(super) fn cases() -> Vec<Case> {
    let without = |pointer: &str| case(format!("broken: without {pointer}")).without(pointer);
    let mut all = vec![
        case("broken: no JSON").raw("{ bad"),
        case("broken: nothing").raw(""),
        case("broken: an empty object").raw("{}"),
        case("broken: a list").raw("[]"),
        case("broken: null").raw("null"),
        case("broken: something after the end").raw(&format!("{} x", crate::case::base())),
        case("broken: a member twice").raw(&crate::case::base().to_string().replacen(
            '{',
            "{\"hostname\":\"first\",",
            1,
        )),
        case("broken: members in another case")
            .raw(&crate::case::base().to_string().replace("\"cwd\"", "\"CWD\"")),
        case("broken: a byte order mark before").raw(&format!("\u{feff}{}", crate::case::base())),
        without("/ociVersion"),
        without("/process"),
        without("/root"),
        without("/linux"),
        without("/process/args"),
        without("/process/cwd"),
        without("/root/path"),
        set("a version of nothing", "/ociVersion", json!("")),
        set("a version that is no version", "/ociVersion", json!("one")),
        set("a version of two numbers", "/ociVersion", json!("1.0")),
        set("version 2", "/ociVersion", json!("2.0.0")),
        set("version 0.9", "/ociVersion", json!("0.9.0")),
        set("a version that is a number", "/ociVersion", json!(1.0)),
        set("no argument", "/process/args", json!([])),
        set("an argument of nothing as the command", "/process/args", json!([""])),
        set("an argument that is a number", "/process/args", json!(["/probe", 5])),
        set("arguments that are no list", "/process/args", json!("/probe")),
        set("the arguments are null", "/process/args", json!(null)),
        set("an argument with a NUL", "/process/args", json!(["/probe", "a\u{0}b"])),
        set("cwd is not absolute", "/process/cwd", json!("tmp")),
        set("cwd is nothing", "/process/cwd", json!("")),
        set("cwd is a file", "/process/cwd", json!("/etc/passwd")),
        set("cwd is below a file", "/process/cwd", json!("/etc/passwd/x")),
        set("a command that is not there", "/process/args", json!(["/none"])),
        set("a command that is not in PATH", "/process/args", json!(["none"])),
        set("a command that is a folder", "/process/args", json!(["/etc"])),
        set("a command that cannot be executed", "/process/args", json!(["/etc/passwd"])),
        set("a name in PATH that cannot be executed", "/process/args", json!(["passwd"]))
            .set("/process/env/0", json!("PATH=/etc")),
        set("a command below a file", "/process/args", json!(["/etc/passwd/x"])),
        set("a command whose interpreter is missing", "/process/args", json!(["/script"]))
            .prepare(|b| mode(b, "rootfs/script", b"#!/none/sh\n", 0o755)),
        set("a command of no format", "/process/args", json!(["/noise"]))
            .prepare(|b| mode(b, "rootfs/noise", &[0, 1, 2, 3], 0o755)),
        set("a script without an interpreter", "/process/args", json!(["/script"]))
            .prepare(|b| mode(b, "rootfs/script", b"exit 9\n", 0o755)),
        set("a command of no bytes", "/process/args", json!(["/nothing"]))
            .prepare(|b| mode(b, "rootfs/nothing", b"", 0o755)),
        set("a command that is for root alone", "/process/args", json!(["/private"]))
            .prepare(|b| {
                fs::copy(b.join("rootfs/probe"), b.join("rootfs/private")).expect("copy");
                fs::set_permissions(b.join("rootfs/private"), fs::Permissions::from_mode(0o700))
                    .expect("chmod");
            })
            .set("/process/user", json!({"uid": 1000, "gid": 1000})),
        set("a command on a mount that is noexec", "/process/args", json!(["/data/probe"])).mount(
            "/data",
            "bind",
            "@BUNDLE@/rootfs",
            &["bind", "noexec"],
        ),
        set("a command that is a link in a circle", "/process/args", json!(["/way"]))
            .prepare(|b| symlink("way", b.join("rootfs/way")).expect("link")),
        set("an environment that is no list", "/process/env", json!({"A": "b"})),
        set("a variable that is a number", "/process/env", json!([5])),
        set("a user that is a number", "/process/user", json!(0)),
        set("a uid that is a word", "/process/user/uid", json!("root")),
        set("a uid that is negative", "/process/user/uid", json!(-1)),
        set("a uid beyond 32 bits", "/process/user/uid", json!(4_294_967_296_u64)),
        set("a uid with a fraction", "/process/user/uid", json!(1.5)),
        set("a umask that is negative", "/process/user/umask", json!(-1)),
        set("a group that is negative", "/process/user/additionalGids", json!([-1])),
        set("capabilities that are a list", "/process/capabilities", json!(["CAP_KILL"])),
        set("a set of capabilities that is a word", "/process/capabilities/bounding", json!("CAP_KILL")),
        set("terminal is a word", "/process/terminal", json!("yes")),
        set("noNewPrivileges is a number", "/process/noNewPrivileges", json!(1)),
        set("oomScoreAdj is a word", "/process/oomScoreAdj", json!("500")),
        set("oomScoreAdj beyond 32 bits", "/process/oomScoreAdj", json!(5_000_000_000_u64)),
        set("oomScoreAdj -1001", "/process/oomScoreAdj", json!(-1001)),
        set("a hostname that is a number", "/hostname", json!(5)),
        set("a hostname with a NUL", "/hostname", json!("a\u{0}b")),
        set("mounts that are an object", "/mounts", json!({})),
        set("a mount that is a word", "/mounts/-", json!("tmpfs")),
        set("a mount without a destination", "/mounts/-", json!({"type": "tmpfs", "source": "tmpfs"})),
        set("a mount without a source", "/mounts/-", json!({"type": "tmpfs", "destination": "/data"})),
        set(
            "a bind without a source",
            "/mounts/-",
            json!({"type": "bind", "destination": "/data", "options": ["bind"]}),
        ),
        set("options of a mount that are a word", "/mounts/0/options", json!("ro")),
        set("a root that is a word", "/root", json!("rootfs")),
        set("the root is missing", "/root/path", json!("none")),
        set("the root is a file", "/root/path", json!("config.json")),
        set("the root is nothing", "/root/path", json!("")),
        set("the root is the host's", "/root/path", json!("/")),
        set("the root is the bundle", "/root/path", json!("."))
            .set("/process/args", json!(["/rootfs/probe"])),
        set("readonly is a word", "/root/readonly", json!("yes")),
        set("linux is a list", "/linux", json!([])),
        set("namespaces that are words", "/linux/namespaces", json!(["pid", "mount"])),
        set(
            "a device's number is a word",
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/fuse", "major": "10", "minor": 229}]),
        ),
        set("masked paths that are a word", "/linux/maskedPaths", json!("/proc/kcore")),
        set("a sysctl that is a list", "/linux/sysctl", json!(["net.ipv4.ip_forward=1"])),
        set("resources that are a list", "/linux/resources", json!([])),
        set("a limit of memory that is a word", "/linux/resources/memory", json!({"limit": "64M"})),
        set("a limit of memory with a fraction", "/linux/resources/memory", json!({"limit": 1e8})),
        set("shares that are negative", "/linux/resources/cpu", json!({"shares": -1})),
        set("a map that is an object", "/linux/uidMappings", json!({"containerID": 0})),
        set("hooks that are a list", "/hooks", json!([])),
        set("annotations that are numbers", "/annotations", json!({"a": 1})),
        set("annotations that are a list", "/annotations", json!(["a"])),
        set("seccomp that is a word", "/linux/seccomp", json!("default")),
        case("broken: /proc of the root is a link").prepare(|b| {
            fs::remove_dir(b.join("rootfs/proc")).expect("rmdir");
            symlink("/tmp", b.join("rootfs/proc")).expect("link");
        }),
        case("broken: /sys of the root is a link").prepare(|b| {
            fs::remove_dir(b.join("rootfs/sys")).expect("rmdir");
            symlink("tmp", b.join("rootfs/sys")).expect("link");
        }),
        case("broken: /dev of the root is a link").prepare(|b| {
            fs::remove_dir(b.join("rootfs/dev")).expect("rmdir");
            symlink("tmp", b.join("rootfs/dev")).expect("link");
        }),
        case("broken: /proc of the root is a file").prepare(|b| {
            fs::remove_dir(b.join("rootfs/proc")).expect("rmdir");
            fs::write(b.join("rootfs/proc"), "").expect("write");
        }),
        case("broken: a tmpfs at /proc")
            .set("/mounts/0", json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"})),
        case("broken: a bind at /proc").set(
            "/mounts/0",
            json!({"destination": "/proc", "type": "bind", "source": "@BUNDLE@/log", "options": ["bind"]}),
        ),
        case("broken: a bind over a file of /proc")
            .mount("/proc/uptime", "bind", "@BUNDLE@/log/file", &["bind"])
            .prepare(|b| fs::write(b.join("log/file"), "1 1\n").expect("write"))
            .ask(&["cat=/proc/uptime"]),
        case("broken: a bind over /proc/self/attr")
            .mount("/proc/self/attr/current", "bind", "@BUNDLE@/log/file", &["bind"])
            .prepare(|b| fs::write(b.join("log/file"), "x\n").expect("write")),
        case("broken: a tmpfs below /proc").mount("/proc/fs", "tmpfs", "tmpfs", &[]),
        case("broken: devices by network that are not there").set("/linux/netDevices", json!({"none0": {}})),
        case("broken: netDevices of nothing").set("/linux/netDevices", json!({})),
    ];
    for value in [json!(null), json!([]), json!(5)] {
        all.push(case(format!("broken: process is {value}")).set("/process", value));
    }
    all
}
