//! `process.rlimits`.

use serde_json::{Value, json};

use crate::case::{Case, case};

const TYPES: &[&str] = &[
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

fn limits(name: &str, list: Value) -> Case {
    case(format!("limits: {name}")).set("/process/rlimits", list)
}

pub(super) fn cases() -> Vec<Case> {
    let nofile = |soft: Value, hard: Value| json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard});
    let mut all = vec![
        limits("none", json!([])),
        case("limits: without rlimits").without("/process/rlimits"),
        limits("soft below hard", json!([nofile(json!(100), json!(200))])),
        limits("soft above hard", json!([nofile(json!(200), json!(100))])),
        limits("one without hard", json!([{"type": "RLIMIT_NOFILE", "soft": 0}])),
        limits("one without soft", json!([{"type": "RLIMIT_NOFILE", "hard": 100}])),
        limits("one type twice", json!([nofile(json!(100), json!(100)), nofile(json!(200), json!(200))])),
        limits("an unknown type", json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}])),
        limits("a type in lower case", json!([{"type": "rlimit_nofile", "soft": 100, "hard": 100}])),
        limits("a type without its prefix", json!([{"type": "NOFILE", "soft": 100, "hard": 100}])),
        limits("one without a type", json!([{"soft": 100, "hard": 100}])),
        limits("a negative number", json!([nofile(json!(-1), json!(-1))])),
        limits("a word", json!([nofile(json!("unlimited"), json!("unlimited"))])),
        limits("a fraction", json!([nofile(json!(10.5), json!(100))])),
        limits("beyond 64 bits", json!([nofile(json!(1e30), json!(1e30))])),
        limits(
            "more files than the kernel lets anyone have",
            json!([nofile(json!(u64::MAX), json!(u64::MAX))]),
        ),
        limits(
            "several, as a user",
            json!([
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_NICE", "soft": 10, "hard": 20},
                {"type": "RLIMIT_NPROC", "soft": 50, "hard": 60}
            ]),
        )
        .set("/process/user", json!({"uid": 1000, "gid": 1000})),
    ];
    for name in TYPES {
        // Enough for a runtime to set itself up after it has them.
        let (soft, hard): (u64, u64) = match *name {
            "AS" | "DATA" | "RSS" | "FSIZE" | "STACK" => (1 << 33, 1 << 34),
            "MEMLOCK" | "MSGQUEUE" => (1 << 20, 1 << 21),
            "NICE" | "RTPRIO" => (5, 6),
            _ => (900, 1000),
        };
        let limit = json!([{"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard}]);
        all.push(limits(&format!("RLIMIT_{name}"), limit));
    }
    all.push(limits(
        "a core without end",
        json!([{"type": "RLIMIT_CORE", "soft": u64::MAX, "hard": u64::MAX}]),
    ));
    all
}
