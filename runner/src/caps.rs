//! Capabilities: names become five bit masks, the masks become the process's own. Names that nobody
//! knows are handed back to be warned of; they grant nothing.

use coracle_sys::{Context, Result, process as sys};
use serde::Serialize;

use crate::spec;

/// The five sets as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sets {
    /// What execve can ever grant.
    pub bounding: u64,
    /// What counts.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What passes execve by file bits.
    pub inheritable: u64,
    /// What an ordinary user keeps through execve.
    pub ambient: u64,
}

/// CAP_SETGID as a mask.
pub const SETGID: u64 = 1 << 6;
/// CAP_SETUID as a mask.
pub const SETUID: u64 = 1 << 7;
/// CAP_SYS_PTRACE as a mask.
pub const SYS_PTRACE: u64 = 1 << 19;
/// CAP_NET_ADMIN as a mask.
pub const NET_ADMIN: u64 = 1 << 12;
/// CAP_SYS_ADMIN as a mask.
pub const SYS_ADMIN: u64 = 1 << 21;
/// CAP_SYS_RESOURCE as a mask.
pub const SYS_RESOURCE: u64 = 1 << 24;
/// All that Linux has, by number.
pub(crate) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Names to masks; unknown names go to `unknown`. Absent sets are empty, as the specification has it.
pub fn plan(capabilities: Option<&spec::Capabilities>, unknown: &mut Vec<String>) -> Sets {
    let Some(c) = capabilities else { return Sets::default() };
    let mut mask = |names: &[String]| {
        let number = |name: &String| NAMES.iter().position(|n| n == name);
        names.iter().fold(0, |mask, name| match number(name) {
            Some(cap) => mask | 1 << cap,
            None => {
                // Who lists more than these reads of no more.
                if unknown.len() < 64 && !unknown.contains(name) {
                    unknown.push(name.clone());
                }
                mask
            }
        })
    };
    let (permitted, inheritable) = (mask(&c.permitted), mask(&c.inheritable));
    Sets {
        bounding: mask(&c.bounding),
        effective: mask(&c.effective),
        permitted,
        inheritable,
        // The kernel raises only what is permitted and inheritable. Other runtimes let the rest be,
        // and their configurations count on it.
        ambient: mask(&c.ambient) & permitted & inheritable,
    }
}

impl Sets {
    /// Drop everything else from the bounding set. Needs CAP_SETPCAP, so it comes first.
    pub fn limit_bounding(&self) -> Result<()> {
        // Past the known ones up to the first that the kernel does not know either: a newer kernel's
        // capabilities are dropped as well.
        for cap in 0..64u8 {
            if self.bounding & 1 << cap == 0 && !sys::drop_bounding(cap)? && usize::from(cap) >= NAMES.len() {
                break;
            }
        }
        Ok(())
    }

    /// One that is to be effective and is not permitted, which the kernel refuses.
    pub fn beyond_permitted(&self) -> Option<&'static str> {
        let beyond = self.effective & !self.permitted;
        NAMES.iter().enumerate().find(|(n, _)| beyond & 1 << n != 0).map(|(_, name)| *name)
    }

    /// The sets without what this process does not have itself, and the names of that.
    pub fn held(&self) -> Result<(Self, Vec<String>)> {
        let (_, held, _) = sys::capget()?;
        Ok(self.within(held))
    }

    fn within(&self, held: u64) -> (Self, Vec<String>) {
        let beyond = (self.effective | self.permitted | self.inheritable) & !held;
        let named = NAMES.iter().enumerate().filter(|(n, _)| beyond & 1 << n != 0);
        let names = named.map(|(_, name)| (*name).to_owned());
        let only = |set: u64| set & held;
        let sets = Self {
            bounding: self.bounding,
            effective: only(self.effective),
            permitted: only(self.permitted),
            inheritable: only(self.inheritable),
            ambient: only(self.ambient),
        };
        (sets, names.collect())
    }

    /// Become what was planned, but keep `also` until [`Sets::finish`].
    pub fn keep_also(&self, also: u64) -> Result<()> {
        let (_, held, _) = sys::capget()?;
        let also = also & held;
        sys::capset(self.effective | also, self.permitted | also, self.inheritable)
            .context(|| "take the container's capabilities")
    }

    /// Become what was planned, ambient set and all.
    pub fn finish(&self) -> Result<()> {
        sys::capset(self.effective, self.permitted, self.inheritable)
            .context(|| "take the container's capabilities")?;
        sys::clear_ambient()?;
        for cap in (0..64).filter(|cap| self.ambient & 1 << cap != 0) {
            sys::raise_ambient(cap).context(|| "raise the ambient capabilities")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_lacks_is_left_out_and_named() {
        let all = 1 | SETUID | SYS_ADMIN;
        let sets =
            Sets { bounding: all, effective: 1 | SYS_ADMIN, permitted: all, inheritable: 0, ambient: 0 };
        let (left, names) = sets.within(1 | SETUID);
        assert_eq!((left.bounding, left.effective, left.permitted), (all, 1, 1 | SETUID));
        assert_eq!(names, ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn capabilities_become_masks_and_unknown_names_are_handed_back() {
        let c = spec::Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()],
            effective: vec!["CAP_CHOWN".into(), "CAP_FUTURE".into()],
            permitted: vec!["CAP_FUTURE".into()],
            ..Default::default()
        };
        let mut unknown = Vec::new();
        let sets = plan(Some(&c), &mut unknown);
        assert_eq!((sets.bounding, sets.effective), (1 | SYS_ADMIN, 1));
        assert_eq!((sets.permitted, sets.inheritable, sets.ambient), (0, 0, 0));
        assert_eq!(unknown, ["CAP_FUTURE"]);
        assert_eq!(plan(None, &mut unknown), Sets::default());
        let named = |set| NAMES.iter().position(|n| n.strip_prefix("CAP_") == Some(set)).map(|n| 1u64 << n);
        for (name, mask) in [("SETUID", SETUID), ("SYS_PTRACE", SYS_PTRACE), ("SYS_RESOURCE", SYS_RESOURCE)] {
            assert_eq!(named(name), Some(mask));
        }
        assert_eq!(NAMES.iter().position(|n| *n == "CAP_CHECKPOINT_RESTORE"), Some(40));
    }
}
