//! `process`: who runs, where, with which rights and limits.

use std::path::PathBuf;

use coracle_sys::read_json;
use serde::Serialize;

use super::is_false;

/// The container's process, or one that joins it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it gets a terminal of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// The terminal's size at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    pub user: User,
    /// argv.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The whole environment, as NAME=value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory, absolute, inside the container.
    pub cwd: PathBuf,
    /// Capability sets. Without them the process gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether execve may grant no new privileges.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// /proc/PID/oom_score_adj.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// SELinux label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// ioprio_set(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// sched_setattr(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// CPUs of a process that joins.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

read_json!(Process {
    terminal: may "terminal",
    console_size: may "consoleSize",
    user: may "user",
    args: may "args",
    env: may "env",
    cwd: must "cwd",
    capabilities: may "capabilities",
    rlimits: may "rlimits",
    no_new_privileges: may "noNewPrivileges",
    apparmor_profile: may "apparmorProfile",
    oom_score_adj: may "oomScoreAdj",
    selinux_label: may "selinuxLabel",
    io_priority: may "ioPriority",
    scheduler: may "scheduler",
    exec_cpu_affinity: may "execCPUAffinity",
});

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

read_json!(ConsoleSize {
    height: must "height",
    width: must "width",
});

/// Numbers, as they are inside the container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask; the runtime's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

read_json!(User {
    uid: may "uid",
    gid: may "gid",
    umask: may "umask",
    additional_gids: may "additionalGids",
});

/// The five capability sets, as CAP_NAMES.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Capabilities {
    /// What execve can ever grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// What counts now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// What a file with the same inheritable bit may keep through execve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// What may be made effective.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// What an ordinary user keeps through execve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

read_json!(Capabilities {
    bounding: may "bounding",
    effective: may "effective",
    inheritable: may "inheritable",
    permitted: may "permitted",
    ambient: may "ambient",
});

/// One setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rlimit {
    /// RLIMIT_NAME.
    #[serde(rename = "type")]
    pub kind: String,
    /// The limit that counts; u64::MAX is no limit.
    pub soft: u64,
    /// What the soft limit may be raised to.
    pub hard: u64,
}

read_json!(Rlimit {
    kind: must "type",
    soft: must "soft",
    hard: must "hard",
});

/// ioprio_set(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IoPriority {
    /// IOPRIO_CLASS_NAME.
    pub class: String,
    /// 0 to 7 within it.
    pub priority: i32,
}

read_json!(IoPriority {
    class: must "class",
    priority: must "priority",
});

/// sched_setattr(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scheduler {
    /// SCHED_NAME.
    pub policy: String,
    /// -20 to 19.
    pub nice: i32,
    /// Of the real-time policies.
    pub priority: i32,
    /// SCHED_FLAG_NAMES.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub period: u64,
}

read_json!(Scheduler {
    policy: may "policy",
    nice: may "nice",
    priority: may "priority",
    flags: may "flags",
    runtime: may "runtime",
    deadline: may "deadline",
    period: may "period",
});

/// CPUs of a joining process: before and after it enters the container's cgroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuAffinity {
    /// A list such as `0-3,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// A list such as `0-3,7`.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub final_: Option<String>,
}

read_json!(CpuAffinity {
    initial: may "initial",
    final_: may "final",
});
