//! The OCI runtime specification's config.json (1.3) as plain structs. Words of an enumeration stay
//! strings here: what a word means, and whether it is known, is decided in the plan, so that a start
//! can warn of an unknown capability and go on. Unknown fields are ignored, as the specification asks.

mod linux;
mod locate;
mod mount;
mod process;
pub mod resources;
mod seccomp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file, json};
use serde::Serialize;

pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Personality, TimeOffset,
};
pub use mount::Mount;
pub use process::{Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::LinuxResources;
pub use seccomp::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// The version written into a config.json that we make.
pub const VERSION: &str = "1.3.0";

/// A whole config.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The specification's version, by semantic versioning.
    pub oci_version: String,
    /// The container's process. `create` may leave it out; `start` needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts beyond the root, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs run at the container's turning points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free words about the container. They decide nothing, but for the properties of a unit of systemd's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What is Linux's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

read_json!(Spec {
    oci_version: must "ociVersion",
    process: may "process",
    root: may "root",
    hostname: may "hostname",
    domainname: may "domainname",
    mounts: may "mounts",
    hooks: may "hooks",
    annotations: may "annotations",
    linux: may "linux",
});

/// The root file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Whether it is mounted read only.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

read_json!(Root {
    path: must "path",
    readonly: may "readonly",
});

/// The six kinds of hook.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: with the runtime's namespaces, after they are made, before `pivot_root`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, during `create`, before `pivot_root`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, during `create`, before `pivot_root`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In the container, during `start`, before the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the command started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

read_json!(Hooks {
    prestart: may "prestart",
    create_runtime: may "createRuntime",
    create_container: may "createContainer",
    start_container: may "startContainer",
    poststart: may "poststart",
    poststop: may "poststop",
});

/// One program to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its argv, with argv[0].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its whole environment, as NAME=value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

read_json!(Hook {
    path: must "path",
    args: may "args",
    env: may "env",
    timeout: may "timeout",
});

impl Spec {
    /// Read a config.json's text. An error names the field that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let value = serde_json::from_slice(text.as_bytes()).map_err(|e| locate::explain(text, &e))?;
        let spec: Self = json::from_value(value)?;
        spec.check_version()?;
        Ok(spec)
    }

    /// Read a config.json.
    pub fn load(path: &Path) -> Result<Self> {
        // Who names another file may mean a pipe; a bundle's own is a file.
        let bytes = match path.file_name().is_some_and(|name| name == "config.json") {
            true => file::read_plain(path)?,
            false => file::read(path)?,
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::invalid(format!("read {path:?}: it is not UTF-8")))?;
        Self::parse(&text).context(|| format!("read {}", path.display()))
    }

    fn check_version(&self) -> Result<()> {
        match self.oci_version.split('.').next() {
            Some("1") => Ok(()),
            _ => Err(Error::invalid(format!("ociVersion {:?} is not of the 1.x series", self.oci_version))),
        }
    }
}

fn is_false(b: &bool) -> bool {
    !b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_being_read_and_written() {
        let text = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1,"gid":2},"args":["sh"],"cwd":"/"},
            "root":{"path":"rootfs"},"mounts":null,"linux":{"namespaces":[{"type":"pid"}]},"unknown":{"a":[1]}}"#;
        let spec = Spec::parse(text).unwrap();
        let again = Spec::parse(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(spec, again);
        assert_eq!(spec.process.unwrap().user.gid, 2);
    }

    #[test]
    fn a_malformed_config_is_one_line_that_names_the_field() {
        for (text, names) in [
            (r#"{"ociVersion":"1.0","root":{"path":5}}"#, "root.path"),
            (
                r#"{"ociVersion":"1.0","mounts":[{"destination":"/a"},{"destination":[]}]}"#,
                "mounts[1].destination",
            ),
            (r#"{"ociVersion":"1.0","process":{"cwd":"/","user":{"uid":-1,"gid":0}}}"#, "process.user.uid"),
            (
                r#"{"ociVersion":"1.0","process":{"cwd":"/","user":{"uid":4294967296,"gid":0}}}"#,
                "process.user.uid",
            ),
            (r#"{"ociVersion":"1.0","root":{}}"#, "path"),
            (r#"{"ociVersion":"2.0"}"#, "ociVersion"),
            (r#"{"ociVersion":"1.0","hostname":"a""#, "hostname"),
            ("", "empty"),
        ] {
            let e = Spec::parse(text).unwrap_err().to_string();
            assert!(e.contains(names) && !e.contains('\n'), "{text}: {e}");
        }
    }
}
