//! Control groups: the container's limits, what it used, and a handle on all its processes. [`plan`]
//! decides everything from the resources and the host's [`Layout`]; a [`Plan`] creates its groups and
//! is a [`Cgroup`] from then on. Groups that others made are never changed, except that a v2 group is
//! told to hand controllers down to ours.

mod aside;
mod below;
mod delegate;
mod enter;
mod group;
mod kill;
mod layout;
mod limit;
mod metrics;
mod oom;
mod place;
mod plan;
mod stats;
mod sweep;
mod sys;
mod systemd;
mod update;
mod v1;
mod v2;
mod weight;

use coracle_sys::{Error, Result};

use crate::mounts::Hierarchy;
use crate::spec::Spec;

pub use aside::Aside;
pub use group::Cgroup;
pub use layout::{Layout, Node, V1, V2};
pub(crate) use layout::{is_unified, unescape};
pub use oom::Oom;
pub use plan::{Group, Lifetime, Plan, Request, Write, plan};
pub use stats::Stats;
pub use sweep::sweep;
pub use systemd::Unit;
pub use update::merge;

/// What the names of our groups begin with; the container's id follows.
const PREFIX: &str = "coracle-";

/// Everything about the groups of a container that is known before it starts.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The groups to make.
    pub plan: Plan,
    /// What a mount of type `cgroup` shows; `None` where the host has cgroup v2 alone.
    pub mounted: Option<Vec<Hierarchy>>,
    /// Where its monitor is to be.
    pub aside: Aside,
}

impl Prepared {
    fn of(plan: Plan, spec: &Spec, layout: &Layout) -> Self {
        let mounted = (layout.version() != "2").then(|| plan.hierarchies());
        let owner = delegate::owner(spec).filter(|uid| layout.privileged && *uid != 0);
        Self { plan: Plan { owner, ..plan }, mounted, aside: Aside::default() }
    }
}

/// Who makes groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// We do, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, by its bus.
    Systemd,
    /// Nobody: the container stays in the runner's.
    Disabled,
}

impl Manager {
    /// As crun calls them.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            "disabled" => Ok(Self::Disabled),
            _ => Err(Error::usage(format!("--cgroup-manager {word:?}: it is cgroupfs, systemd or disabled"))),
        }
    }
}

/// The name of the group of a container of an image: a sweep knows it by that.
pub fn own_name(id: &str) -> String {
    [PREFIX, id].concat()
}

/// The plan of a spec's groups. The host is asked only as far as it matters for this container. `name`: of a group that the
/// spec names not.
pub fn prepare(
    spec: &Spec,
    id: &str,
    name: &str,
    manager: Manager,
    lifetime: Lifetime,
    best_effort: bool,
) -> Result<Prepared> {
    let linux = spec.linux.as_ref();
    let request = Request {
        name,
        path: linux.and_then(|l| l.cgroups_path.as_deref()).filter(|p| !p.is_empty()),
        resources: linux.and_then(|l| l.resources.as_ref()),
        lifetime,
        best_effort,
        device_rules: nix::unistd::geteuid().is_root(),
    };
    if manager == Manager::Systemd {
        let mut layout = Layout::probe()?;
        let aside = layout.clone().leave_unit();
        let (unit, below) = systemd::prepare(spec, id, &mut layout)?;
        let request = Request { path: below.to_str(), ..request };
        let plan = Plan { unit: Some(unit), ..plan(&request, &layout)? };
        return Ok(Prepared { aside, ..Prepared::of(plan, spec, &layout) });
    }
    if manager == Manager::Disabled {
        let none = Request { lifetime: Lifetime::ForegroundRun, path: None, ..request };
        if !none.is_about_devices_alone() {
            return Err(Error::unsupported("--cgroup-manager disabled: there are no limits without groups"));
        }
    } else if request.needs_groups() {
        let mut layout = Layout::probe_for(|c| c == "devices" || !request.is_about_devices_alone())?;
        let aside = match lifetime {
            Lifetime::Detached if request.path.is_none() => layout.leave_unit(),
            _ => Aside::default(),
        };
        return Ok(Prepared { aside, ..Prepared::of(plan(&request, &layout)?, spec, &layout) });
    }
    let mounts = spec.mounts.iter().any(|m| m.kind.as_deref().is_some_and(|k| k.starts_with("cgroup")));
    let separate = mounts && !is_unified();
    Ok(Prepared { mounted: separate.then(Vec::new), ..Prepared::default() })
}

/// Where a process is to be that outlives its caller and has no groups of its own to make.
pub fn aside() -> Aside {
    Layout::probe().map(|mut layout| layout.leave_unit()).unwrap_or_default()
}

/// Whether swap is counted, so that it can be limited.
pub fn counts_swap() -> bool {
    match is_unified() {
        true => std::path::Path::new("/proc/swaps").exists(),
        false => std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
    }
}
