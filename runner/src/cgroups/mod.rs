//! Control groups: the container's limits, what it used, and a handle on all its processes. [`plan`]
//! decides everything from the resources and the host's [`Layout`]; a [`Plan`] creates its groups and
//! is a [`Cgroup`] from then on. Groups that others made are never changed, except that a v2 group is
//! told to hand controllers down to ours.
//!
//! systemd is not asked for anything, and nothing here needs it.

mod group;
mod kill;
mod layout;
mod plan;
mod stats;
mod sweep;
mod v1;
mod v2;
mod weight;

pub use group::Cgroup;
pub use layout::{Layout, Node, V1, V2};
pub use plan::{Group, Lifetime, Plan, Request, Write, plan};
pub use stats::Stats;
pub use sweep::sweep;

/// What the names of our groups begin with; the container's id follows.
const PREFIX: &str = "coracle-";
