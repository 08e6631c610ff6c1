//! A further process in a container that runs: `exec`. It enters by the container's process, which is held, so that
//! what is entered is what was found, and it can be neither traced nor read before it has.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use coracle_sys::handle::Handle;
use coracle_sys::process::{self as process_sys, Cloned};
use coracle_sys::{Context, Error, Result};
use nix::sched::CloneFlags;
use nix::sys::prctl;

use super::child::Confining;
use super::wire::{self, Channel, Message};
use super::{Setup, Starting, tty};
use crate::namespaces::Kind as Ns;
use crate::process;
use crate::rootfs::Root;

/// The container to join.
pub struct Target<'a> {
    /// Its first process.
    pub process: &'a Handle,
    /// Its namespaces that are not the host's.
    pub namespaces: &'a [Ns],
}

/// What a joining process is.
pub struct Plan {
    /// Who, where, what.
    pub process: process::Plan,
    /// It is killed when its parent dies.
    pub die_with_parent: bool,
    /// Descriptors from 3 on that it inherits.
    pub preserve_fds: u32,
}

/// Start a process in a running container. The caller must have one thread.
pub fn join(target: &Target<'_>, plan: &Plan, setup: &Setup<'_>) -> Result<Starting> {
    let (ours, theirs) = wire::pair()?;
    let helper = match process_sys::clone(0, None)? {
        Cloned::Parent { pid, .. } => pid,
        Cloned::Child => {
            if let Err(e) = enter(target, plan, setup, &theirs) {
                let _ = theirs.send(&Message::Failed(e));
            }
            process_sys::exit_now(0)
        }
    };
    drop(theirs);
    let (pid, pidfd) = super::hear_pid(&ours, helper)?;
    Ok(Starting::new(pid, pidfd, ours, &plan.process, setup.seccomp))
}

/// The helper's part: enter, and make the process from inside as a child of the runner's.
fn enter(target: &Target<'_>, plan: &Plan, setup: &Setup<'_>, channel: &Channel) -> Result<()> {
    prctl::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    let passed = process_sys::inheritable(3, plan.preserve_fds);
    process_sys::close_on_exec_from(3)?;
    // Both need rights over the host, or our own entry in its /proc.
    plan.process.set_score("self")?;
    plan.process.sched.apply_early()?;
    setup.enter_cgroups(None)?;
    plan.process.sched.apply_late()?;
    let namespaces: Vec<_> = target.namespaces.iter().map(|kind| (kind.flag(), kind.file())).collect();
    target.process.enter(&namespaces).context(|| "enter the container's namespaces")?;
    if target.namespaces.contains(&Ns::User) {
        super::child::become_root_inside()?;
    }
    // What is made next is seen by the container, whose root may look into it when it has SYS_PTRACE:
    // close-on-exec would be too late.
    let keep: Vec<RawFd> = passed.iter().copied().chain([channel.number()]).collect();
    process_sys::close_all_but(3, &keep)?;
    process_sys::forget_environment();
    match process_sys::clone(CloneFlags::CLONE_PARENT.bits() as u32 as u64, None)? {
        Cloned::Parent { pid, pidfd } => channel.send(&Message::Pid(pid, pidfd)),
        Cloned::Child => {
            let error = run(plan, setup, channel, passed).unwrap_or_else(|e| e);
            let _ = channel.send(&Message::Failed(error));
            process_sys::exit_now(125)
        }
    }
}

/// The process itself, up to its exec.
fn run(plan: &Plan, setup: &Setup<'_>, channel: &Channel, passed: Vec<RawFd>) -> Result<Error> {
    nix::unistd::setsid().context(|| "setsid()")?;
    if let Some(size) = plan.process.terminal {
        tty::enter(open_terminal(channel)?, size)?;
    }
    Confining {
        process: &plan.process,
        setup,
        channel,
        die_with_parent: plan.die_with_parent,
        new_keyring: false,
        passed,
        init: None,
        bounded: false,
    }
    .confine()?
    .exec()
}

/// A terminal of the container's own devpts, which is looked at before it is used.
fn open_terminal(channel: &Channel) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    let make = || -> Result<OwnedFd> {
        let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
            .context(|| "open(\"/\", O_PATH)")?;
        let ptmx = Root::new(root).open_read_write(Path::new("/dev/pts/ptmx"), false)?;
        tty::make(ptmx, channel)
    };
    make().context(|| "make a terminal in the container")
}
