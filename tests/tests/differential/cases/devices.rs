//! `linux.devices` and the rules of `linux.resources.devices`.

use std::fs;

use serde_json::{Value, json};

use crate::case::{Case, case};

/// A list of nodes.
fn nodes(name: &str, list: Value) -> Case {
    let asked =
        list.as_array().into_iter().flatten().filter_map(|d| Some(format!("path={}", d["path"].as_str()?)));
    let asked: Vec<String> = asked.collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    case(format!("devices: {name}")).set("/linux/devices", list).ask(&asked)
}

/// A list of rules, and the right to make nodes in order to try them.
fn rules(name: &str, list: Value) -> Case {
    let mut case = case(format!("devices: {name}")).set("/linux/resources/devices", list);
    for set in ["bounding", "effective", "permitted"] {
        case = case.set(
            &format!("/process/capabilities/{set}"),
            json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYS_RAWIO"]),
        );
    }
    case.ask(&["device=c:10:237", "device=c:5:0", "device=c:1:7", "device=b:254:0"])
}

pub(super) fn cases() -> Vec<Case> {
    let fuse = json!({"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 3, "gid": 4});
    let with = |changes: Value| {
        let mut node = fuse.clone();
        for (name, value) in changes.as_object().expect("an object") {
            node[name] = value.clone();
        }
        json!([node])
    };
    let deny = json!({"allow": false, "access": "rwm"});
    let rule = |allow: bool, kind: &str, major: i64, minor: i64, access: &str| json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access});
    let allow = |kind: &str, major, minor, access: &str| rule(true, kind, major, minor, access);
    let everything = json!({"allow": true, "access": "rwm"});
    vec![
        nodes("a character device", json!([fuse])),
        nodes(
            "a device without a mode and an owner",
            json!([{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}]),
        ),
        nodes("a device with bits of a type in its mode", with(json!({"fileMode": 0o20666}))),
        nodes("a device with mode 0", with(json!({"fileMode": 0}))),
        nodes("a device with a sticky bit", with(json!({"fileMode": 0o1666}))),
        nodes("a block device", with(json!({"type": "b", "path": "/dev/loop77", "major": 7, "minor": 77}))),
        nodes("an unbuffered device", with(json!({"type": "u"}))),
        nodes("a fifo", json!([{"type": "p", "path": "/dev/pipe", "fileMode": 0o622, "uid": 1, "gid": 2}])),
        nodes("a device in a folder that is missing", with(json!({"path": "/dev/deep/er/fuse"}))),
        nodes("a device outside of /dev", with(json!({"path": "/tmp/fuse"}))),
        nodes(
            "a device outside of /dev, in a root that can be written to",
            with(json!({"path": "/tmp/fuse"})),
        )
        .set("/root/readonly", json!(false)),
        nodes("a device whose path is not absolute", with(json!({"path": "dev/fuse"}))),
        nodes("a device whose path climbs", with(json!({"path": "/dev/../fuse"}))),
        nodes("a device without a path", json!([{"type": "c", "major": 10, "minor": 229}])),
        nodes("a device without a type", json!([{"path": "/dev/fuse", "major": 10, "minor": 229}])),
        nodes("a device of an unknown type", with(json!({"type": "x"}))),
        nodes("a device without numbers", json!([{"type": "c", "path": "/dev/fuse"}])),
        nodes("a device with a negative number", with(json!({"major": -1}))),
        nodes("the same device twice", json!([fuse, fuse])),
        nodes(
            "one path for two devices",
            json!([fuse, {"type": "c", "path": "/dev/fuse", "major": 1, "minor": 3}]),
        ),
        nodes(
            "a default device with another mode",
            json!([{"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 6}]),
        ),
        nodes(
            "a default device that is another",
            json!([{"type": "c", "path": "/dev/zero", "major": 1, "minor": 3, "fileMode": 0o666}]),
        ),
        nodes("a device with a umask in the way", with(json!({"fileMode": 0o666})))
            .set("/process/user/umask", json!(0o77)),
        nodes("no device", json!([])),
        nodes("a device where a file is mounted", json!([fuse]))
            .prepare(|b| fs::write(b.join("log/file"), "x").expect("write"))
            .mount("/dev/fuse", "bind", "@BUNDLE@/log/file", &["bind"]),
        rules("everything is denied", json!([deny])),
        rules("no rule", json!([])),
        case("devices: no resources").without("/linux/resources"),
        rules("no rule is there, and no list", json!(null)),
        rules("everything is allowed", json!([{"allow": true, "access": "rwm"}])),
        rules("everything is allowed by its type a", json!([{"allow": true, "type": "a", "access": "rwm"}])),
        rules("denied, and one allowed", json!([deny, allow("c", 10, 229, "rwm")])),
        rules("denied, and one may be read", json!([deny, allow("c", 1, 1, "r")])),
        rules("denied, and one may be written", json!([deny, allow("c", 1, 11, "w")])),
        rules("denied, and one may be made alone", json!([deny, allow("c", 1, 1, "m")])),
        rules(
            "denied, and all of a major number allowed",
            json!([deny, {"allow": true, "type": "c", "major": 10, "access": "rwm"}]),
        ),
        rules(
            "denied, and all of a minor number allowed",
            json!([deny, {"allow": true, "type": "c", "minor": 1, "access": "rwm"}]),
        ),
        rules(
            "denied, and all block devices may be read",
            json!([deny, {"allow": true, "type": "b", "access": "r"}]),
        ),
        rules("allowed, and one denied after", json!([everything, rule(false, "c", 1, 1, "rwm")])),
        rules("allowed, and one may not be written", json!([everything, rule(false, "c", 10, 229, "w")])),
        rules("one allowed, then everything denied", json!([allow("c", 10, 229, "rwm"), deny])),
        rules(
            "a default device is denied",
            json!([deny, {"allow": false, "type": "c", "major": 1, "minor": 7, "access": "rwm"}]),
        ),
        rules("a rule with -1 for any number", json!([deny, allow("c", -1, -1, "r")])),
        rules(
            "a rule without an access",
            json!([deny, {"allow": true, "type": "c", "major": 10, "minor": 229}]),
        ),
        rules("a rule with an access of nothing", json!([deny, allow("c", 10, 229, "")])),
        rules("a rule with an unknown access", json!([deny, allow("c", 10, 229, "rx")])),
        rules("a rule with an unknown type", json!([deny, allow("q", 10, 229, "r")])),
        rules(
            "a rule without allow",
            json!([deny, {"type": "c", "major": 10, "minor": 229, "access": "rwm"}]),
        ),
        rules("a node of the list that no rule allows", json!([deny]))
            .set("/linux/devices", json!([fuse]))
            .ask(&["path=/dev/fuse"]),
        rules("the same rule twice", json!([deny, allow("c", 10, 229, "r"), allow("c", 10, 229, "r")])),
        rules("a permission in two rules", json!([deny, allow("c", 10, 229, "r"), allow("c", 10, 229, "w")])),
    ]
}
