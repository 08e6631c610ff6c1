//! Profiles as docker writes them: rules that count or not by capability, architecture and kernel.
//! A profile in the runtime specification's own form is read as well.

use coracle_sys::read_json;
use coracle_sys::{Error, Result, json};

use super::own_machine;
use crate::spec::{LinuxSeccomp, LinuxSyscall};

#[derive(Default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    arch_map: Option<Vec<ArchMap>>,
    syscalls: Option<Vec<Conditional>>,
}

read_json!(Profile {
    default_action: must "defaultAction",
    default_errno_ret: may "defaultErrnoRet",
    default_errno: may "defaultErrno",
    architectures: may "architectures",
    flags: may "flags",
    listener_path: may "listenerPath",
    listener_metadata: may "listenerMetadata",
    arch_map: may "archMap",
    syscalls: may "syscalls",
});

#[derive(Default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

read_json!(ArchMap {
    architecture: must "architecture",
    sub_architectures: may "subArchitectures",
});

#[derive(Default)]
struct Conditional {
    /// The older form: one name.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    /// Podman's way to say the same by name, always beside the number.
    errno: Option<String>,
    args: Option<Vec<crate::spec::LinuxSeccompArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

read_json!(Conditional {
    name: may "name",
    names: may "names",
    action: must "action",
    errno_ret: may "errnoRet",
    errno: may "errno",
    args: may "args",
    includes: may "includes",
    excludes: may "excludes",
});

#[derive(Default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

read_json!(Filter {
    caps: may "caps",
    arches: may "arches",
    min_kernel: may "minKernel",
});

/// Read a profile, for a container with these capabilities on this kernel (`6.1.0-13`).
pub fn load(text: &str, capabilities: &[String], kernel: &str) -> Result<LinuxSeccomp> {
    let profile: Profile = json::from_slice(text.as_bytes())?;
    number_beside(profile.default_errno.as_deref(), profile.default_errno_ret)?;
    let mut plain = LinuxSeccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures: profile.architectures.unwrap_or_default(),
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls: Vec::new(),
    };
    let own = own_machine()?;
    let arch = match own {
        super::Machine::X86_64 => "amd64",
        super::Machine::I386 => "x86",
        super::Machine::Aarch64 => "arm64",
        super::Machine::Arm => "arm",
    };
    for map in profile.arch_map.into_iter().flatten() {
        if super::Machine::parse(&map.architecture) == Some(own) {
            plain.architectures.push(map.architecture);
            plain.architectures.extend(map.sub_architectures.into_iter().flatten());
        }
    }
    for rule in profile.syscalls.into_iter().flatten() {
        let names = match (rule.name, rule.names) {
            (Some(_), Some(names)) if !names.is_empty() => {
                return Err(Error::invalid("a rule has both name and names"));
            }
            (Some(name), _) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
        number_beside(rule.errno.as_deref(), rule.errno_ret)?;
        let has = |list: &Option<Vec<String>>| -> Vec<bool> {
            list.iter().flatten().map(|c| capabilities.contains(c)).collect()
        };
        let includes = rule.includes.unwrap_or_default();
        let excludes = rule.excludes.unwrap_or_default();
        let here = |list: &Option<Vec<String>>| list.iter().flatten().any(|a| a == arch);
        let counts = has(&includes.caps).into_iter().all(|h| h)
            && (includes.arches.as_ref().is_none_or(Vec::is_empty) || here(&includes.arches))
            && !has(&excludes.caps).into_iter().any(|h| h)
            && !here(&excludes.arches)
            && newer(kernel, includes.min_kernel.as_deref())?
            && !(excludes.min_kernel.is_some() && newer(kernel, excludes.min_kernel.as_deref())?);
        if counts {
            let args = rule.args.unwrap_or_default();
            plain.syscalls.push(LinuxSyscall { names, action: rule.action, errno_ret: rule.errno_ret, args });
        }
    }
    Ok(plain)
}

/// An errno that is only named would not be the one that is told.
fn number_beside(name: Option<&str>, number: Option<u32>) -> Result<()> {
    match name.filter(|name| !name.is_empty() && number.is_none()) {
        Some(name) => Err(Error::unsupported(format!("errno {name:?} without errnoRet is not supported"))),
        None => Ok(()),
    }
}

/// Whether the kernel is at least of this version.
fn newer(kernel: &str, least: Option<&str>) -> Result<bool> {
    let read = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let Some(least) = least.filter(|l| !l.is_empty()) else { return Ok(true) };
    let wanted = read(least).ok_or_else(|| Error::invalid(format!("minKernel {least:?} is no version")))?;
    Ok(read(kernel).is_none_or(|k| k >= wanted))
}
