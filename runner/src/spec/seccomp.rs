//! `linux.seccomp`: which system calls are let through.

use coracle_sys::read_json;
use serde::Serialize;

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccomp {
    /// What becomes of calls that no rule is about, `SCMP_ACT_*`.
    pub default_action: String,
    /// Its errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures beside the kernel's own, `SCMP_ARCH_*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Where the descriptor of notifications goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// Rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<LinuxSyscall>,
}

read_json!(LinuxSeccomp {
    default_action: must "defaultAction",
    default_errno_ret: may "defaultErrnoRet",
    architectures: may "architectures",
    flags: may "flags",
    listener_path: may "listenerPath",
    listener_metadata: may "listenerMetadata",
    syscalls: may "syscalls",
});

/// A rule about some calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSyscall {
    /// The calls.
    pub names: Vec<String>,
    /// What becomes of them, `SCMP_ACT_*`.
    pub action: String,
    /// Its errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Only with these arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<LinuxSeccompArg>,
}

read_json!(LinuxSyscall {
    names: must "names",
    action: must "action",
    errno_ret: may "errnoRet",
    args: may "args",
});

/// A comparison of an argument.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccompArg {
    /// Which, from 0 to 5.
    pub index: u32,
    /// With what; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    pub value_two: u64,
    /// `SCMP_CMP_*`.
    pub op: String,
}

read_json!(LinuxSeccompArg {
    index: must "index",
    value: must "value",
    value_two: may "valueTwo",
    op: must "op",
});
