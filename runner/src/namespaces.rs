//! Namespaces: which are made, which are joined, and which kernel parameters belong to them.
//! The call that makes them is the clone in [`crate::launch`]; this file opens and enters.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, json, order};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use serde::Serialize;

use crate::spec;

/// A kind of namespace. The order is the order of entering: user first, for the rights it gives;
/// mount last, because paths change with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ids and capabilities.
    #[default]
    User,
    /// Process ids.
    Pid,
    /// Network.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
    /// Clocks since the start of the machine.
    Time,
    /// Mounts.
    Mount,
}

impl json::Read for Kind {
    fn read(&mut self, value: json::Value) -> std::result::Result<(), json::Wrong> {
        *self = Self::parse(&json::text(value)?).map_err(|e| json::Wrong::new(e.to_string()))?;
        Ok(())
    }
}

impl Kind {
    /// All of them, in the order of entering.
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time, Kind::Mount];

    /// Its clone flag.
    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // nix does not know it.
            Kind::Time => CloneFlags::from_bits_retain(0x80),
            Kind::Mount => CloneFlags::CLONE_NEWNS,
        }
    }

    /// Its name in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Mount => "mnt",
            other => other.name(),
        }
    }

    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
            Kind::Mount => "mount",
        }
    }

    pub(crate) fn parse(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|k| k.name() == word);
        found.ok_or_else(|| Error::invalid(format!("linux.namespaces: type {word:?} is unknown")))
    }
}

/// The namespaces of a container. What is in neither list is shared with the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Made for it.
    pub new: Vec<Kind>,
    /// Entered, by path, in this order.
    pub join: Vec<(Kind, PathBuf)>,
}

/// Decide which namespaces are made and which joined.
pub fn plan(list: &[spec::Namespace]) -> Result<Plan> {
    let mut plan = Plan::default();
    for entry in list {
        let kind = Kind::parse(&entry.kind)?;
        if plan.is_own(kind) {
            return Err(Error::invalid(format!("linux.namespaces: {:?} is there twice", entry.kind)));
        }
        match &entry.path {
            Some(path) if path.is_absolute() => plan.join.push((kind, path.clone())),
            Some(path) if !path.as_os_str().is_empty() => {
                return Err(Error::invalid(format!("linux.namespaces: the path {path:?} is not absolute")));
            }
            _ => plan.new.push(kind),
        }
    }
    if !plan.new.contains(&Kind::Mount) {
        return Err(Error::unsupported(
            "linux.namespaces: a container needs a new mount namespace of its own",
        ));
    }
    order::sort(&mut plan.new);
    order::sort(&mut plan.join);
    Ok(plan)
}

impl Plan {
    /// Whether it is made.
    pub fn makes(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    /// Whether it is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.joined(kind).is_some()
    }

    /// The path of the one that is joined.
    pub fn joined(&self, kind: Kind) -> Option<&Path> {
        self.join.iter().find(|(k, _)| *k == kind).map(|(_, path)| path.as_path())
    }

    /// Whether the container is, in this respect, not in the runner's own namespace.
    pub fn is_own(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// Flags for the clone, which cannot make a time namespace with clocks of its own.
    pub fn flags(&self) -> CloneFlags {
        self.new.iter().filter(|k| **k != Kind::Time).map(|k| k.flag()).collect()
    }
}

/// An opened namespace, ready to be entered from anywhere.
pub struct Entrance {
    kind: Kind,
    path: PathBuf,
    fd: OwnedFd,
}

/// Open the namespaces to join while the host's paths still mean what they say, and look at what they are:
/// nothing is made for one that is not what it is said to be.
pub fn open_all(plan: &Plan) -> Result<Vec<Entrance>> {
    plan.join
        .iter()
        .map(|(kind, path)| {
            let fd = open_one(*kind, path).context(|| format!("join the {} namespace", kind.name()))?;
            Ok(Entrance { kind: *kind, path: path.clone(), fd })
        })
        .collect()
}

fn open_one(kind: Kind, path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = open(path, flags, Mode::empty()).context(|| format!("open({path:?}, O_RDONLY)"))?;
    let found = coracle_sys::namespace::kind(fd.as_fd()).context(|| format!("{path:?} is no namespace"))?;
    if found != kind.flag().bits() {
        let is = Kind::ALL.into_iter().find(|k| k.flag().bits() == found).map_or("unknown", Kind::name);
        return Err(Error::invalid(format!("{path:?} is a namespace of the type {is}")));
    }
    Ok(fd)
}

impl Entrance {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Enter. The kernel checks that the file is a namespace of this kind.
    pub fn enter(&self) -> Result<()> {
        setns(&self.fd, self.kind.flag())
            .context(|| format!("setns({:?}, {:?})", self.path, self.kind.flag()))
            .context(|| format!("join the {} namespace", self.kind.name()))
    }
}

/// Kernel parameters: the file below /proc/sys, and the value.
pub type Sysctl = (PathBuf, String);

/// Allow only parameters that belong to a namespace of the container's own.
pub fn plan_sysctl(wanted: &BTreeMap<String, String>, namespaces: &Plan) -> Result<Vec<Sysctl>> {
    wanted
        .iter()
        .map(|(name, value)| {
            let path = sysctl_path(name)
                .ok_or_else(|| Error::invalid(format!("linux.sysctl: {name:?} is not a name")))?;
            if path == Path::new("kernel/hostname") {
                return Err(Error::invalid(format!(
                    "linux.sysctl: {name} is not allowed as it conflicts with the field hostname"
                )));
            }
            match sysctl_namespace(&path) {
                Some(kind) if namespaces.is_own(kind) => Ok((path, value.clone())),
                Some(kind) => Err(Error::new(
                    coracle_sys::Kind::Denied,
                    format!(
                        "linux.sysctl: {name} would change the host: the container has no {} namespace of its own",
                        kind.name()
                    ),
                )),
                None => Err(Error::new(
                    coracle_sys::Kind::Denied,
                    format!("linux.sysctl: {name} is not namespaced: it would change the host"),
                )),
            }
        })
        .collect()
}

/// sysctl(8)'s rule: the first of `.` and `/` in the name is the separator.
fn sysctl_path(name: &str) -> Option<PathBuf> {
    let dotted = name.find(['.', '/']).is_some_and(|i| name.as_bytes()[i] == b'.');
    let path: String = name
        .chars()
        .map(|c| match (dotted, c) {
            (true, '.') => '/',
            (true, '/') => '.',
            _ => c,
        })
        .collect();
    let sound = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (sound && !path.contains('\0')).then(|| PathBuf::from(path))
}

/// The namespace that a kernel parameter belongs to.
fn sysctl_namespace(path: &Path) -> Option<Kind> {
    const IPC: [&str; 9] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/msg_next_id",
    ];
    if path.starts_with("net") {
        Some(Kind::Network)
    } else if path.starts_with("fs/mqueue") || IPC.iter().any(|p| path == Path::new(p)) {
        Some(Kind::Ipc)
    } else if path == Path::new("kernel/domainname") || path == Path::new("kernel/hostname") {
        Some(Kind::Uts)
    } else if path.starts_with("user") {
        Some(Kind::User)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(list: &[(&str, Option<&str>)]) -> Result<Plan> {
        let list: Vec<_> = list
            .iter()
            .map(|(kind, path)| spec::Namespace { kind: kind.to_string(), path: path.map(Into::into) })
            .collect();
        plan(&list)
    }

    #[test]
    fn namespaces_are_made_in_one_call_and_joined_user_first() {
        let p = namespaces(&[
            ("network", Some("/proc/9/ns/net")),
            ("mount", None),
            ("pid", None),
            ("user", Some("/proc/9/ns/user")),
        ]);
        let p = p.unwrap();
        assert_eq!(p.flags(), CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID);
        assert_eq!(p.join.iter().map(|j| j.0).collect::<Vec<_>>(), [Kind::User, Kind::Network]);
    }

    #[test]
    fn a_namespace_list_that_makes_no_sense_is_refused() {
        for list in [
            &[("mount", None), ("mount", None)][..],
            &[("pid", None)],
            &[("mount", None), ("nonsense", None)],
            &[("mount", Some("/proc/1/ns/mnt"))],
        ] {
            assert!(namespaces(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn a_sysctl_that_is_not_the_containers_own_is_refused() {
        let own = namespaces(&[("mount", None), ("network", None), ("ipc", None)]).unwrap();
        let ask = |name: &str| plan_sysctl(&[(name.into(), "1".into())].into(), &own);
        assert_eq!(ask("net.ipv4.ip_forward").unwrap()[0].0, Path::new("net/ipv4/ip_forward"));
        assert_eq!(
            ask("net/ipv4/conf/eth0.1/forwarding").unwrap()[0].0,
            Path::new("net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.hostname",
            "net.../../kernel/core_pattern",
            "net/../kernel/core_pattern",
            "",
            "kernel.msgmax\0",
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
