//! Resource limits of the process.

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use serde::Serialize;

use crate::spec;

/// One setrlimit(2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// RLIMIT_NAME.
    pub name: String,
    #[serde(skip)]
    resource: Resource,
    /// What counts.
    pub soft: u64,
    /// What the soft one may be raised to.
    pub hard: u64,
}

/// Decide them.
pub(super) fn plan(list: &[spec::Rlimit]) -> Result<Vec<Limit>> {
    if let Some(twice) = list.iter().enumerate().find(|(n, l)| list[..*n].iter().any(|m| m.kind == l.kind)) {
        return Err(Error::invalid(format!("process.rlimits: {:?} is there twice", twice.1.kind)));
    }
    list.iter().map(limit).collect()
}

fn limit(rlimit: &spec::Rlimit) -> Result<Limit> {
    let resource = match rlimit.kind.as_str() {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => Resource::RLIMIT_NICE,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_RSS" => Resource::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        other => return Err(Error::invalid(format!("process.rlimits: {other:?} is unknown"))),
    };
    if rlimit.soft > rlimit.hard {
        return Err(Error::invalid(format!(
            "process.rlimits: the soft {} {} is above the hard one {}",
            rlimit.kind, rlimit.soft, rlimit.hard
        )));
    }
    Ok(Limit { name: rlimit.kind.clone(), resource, soft: rlimit.soft, hard: rlimit.hard })
}

/// Set them.
pub(super) fn set(list: &[Limit]) -> Result<()> {
    for l in list {
        setrlimit(l.resource, l.soft, l.hard)
            .context(|| format!("setrlimit({}, {}, {})", l.name, l.soft, l.hard))
            .map_err(|e| match e.errno() {
                Some(Errno::EPERM) => e.wrap(format!(
                    "set the limit {}: its hard value is above the runner's own, and raising it needs CAP_SYS_RESOURCE",
                    l.name
                )),
                _ => e.wrap(format!("set the limit {}", l.name)),
            })?;
    }
    Ok(())
}
