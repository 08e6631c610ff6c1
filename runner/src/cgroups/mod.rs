//! Control groups: the container's limits, what it used, and a handle on all its processes. [`plan`]
//! decides everything from the resources and the host's [`Layout`]; a [`Plan`] creates its groups and
//! is a [`Cgroup`] from then on. Groups that others made are never changed, except that a v2 group is
//! told to hand controllers down to ours.

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
mod update;
mod v1;
mod v2;
mod weight;

use coracle_sys::Result;

use crate::mounts::Hierarchy;
use crate::spec::Spec;

pub use group::Cgroup;
pub(crate) use layout::is_unified;
pub use layout::{Layout, Node, V1, V2};
pub use oom::Oom;
pub use plan::{Group, Lifetime, Plan, Request, Write, plan};
pub use stats::Stats;
pub use sweep::sweep;
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
}

/// The plan of a spec's groups. The host is asked only as far as it matters for this container.
pub fn prepare(spec: &Spec, id: &str, lifetime: Lifetime, best_effort: bool) -> Result<Prepared> {
    let linux = spec.linux.as_ref();
    let request = Request {
        id,
        path: linux.and_then(|l| l.cgroups_path.as_deref()).filter(|p| !p.is_empty()),
        resources: linux.and_then(|l| l.resources.as_ref()),
        lifetime,
        best_effort,
        device_rules: nix::unistd::geteuid().is_root(),
    };
    if request.needs_groups() {
        let layout = Layout::probe_for(|c| c == "devices" || !request.is_about_devices_alone())?;
        let plan = plan(&request, &layout)?;
        let mounted = (layout.version() != "2").then(|| plan.hierarchies());
        return Ok(Prepared { plan, mounted });
    }
    let mounts = spec.mounts.iter().any(|m| m.kind.as_deref().is_some_and(|k| k.starts_with("cgroup")));
    let separate = mounts && !is_unified();
    Ok(Prepared { plan: Plan::default(), mounted: separate.then(Vec::new) })
}

/// Whether swap is counted, so that it can be limited.
pub fn counts_swap() -> bool {
    match is_unified() {
        true => std::path::Path::new("/proc/swaps").exists(),
        false => std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
    }
}
