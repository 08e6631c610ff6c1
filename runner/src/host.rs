//! What a start needs to know of the host: who we are and what we may. Two system calls; everything
//! that costs more is asked for by those who need it, when they need it.

use std::path::Path;

use coracle_sys::{Result, file, process as sys};
use nix::unistd::{getegid, geteuid};

/// Who runs this process.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Effective capabilities, as a mask.
    pub capabilities: u64,
}

impl Host {
    /// Ask the kernel.
    pub fn probe() -> Result<Self> {
        let (capabilities, _, _) = sys::capget()?;
        Ok(Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), capabilities })
    }

    /// Whether containers of images are made in a user namespace: who is root of the host needs none.
    pub fn needs_user_namespace(&self) -> bool {
        self.uid != 0 || !self.has(crate::caps::SYS_ADMIN)
    }

    /// The capabilities that a container can be given. In a user namespace of its own, all.
    pub fn grantable(&self) -> u64 {
        if self.needs_user_namespace() { u64::MAX } else { self.capabilities }
    }

    /// Whether all capabilities of `mask` are ours.
    pub fn has(&self, mask: u64) -> bool {
        self.capabilities & mask == mask
    }
}

/// One more than the highest number that a processor of this machine can have. Not how many this
/// process may use: a container sees them all.
pub fn processors() -> usize {
    let text = file::read(Path::new("/sys/devices/system/cpu/possible")).unwrap_or_default();
    let highest = highest(&String::from_utf8_lossy(&text));
    highest.map_or_else(usable_processors, |n| n + 1)
}

/// How many processors there are, whichever this process may use.
pub fn online_processors() -> usize {
    let text = file::read(Path::new("/sys/devices/system/cpu/online")).unwrap_or_default();
    count(&String::from_utf8_lossy(&text)).max(usable_processors())
}

/// How many processors this process may use.
pub fn usable_processors() -> usize {
    let ours = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    ours.map_or(1, |set| (0..nix::sched::CpuSet::count()).filter(|n| set.is_set(*n) == Ok(true)).count())
}

/// The kernel's security modules, separated by commas. Where securityfs is not mounted, as in most
/// containers, those that leave a trace elsewhere. SELinux is among them once it has a policy: without one it takes
/// any label and heeds none.
pub fn security_modules() -> String {
    let mut modules = modules_of_the_kernel();
    let own = || file::read(Path::new("/proc/self/attr/current")).unwrap_or_default();
    if modules.contains("selinux") && own().starts_with(b"kernel") {
        modules = modules.replace("selinux", "");
    }
    modules
}

fn modules_of_the_kernel() -> String {
    let list = file::read(Path::new("/sys/kernel/security/lsm")).unwrap_or_default();
    if !list.is_empty() {
        return String::from_utf8_lossy(&list).into_owned();
    }
    let traces = [("selinux", "/sys/fs/selinux/enforce"), ("apparmor", "/sys/module/apparmor")];
    let found: Vec<&str> =
        traces.iter().filter(|(_, at)| Path::new(at).exists()).map(|(name, _)| *name).collect();
    found.join(",")
}

/// How many a list such as `0-3,8` has.
fn count(list: &str) -> usize {
    let mut all = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            all += last.saturating_add(1).saturating_sub(first);
        }
    }
    all
}

/// Of a list such as `0-3,8`, which the kernel keeps sorted. What is beyond every machine is none.
fn highest(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok().filter(|n| *n < 1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_the_highest_of_them() {
        for (list, last, all) in [
            ("0\n", Some(0), 1),
            ("0-3\n", Some(3), 4),
            ("0-3,8", Some(8), 5),
            ("0,2-255", Some(255), 255),
            ("", None, 0),
            ("x", None, 0),
        ] {
            assert_eq!((highest(list), count(list)), (last, all), "{list:?}");
        }
    }

    #[test]
    fn a_process_that_may_use_one_processor_still_counts_them_all() {
        let before = processors();
        let one = std::thread::spawn(|| {
            let mut set = nix::sched::CpuSet::new();
            set.set(0).unwrap();
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
            processors()
        });
        assert_eq!(one.join().unwrap(), before);
    }
}
