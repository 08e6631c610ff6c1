//! What security modules confine the process to: AppArmor's profile, SELinux' label, and the label of the mounts. What
//! the kernel does not have is refused by name, so that nobody believes in it.

use std::os::fd::OwnedFd;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use serde::Serialize;

/// What the command is confined to, of modules that this kernel has.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// AppArmor's profile.
    pub(crate) profile: Option<String>,
    /// SELinux' label.
    pub(crate) label: Option<String>,
}

/// Decide both. `modules` are asked for only where there is something to decide.
pub(crate) fn plan(profile: Option<&str>, label: Option<&str>, modules: fn() -> String) -> Result<Plan> {
    let profile = match profile.filter(|p| !p.is_empty()) {
        Some(profile) if !has(modules, "apparmor") => match profile {
            // Where there is no AppArmor nothing is confined by it.
            "unconfined" => None,
            _ => return Err(lacking(&format!("process.apparmorProfile {profile:?}: AppArmor"), "")),
        },
        profile => profile,
    };
    let label = labels("process.selinuxLabel", label, modules)?;
    Ok(Plan { profile: profile.map(str::to_owned), label })
}

/// The label of the mounts.
pub(crate) fn plan_mounts(label: Option<&str>, modules: fn() -> String) -> Result<Option<String>> {
    labels("linux.mountLabel", label, modules)
}

fn labels(field: &str, label: Option<&str>, modules: fn() -> String) -> Result<Option<String>> {
    match label.filter(|l| !l.is_empty()) {
        Some(_) if !has(modules, "selinux") => {
            Err(lacking(&format!("{field}: SELinux"), ", or it has no policy"))
        }
        label => Ok(label.map(str::to_owned)),
    }
}

fn has(modules: fn() -> String, name: &str) -> bool {
    modules().trim().split(',').any(|module| module == name)
}

fn lacking(what: &str, or: &str) -> Error {
    Error::unsupported(format!("{what} is disabled, or this kernel has none{or}"))
}

impl Plan {
    /// Have the next exec take them.
    pub(crate) fn confine(&self) -> Result<()> {
        if let Some(profile) = &self.profile {
            // Linux before 5.8 has one place for all modules.
            let places = ["apparmor/exec", "exec"];
            write(&places, &["exec ", profile].concat()).map_err(|e| {
                let unloaded = if e.kind() == Kind::NotFound { ", which is not loaded" } else { "" };
                e.wrap(format!("apply the AppArmor profile {profile:?}{unloaded}"))
            })?;
        }
        let Some(label) = &self.label else { return Ok(()) };
        write(&["exec"], label).map_err(|e| e.wrap(format!("apply the SELinux label {label:?}")))
    }

    /// Have the keys that this process makes labelled as the command is, until its exec.
    pub(crate) fn label_keys(&self) -> Result<()> {
        let Some(label) = &self.label else { return Ok(()) };
        write(&["keycreate"], label).map_err(|e| e.wrap(format!("label the keyring {label:?}")))
    }
}

/// Write to the first of the attributes that the kernel has. The container's own /proc is looked at before it is written
/// to: what is mounted over parts of it is not followed.
fn write(places: &[&str], text: &str) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty()).context(|| "open(\"/proc\", O_PATH)")?;
    refuse_others(&proc)?;
    let mut tried = Err(Error::invalid("there is no attribute"));
    for place in places {
        let path = format!("thread-self/attr/{place}");
        tried = attribute(&proc, &path);
        if !matches!(&tried, Err(e) if e.kind() == Kind::NotFound) {
            break;
        }
    }
    nix::unistd::write(&tried?, text.as_bytes()).map(drop).context(|| format!("write(attr, {text:?})"))
}

fn attribute(proc: &OwnedFd, path: &str) -> Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
    match openat2(proc, path, how) {
        Err(Errno::ENOSYS) => {
            let file = openat(proc, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .context(|| format!("openat(\"/proc/{path}\", O_WRONLY)"))?;
            refuse_others(&file).map(|()| file)
        }
        other => other.context(|| format!("openat2(\"/proc/{path}\", O_WRONLY)")),
    }
}

/// Something else may be mounted where proc is to be, or over its file.
fn refuse_others(file: &OwnedFd) -> Result<()> {
    match fstatfs(file).context(|| "fstatfs(\"/proc\")")?.filesystem_type() {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(Error::invalid("/proc of the container is no proc file system")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_have_is_refused_by_name() {
        let apparmor = || "lockdown,apparmor\n".to_owned();
        let (selinux, none) = (|| "capability,selinux".to_owned(), String::new);
        let profile = |name: &str, modules| plan(Some(name), None, modules).unwrap().profile;
        assert_eq!(profile("p", apparmor).as_deref(), Some("p"));
        assert_eq!(profile("unconfined", none), None);
        assert_eq!(profile("unconfined", apparmor).as_deref(), Some("unconfined"));
        assert_eq!(plan(None, Some("l"), selinux).unwrap().label.as_deref(), Some("l"));
        assert_eq!(plan_mounts(Some("l"), selinux).unwrap().as_deref(), Some("l"));
        assert_eq!(plan(Some(""), Some(""), || unreachable!()).unwrap(), Plan::default());
        assert_eq!(plan_mounts(Some(""), || unreachable!()).unwrap(), None);
        for (e, says) in [
            (
                plan(Some("p"), None, selinux).unwrap_err(),
                "process.apparmorProfile \"p\": AppArmor is disabled",
            ),
            (plan(None, Some("l"), apparmor).unwrap_err(), "process.selinuxLabel: SELinux is disabled"),
            (plan(Some("unconfined"), Some("l"), none).unwrap_err(), "process.selinuxLabel"),
            (plan_mounts(Some("l"), apparmor).unwrap_err(), "linux.mountLabel: SELinux is disabled"),
        ] {
            assert!(e.to_string().contains(says) && e.kind() == Kind::Unsupported, "{e}");
        }
    }

    #[test]
    fn an_attribute_is_reached_through_the_real_proc_alone() {
        let proc = open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        assert!(attribute(&proc, "thread-self/root/etc/passwd").is_err());
        let e = attribute(&proc, "thread-self/attr/no-such").unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
    }
}
