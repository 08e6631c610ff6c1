//! What a security module confines the process to: AppArmor's profile. What the kernel does not have is
//! refused by name, so that nobody believes in it.

use std::os::fd::OwnedFd;

use coracle_sys::{Context, Error, Kind, Result};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// The profile to take, of those that this kernel has modules for. `modules` are asked for only then.
pub(crate) fn plan(
    profile: Option<&str>,
    label: Option<&str>,
    modules: impl FnOnce() -> String,
) -> Result<Option<String>> {
    let set = |word: Option<&str>| word.filter(|w| !w.is_empty()).map(str::to_owned);
    let (profile, label) = (set(profile), set(label));
    if profile.is_none() && label.is_none() {
        return Ok(None);
    }
    let modules = modules();
    let has = |name: &str| modules.trim().split(',').any(|m| m == name);
    if label.is_some() {
        return Err(Error::unsupported(match has("selinux") {
            true => "process.selinuxLabel is not supported yet",
            false => "process.selinuxLabel: SELinux is disabled, or this kernel has none",
        }));
    }
    match profile {
        // Where there is no AppArmor nothing is confined by it.
        Some(profile) if profile == "unconfined" && !has("apparmor") => Ok(None),
        Some(profile) if !has("apparmor") => Err(Error::unsupported(format!(
            "process.apparmorProfile {profile:?}: AppArmor is disabled, or this kernel has none"
        ))),
        profile => Ok(profile),
    }
}

/// Have the next exec take the profile. The container's own /proc is looked at before it is written to:
/// what is mounted over parts of it is not followed.
pub(crate) fn confine(profile: &str) -> Result<()> {
    let confine = || -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).context(|| "open(\"/proc\", O_PATH)")?;
        if fstatfs(&proc).context(|| "fstatfs(\"/proc\")")?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Error::invalid("/proc of the container is no proc file system"));
        }
        // Linux before 5.8 has one place for all modules.
        let file = match attribute(&proc, "thread-self/attr/apparmor/exec") {
            Err(e) if e.kind() == Kind::NotFound => attribute(&proc, "thread-self/attr/exec")?,
            other => other?,
        };
        nix::unistd::write(&file, ["exec ", profile].concat().as_bytes())
            .context(|| format!("write(\"/proc/thread-self/attr/apparmor/exec\", \"exec {profile}\")"))?;
        Ok(())
    };
    confine().map_err(|e| match e.kind() {
        Kind::NotFound => e.wrap(format!("apply the AppArmor profile {profile:?}, which is not loaded")),
        _ => e.wrap(format!("apply the AppArmor profile {profile:?}")),
    })
}

fn attribute(proc: &OwnedFd, path: &str) -> Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(proc, path, how).context(|| format!("openat2(\"/proc/{path}\", O_WRONLY)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_have_is_refused_by_name() {
        let ask = |profile, label, modules: &str| plan(profile, label, || modules.to_owned());
        assert_eq!(ask(Some("p"), None, "lockdown,apparmor\n").unwrap().as_deref(), Some("p"));
        assert_eq!(ask(Some("unconfined"), None, "").unwrap(), None);
        assert_eq!(ask(Some("unconfined"), None, "apparmor").unwrap().as_deref(), Some("unconfined"));
        assert_eq!(plan(Some(""), None, || unreachable!()).unwrap(), None);
        for (profile, label, modules, says) in [
            (Some("p"), None, "selinux", "process.apparmorProfile \"p\""),
            (None, Some("l"), "apparmor", "SELinux is disabled"),
            (None, Some("l"), "selinux", "process.selinuxLabel"),
        ] {
            let e = ask(profile, label, modules).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
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
