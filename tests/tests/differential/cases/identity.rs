//! `process.user` and `process.capabilities`.

use serde_json::{Value, json};

use crate::case::{Case, case};

const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

fn user(name: &str, user: Value) -> Case {
    case(format!("identity: {name}")).set("/process/user", user)
}

/// The same list in some of the sets, none in the others.
fn caps(name: &str, user: u32, sets: &[&str], list: &[&str]) -> Case {
    let mut case = case(format!("identity: {name}"))
        .set("/process/user", json!({"uid": user, "gid": user}))
        .set("/process/capabilities", json!({}));
    for set in sets {
        case = case.set(&format!("/process/capabilities/{set}"), json!(list));
    }
    case
}

pub(super) fn cases() -> Vec<Case> {
    let three = ["bounding", "effective", "permitted"];
    let mut all = vec![
        user("a user and a group", json!({"uid": 1000, "gid": 100})),
        user("a user that passwd does not know", json!({"uid": 4242, "gid": 4242})),
        user("more groups", json!({"uid": 1000, "gid": 100, "additionalGids": [5, 7, 1000]})),
        user("root with more groups", json!({"uid": 0, "gid": 0, "additionalGids": [5]})),
        user("its own group among the others", json!({"uid": 1000, "gid": 100, "additionalGids": [100, 5]})),
        user("a group twice", json!({"uid": 1000, "gid": 100, "additionalGids": [5, 5]})),
        user("no more groups, said so", json!({"uid": 1000, "gid": 100, "additionalGids": []})),
        user("a user with the group root", json!({"uid": 1000, "gid": 0})),
        user("root with another group", json!({"uid": 0, "gid": 1000})),
        user("the largest ids", json!({"uid": 4_294_967_294_u32, "gid": 4_294_967_294_u32})),
        user("the id that means none", json!({"uid": 4_294_967_295_u32, "gid": 0})),
        user("umask 0", json!({"uid": 0, "gid": 0, "umask": 0})),
        user("umask 027", json!({"uid": 0, "gid": 0, "umask": 0o27})),
        user("umask 0777", json!({"uid": 1000, "gid": 0, "umask": 0o777})),
        user("umask beyond 0777", json!({"uid": 0, "gid": 0, "umask": 0o1777})),
        user("a username, which is for another system", json!({"username": "user"})),
        user("no ids at all", json!({})),
        case("identity: without a user").without("/process/user"),
        case("identity: without capabilities").without("/process/capabilities"),
        case("identity: a user without capabilities")
            .without("/process/capabilities")
            .set("/process/user", json!({"uid": 1000, "gid": 1000})),
        caps("no capability in any set", 0, &SETS, &[]),
        caps("no set at all", 0, &[], &[]),
        caps("all sets", 0, &SETS, &["CAP_CHOWN", "CAP_KILL"]),
        caps("all sets as a user", 1000, &SETS, &["CAP_CHOWN", "CAP_KILL"]),
        caps("three sets as a user", 1000, &three, &["CAP_CHOWN", "CAP_KILL"]),
        caps("bounding alone", 0, &["bounding"], &["CAP_CHOWN"]),
        caps("bounding alone as a user", 1000, &["bounding"], &["CAP_CHOWN"]),
        caps("permitted and bounding", 0, &["bounding", "permitted"], &["CAP_CHOWN"]),
        caps("permitted and bounding as a user", 1000, &["bounding", "permitted"], &["CAP_CHOWN"]),
        caps("inheritable too", 1000, &["bounding", "effective", "permitted", "inheritable"], &["CAP_CHOWN"]),
        caps(
            "ambient without inheritable",
            1000,
            &["bounding", "effective", "permitted", "ambient"],
            &["CAP_CHOWN"],
        ),
        caps("ambient without permitted", 1000, &["bounding", "inheritable", "ambient"], &["CAP_CHOWN"]),
        caps("effective without permitted", 0, &["bounding", "effective"], &["CAP_CHOWN"]),
        caps("permitted beyond bounding", 0, &["effective", "permitted"], &["CAP_CHOWN"]),
        caps("permitted beyond bounding as a user", 1000, &["effective", "permitted"], &["CAP_CHOWN"]),
        caps("an unknown capability", 0, &three, &["CAP_CHOWN", "CAP_NONE_SUCH"]),
        caps("a capability without its prefix", 0, &three, &["CHOWN"]),
        caps("a capability in lower case", 0, &three, &["cap_chown"]),
        caps("a capability twice", 0, &three, &["CAP_CHOWN", "CAP_CHOWN"]),
        caps("a user that may change users", 1000, &SETS, &["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]),
        caps("the newest ones", 0, &three, &["CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"]),
        caps("every one of the machine", 0, &three, EVERY),
        caps("new privileges for a user with ambient ones", 1000, &SETS, &["CAP_NET_RAW"])
            .set("/process/noNewPrivileges", json!(false)),
    ];
    all.push(user(
        "more groups than a line holds",
        json!({"uid": 1000, "gid": 100, "additionalGids": (2000..2500).collect::<Vec<u32>>()}),
    ));
    all
}

const EVERY: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];
