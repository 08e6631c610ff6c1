//! Starting a container: one clone into all its namespaces, the ids mapped from outside, the child
//! set up by [`child`], and what it has to say brought back. Waiting is [`starting`]'s; forwarding signals and
//! terminals is not here.

mod ahead;
mod child;
mod ending;
mod fused;
mod gate;
mod image;
pub mod join;
mod lookup;
mod starting;
mod sys;
mod tty;
mod wire;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::process::{self as process_sys, Cloned};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::hooks::{self, Hook};
use crate::mounts::Mount;
use crate::namespaces::{self, Entrance, Kind as Ns};
use crate::netdev;
use crate::plan::Plan;
use crate::rootfs::{Layers, Root, Source, Top, stack};
use crate::seccomp::Program;

pub use ahead::Ahead;
pub use ending::Ending;
pub use gate::Gate;
pub(crate) use image::open as executable;
pub use starting::{Container, Starting};
pub(crate) use wire::{Channel, Message, pair};

/// What a start needs beside the plan: open things, bytes, and what to call at its moment.
#[derive(Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Our init's executable.
    pub init: &'a [u8],
    /// Programs of the caller's to run on the way.
    pub hooks: Option<Turns<'a>>,
    /// What the command waits for; everything but the command waits for nothing.
    pub hold: Hold<'a>,
    /// The filter, installed as the last thing before the command is executed.
    pub seccomp: Option<&'a Program>,
    /// The network namespace that was made ahead for it, its loopback device up.
    pub network: Option<BorrowedFd<'a>>,
    /// Whoever starts it wants [`Starting::network`].
    pub wants_network: bool,
    /// The cgroup v2 to be born in.
    pub born_in: Option<BorrowedFd<'a>>,
    /// Enters the container's cgroups: this process, or, where the child has no right to, the child
    /// by its pid.
    pub enter_cgroups: Option<&'a dyn Fn(Option<i32>) -> Result<()>>,
    /// It is put into them by [`Starting::adopted`]'s caller.
    pub adopted: bool,
}

/// What a process is called between its filter of system calls and the exec of init, which gives it another name: it
/// keeps the name when it is dead.
const UNBORN: &std::ffi::CStr = c"runner:filtered";

/// Hooks, and what they are told.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// All of the container's.
    pub hooks: &'a [Hook],
    /// The root file system on the host.
    pub rootfs: &'a Path,
    /// The state document, for a status and a pid.
    pub state: &'a dyn Fn(&str, i32) -> String,
}

impl Turns<'_> {
    /// Are there any that have their turn before the root is entered?
    pub fn before_the_root(&self) -> bool {
        use hooks::Kind::{CreateContainer, CreateRuntime, Prestart};
        [Prestart, CreateRuntime, CreateContainer].into_iter().any(|kind| hooks::any(self.hooks, kind))
    }
}

/// What a command waits for before it is executed.
#[derive(Clone, Copy, Default)]
pub enum Hold<'a> {
    /// Nothing.
    #[default]
    No,
    /// [`Starting::go`].
    Go,
    /// [`Starting::go`], and then for whoever comes through the gate.
    Gate(&'a Gate),
}

impl Setup<'_> {
    fn has_cgroups(&self) -> bool {
        self.adopted || self.born_in.is_some() || self.enter_cgroups.is_some()
    }

    fn enter_cgroups(&self, pid: Option<i32>) -> Result<()> {
        self.enter_cgroups.map_or(Ok(()), |enter| enter(pid).context(|| "enter the container's cgroups"))
    }
}

/// Start. The caller must have one thread. On an error the child is gone already.
pub fn spawn(plan: &Plan, setup: &Setup<'_>) -> Result<Starting> {
    if plan.is_mapped_by_root() {
        fill_volumes(plan)?;
    }
    let opened = Opened {
        joins: namespaces::open_all(&plan.namespaces)?,
        sources: open_sources(plan)?,
        init: image::in_memory(setup.init)?,
    };
    let (ours, theirs) = wire::pair()?;
    let mut flags = plan.namespaces.flags();
    if setup.has_cgroups() {
        // A cgroup namespace shows the group of its maker: it is made once the group is entered.
        flags.remove(CloneFlags::CLONE_NEWCGROUP);
    }
    if setup.network.is_some() {
        flags.remove(CloneFlags::CLONE_NEWNET);
    }
    if plan.maps.is_some() {
        // The root of its message queues belongs to whoever makes it, who has an id only later.
        flags.remove(CloneFlags::CLONE_NEWIPC);
    }
    let flags = flags.bits() as u32 as u64;
    let through_helper = opened.joins.iter().any(|e| matches!(e.kind(), Ns::User | Ns::Pid));
    let (pid, pidfd) = if through_helper {
        spawn_inside(plan, setup, opened, flags, (&ours, theirs))?
    } else {
        match process_sys::clone(flags, setup.born_in).map_err(explain_clone)? {
            Cloned::Child => {
                drop(ours);
                become_container(plan, setup, opened, &theirs)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                (pid, pidfd)
            }
        }
    };
    let mut starting = Starting::new(pid, pidfd, ours, &plan.process, setup.seccomp);
    starting.of_source(&plan.root.source);
    if setup.wants_network {
        starting.open_network().inspect_err(|_| starting.kill())?;
    }
    starting.map_ids(plan, setup)?;
    let joined = plan.namespaces.joined(Ns::Network);
    let network = joined.map_or_else(|| format!("/proc/{pid}/ns/net").into(), Path::to_path_buf);
    netdev::move_all(&plan.net_devices, &network).inspect_err(|_| starting.kill())?;
    Ok(starting)
}

/// Of the image as it lies on disk: a volume's files have the owners that the image says, and each container sees them
/// through its own map.
fn fill_volumes(plan: &Plan) -> Result<()> {
    let Source::Layers(layers) = &plan.root.source else { return Ok(()) };
    if plan.volumes.is_empty() {
        return Ok(());
    }
    let whole = Layers { top: Top::None, ..layers.clone() };
    let root = Root::new(stack::mount(&whole, None, || Ok(None))?.tree);
    plan.volumes.iter().try_for_each(|volume| volume.make(&root))
}

/// What is opened before the container's process is made.
struct Opened {
    /// The namespaces to join.
    joins: Vec<Entrance>,
    /// What the mounts bind: one for each mount, or none at all.
    sources: Vec<Option<OwnedFd>>,
    /// Our init's executable, which is no part of the container's memory then.
    init: Option<OwnedFd>,
}

/// The root of a user namespace is an ordinary user outside, who may not reach what we may.
fn open_sources(plan: &Plan) -> Result<Vec<Option<OwnedFd>>> {
    let all = plan.is_mapped_by_root();
    let open = |mount: &Mount| match all || mount.is_opened_outside() {
        true => mount.open_source(),
        false => Ok(None),
    };
    plan.mounts.iter().map(open).collect()
}

/// A helper enters the namespaces that decide what its children are, and makes the container from
/// there as a child of ours.
fn spawn_inside(
    plan: &Plan,
    setup: &Setup<'_>,
    opened: Opened,
    flags: u64,
    (ours, theirs): (&Channel, Channel),
) -> Result<(i32, OwnedFd)> {
    let helper = match process_sys::clone(0, None)? {
        Cloned::Parent { pid, .. } => pid,
        Cloned::Child => {
            let inside = || -> Result<()> {
                nix::sys::prctl::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
                for entrance in opened.joins.iter().filter(|e| matches!(e.kind(), Ns::User | Ns::Pid)) {
                    entrance.enter()?;
                }
                let flags = flags | CloneFlags::CLONE_PARENT.bits() as u32 as u64;
                match process_sys::clone(flags, setup.born_in).map_err(explain_clone)? {
                    Cloned::Child => become_container(plan, setup, opened, &theirs),
                    Cloned::Parent { pid, pidfd } => theirs.send(&Message::Pid(pid, pidfd)),
                }
            };
            if let Err(e) = inside() {
                let _ = theirs.send(&Message::Failed(e));
            }
            process_sys::exit_now(0)
        }
    };
    drop(theirs);
    hear_pid(ours, helper)
}

/// What a helper has made, or why not. The helper is gone after this.
fn hear_pid(channel: &Channel, helper: i32) -> Result<(i32, OwnedFd)> {
    process_sys::wait(helper)?;
    // What it has made speaks on the same channel, and may have been quicker.
    let made = channel.pick(|message| match message {
        Message::Pid(pid, pidfd) => Ok((pid, pidfd)),
        other => Err(other),
    })?;
    if let Some(made) = made {
        return Ok(made);
    }
    match channel.receive()? {
        Message::Failed(e) => Err(e),
        _ => Err(Error::new(Kind::System, "the process that joins the namespaces is gone")),
    }
}

/// The child's whole life up to its exec.
fn become_container(plan: &Plan, setup: &Setup<'_>, opened: Opened, channel: &Channel) -> ! {
    let error = child::run(plan, setup, opened, channel);
    let _ = channel.send(&Message::Failed(error));
    process_sys::exit_now(125)
}

/// The clone's errnos that mislead.
fn explain_clone(e: Error) -> Error {
    match e.errno() {
        Some(Errno::ENOSPC) => e.wrap(
            "make the container's namespaces (their number is limited: see /proc/sys/user/max_*_namespaces)",
        ),
        Some(Errno::EPERM) => e.wrap(
            "make the container's namespaces (a host may forbid user namespaces to ordinary users: see /proc/sys/user/max_user_namespaces, kernel.unprivileged_userns_clone, on Ubuntu kernel.apparmor_restrict_unprivileged_userns; inside another container, start that with --security-opt seccomp=unconfined --security-opt systempaths=unconfined, or with --privileged)",
        ),
        _ => e.wrap("make the container's namespaces"),
    }
}
