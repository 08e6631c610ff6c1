//! `features`: what this runner knows of the runtime specification, for clients that ask before they rely on it.
//! As the specification has it, hosts do not matter: only the flags of filters are asked of the kernel.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Result, print};

use super::typed::{self, Typed};
use crate::{caps, mounts, namespaces::Kind, seccomp, spec};

/// `linux.intelRdt`: on the whole, its `schemata`, its `enableMonitoring`.
const INTEL_RDT: bool = true;
/// `process.selinuxLabel`, `linux.mountLabel`.
const SELINUX: bool = true;
const HOOKS: &str =
    r#"["prestart","createRuntime","createContainer","startContainer","poststart","poststop"]"#;
const ACTIONS: &str = "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG TRACE TRAP NOTIFY";
const OPERATORS: &str = "EQ GE GT LE LT MASKED_EQ NE";
const ARCHS: &str = "AARCH64 ARM X32 X86 X86_64";
const FLAGS: &str = "LOG SPEC_ALLOW TSYNC WAIT_KILLABLE_RECV";
const MODES: &str = "BIND DEFAULT INTERLEAVE LOCAL PREFERRED PREFERRED_MANY WEIGHTED_INTERLEAVE";
const MODE_FLAGS: &str = "NUMA_BALANCING RELATIVE_NODES STATIC_NODES";

/// Its flags: none.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "features",
    "Say what this runner knows of the OCI runtime specification, as JSON.",
    typed::NONE,
    &[],
    &["runner features"],
);

/// Print the document.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    if Typed::read(&TABLE, words)?.is_none() {
        return Ok(0);
    }
    let document = document();
    print::json(
        &serde_json::from_slice(document.as_bytes()).map_err(|e| Error::invalid(e.to_string()))?,
        true,
    );
    Ok(0)
}

/// features.md and features-linux.md of the specification. As text: building values takes far more code.
fn document() -> String {
    let supported: Vec<&str> = FLAGS.split(' ').filter(|flag| seccomp::is_flag_supported(flag)).collect();
    format!(
        r#"{{"ociVersionMin":"1.0.0","ociVersionMax":"{version}","hooks":{HOOKS},"mountOptions":{options},
        "annotations":{{"coracle.runner.version":"{own}"}},"potentiallyUnsafeConfigAnnotations":[],
        "linux":{{"namespaces":{namespaces},"capabilities":{capabilities},
        "cgroup":{{"v1":true,"v2":true,"systemd":true,"systemdUser":true,"rdma":true}},
        "seccomp":{{"enabled":true,"actions":{actions},"operators":{operators},"archs":{archs},
        "knownFlags":{known},"supportedFlags":{supported}}},
        "apparmor":{{"enabled":true}},"selinux":{{"enabled":{SELINUX}}},
        "intelRdt":{{"enabled":{INTEL_RDT},"schemata":{INTEL_RDT},"monitoring":{INTEL_RDT}}},
        "memoryPolicy":{{"modes":{modes},"flags":{mode_flags}}},
        "mountExtensions":{{"idmap":{{"enabled":true}}}},"netDevices":{{"enabled":true}}}}}}"#,
        version = spec::VERSION,
        options = list(&mounts::option_words().join(" "), ""),
        own = env!("CARGO_PKG_VERSION"),
        namespaces = list(&Kind::ALL.map(Kind::name).join(" "), ""),
        capabilities = list(&caps::NAMES.join(" "), ""),
        actions = list(ACTIONS, "SCMP_ACT_"),
        operators = list(OPERATORS, "SCMP_CMP_"),
        archs = list(&format!("{ARCHS} {}", seccomp::names::ELSEWHERE.join(" ")), "SCMP_ARCH_"),
        known = list(FLAGS, "SECCOMP_FILTER_FLAG_"),
        supported = list(&supported.join(" "), "SECCOMP_FILTER_FLAG_"),
        modes = list(MODES, "MPOL_"),
        mode_flags = list(MODE_FLAGS, "MPOL_F_"),
    )
}

/// A list of words with a prefix, each once.
fn list(words: &str, prefix: &str) -> String {
    let mut text = String::from("[");
    for word in words.split(' ').filter(|w| !w.is_empty()) {
        let quoted = format!("\"{prefix}{word}\"");
        if !text.contains(&quoted) {
            text.push_str(&quoted);
            text.push(',');
        }
    }
    text.pop();
    text + "]"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::{Capabilities, LinuxSeccomp};

    fn words(of: &Value) -> Vec<String> {
        of.as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_said_of_filters_is_what_they_are_made_with() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let told = &document["linux"]["seccomp"];
        let compile = |profile: Value| {
            let profile: LinuxSeccomp = coracle_sys::json::from_value(profile).unwrap();
            seccomp::compile(&profile)
        };
        for action in words(&told["actions"]).iter().filter(|a| *a != "SCMP_ACT_NOTIFY") {
            compile(json!({"defaultAction": action})).unwrap();
        }
        for arch in words(&told["archs"]) {
            compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]})).unwrap();
        }
        for flag in
            words(&told["knownFlags"]).iter().filter(|f| *f != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
        {
            compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]})).unwrap();
        }
        for op in words(&told["operators"]) {
            let args = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": op}]);
            let rule = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args});
            compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})).unwrap();
        }
    }

    #[test]
    fn every_capability_that_is_told_is_known_and_none_is_left_out() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let told = words(&document["linux"]["capabilities"]);
        let mut unknown = Vec::new();
        let sets = caps::plan(Some(&Capabilities { bounding: told, ..Default::default() }), &mut unknown);
        assert_eq!((sets.bounding.count_ones(), unknown.len()), (41, 0));
        assert_eq!(words(&document["hooks"]).len(), 6);
        assert!(words(&document["mountOptions"]).contains(&"rro".to_owned()));
    }
}
