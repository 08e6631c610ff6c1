//! `hooks`: each writes what it was given to a file that every one of them reaches by the same path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::case::{Case, case};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that writes, and what else it shall do.
fn hook(kind: &str, more: &str) -> Value {
    // startContainer is executed from the container's files, the others from the host's.
    let (probe, log) = match kind {
        "startContainer" => ("/probe", "/log/hooks"),
        _ => ("@BUNDLE@/rootfs/probe", "@BUNDLE@/log/hooks"),
    };
    json!({"path": probe, "args": ["probe", format!("hook={log}"), kind, more], "env": ["OF=the hook"]})
}

fn with(name: &str, hooks: Value) -> Case {
    case(format!("hooks: {name}")).mount("/log", "bind", "@BUNDLE@/log", &["bind"]).set("/hooks", hooks)
}

/// Hooks that write: of which kind, and what else each shall do.
fn writing(name: &str, list: &[(&str, &str)]) -> Case {
    let hooks = json!({});
    list.iter()
        .fold(with(name, hooks), |case, (kind, more)| case.set(&format!("/hooks/{kind}/-"), hook(kind, more)))
}

/// One prestart hook, as it is written.
fn prestart(name: &str, hook: Value) -> Case {
    with(name, json!({"prestart": [hook]}))
}

/// Let anyone write the file.
fn for_all(bundle: &Path) {
    fs::set_permissions(bundle.join("log"), fs::Permissions::from_mode(0o777)).expect("chmod");
}

pub(super) fn cases() -> Vec<Case> {
    let one_of_each = KINDS.map(|kind| (kind, ""));
    let timeout = |name: &str, more: &str, seconds: i64| {
        writing(name, &[("prestart", more)]).set("/hooks/prestart/0/timeout", json!(seconds))
    };
    let shell =
        |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script, "@BUNDLE@/rootfs/made"]});
    let mut all = vec![
        writing("one of each kind", &one_of_each).set("/annotations", json!({"a.b": "c"})),
        writing("one of each kind, without namespaces of pids", &one_of_each).shares("pid"),
        writing("two of a kind", &[("prestart", "one"), ("prestart", "two")]),
        writing(
            "the second of three fails",
            &[("createRuntime", ""), ("createRuntime", "exit=3"), ("createRuntime", "")],
        ),
        with("no list has an entry", json!({"prestart": [], "poststop": []})),
        with("an object of nothing", json!({})),
        with("an unknown kind", json!({"midstart": [hook("midstart", "")]})),
        prestart("one without arguments", json!({"path": "/bin/true"})),
        prestart("one whose path is not absolute", json!({"path": "bin/true"})),
        prestart("one without a path", json!({"args": ["true"]})),
        prestart("one that is not there", json!({"path": "/none/such"})),
        prestart("one that cannot be executed", json!({"path": "/etc/passwd"})),
        timeout("one that is stopped in time", "sleep=5", 1),
        timeout("one that is done in time", "", 10),
        timeout("one with a timeout of 0", "", 0),
        timeout("one with a negative timeout", "", -1),
        writing("one without an environment", &[("prestart", "")]).without("/hooks/prestart/0/env"),
        prestart("one that does not read what it is given", json!({"path": "/bin/true", "args": ["true"]})),
        prestart("one that writes to both its streams", shell("echo out; echo err >&2")),
        prestart("one that writes the root before it is mounted", shell("echo made > \"$0\""))
            .ask(&["cat=/made"]),
        writing("the command is not found", &[("createRuntime", ""), ("poststop", "")])
            .set("/process/args", json!(["/none"])),
        writing("the command exits with 5", &[("poststop", "")]).ask(&["exit=5"]),
        writing("in a user namespace", &[("createContainer", ""), ("startContainer", "")])
            .user_namespace()
            .prepare(for_all),
        writing("the container's user is not root", &[("startContainer", "")])
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .prepare(for_all),
        writing("the command has a folder of its own", &[("startContainer", ""), ("createContainer", "")])
            .set("/process/cwd", json!("/tmp")),
    ];
    for kind in KINDS {
        all.push(writing(&format!("{kind} alone"), &[(kind, "")]));
        all.push(writing(&format!("{kind} fails"), &[(kind, "exit=3"), ("poststop", "")]));
    }
    all
}
