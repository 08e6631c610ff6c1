//! Starting a container: one clone into all its namespaces, the ids mapped from outside, the child
//! set up by [`child`], and what it has to say brought back. Waiting is here; forwarding signals and
//! terminals is not.

mod ahead;
mod child;
mod ending;
mod gate;
mod image;
pub mod join;
mod lookup;
mod sys;
mod tty;
mod wire;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::idmap::{Maps, Range, Writer};
use coracle_sys::process::{self as process_sys, Cloned};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;

use crate::hooks::{self, Hook};
use crate::mounts::Mount;
use crate::namespaces::{self, Entrance, Kind as Ns};
use crate::netdev;
use crate::plan::Plan;
use crate::process::{self, exec_error};
use crate::rootfs::stack::{self, Ids};
use crate::rootfs::{Layers, Source};
use crate::seccomp::{Notify, Program};
use crate::state::Identity;

pub use ahead::Ahead;
pub use ending::Ending;
pub use gate::Gate;
use wire::{Channel, Message};

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
    /// The cgroup v2 to be born in.
    pub born_in: Option<BorrowedFd<'a>>,
    /// Enters the container's cgroups: this process, or, where the child has no right to, the child
    /// by its pid.
    pub enter_cgroups: Option<&'a dyn Fn(Option<i32>) -> Result<()>>,
}

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
        self.born_in.is_some() || self.enter_cgroups.is_some()
    }

    fn enter_cgroups(&self, pid: Option<i32>) -> Result<()> {
        self.enter_cgroups.map_or(Ok(()), |enter| enter(pid).context(|| "enter the container's cgroups"))
    }
}

/// A container on its way: its process exists, its command does not run yet.
pub struct Starting {
    pid: i32,
    by_init: bool,
    pidfd: OwnedFd,
    channel: Channel,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    command: String,
    /// Looked up before it hides itself: where /proc shows nobody else's processes, it is too late then.
    identity: Result<Identity>,
    /// Who is asked about its system calls.
    notify: Option<Notify>,
}

/// A container whose command runs.
pub struct Container {
    pid: i32,
    by_init: bool,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// Start. The caller must have one thread. On an error the child is gone already.
pub fn spawn(plan: &Plan, setup: &Setup<'_>) -> Result<Starting> {
    let joins = namespaces::open_all(&plan.namespaces)?;
    let sources = open_sources(plan)?;
    let (ours, theirs) = wire::pair()?;
    let mut flags = plan.namespaces.flags();
    if setup.has_cgroups() {
        // A cgroup namespace shows the group of its maker: it is made once the group is entered.
        flags.remove(CloneFlags::CLONE_NEWCGROUP);
    }
    if setup.network.is_some() {
        flags.remove(CloneFlags::CLONE_NEWNET);
    }
    let flags = flags.bits() as u32 as u64;
    let through_helper = joins.iter().any(|e| matches!(e.kind(), Ns::User | Ns::Pid));
    let (pid, pidfd) = if through_helper {
        spawn_inside(plan, setup, &joins, sources, flags, (&ours, theirs))?
    } else {
        match process_sys::clone(flags, setup.born_in).map_err(explain_clone)? {
            Cloned::Child => {
                drop(ours);
                become_container(plan, setup, &joins, sources, &theirs)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                (pid, pidfd)
            }
        }
    };
    let mut starting = Starting::new(pid, pidfd, ours, &plan.process);
    starting.notify = setup.seccomp.and_then(|program| program.notify.clone());
    starting.map_ids(plan, setup)?;
    let joined = plan.namespaces.joined(Ns::Network);
    let network = joined.map_or_else(|| format!("/proc/{pid}/ns/net").into(), Path::to_path_buf);
    netdev::move_all(&plan.net_devices, &network).inspect_err(|_| starting.kill())?;
    Ok(starting)
}

/// What the mounts bind, where it was opened beforehand: one for each mount, or none at all.
type Sources = Vec<Option<OwnedFd>>;

/// The root of a user namespace is an ordinary user outside, who may not reach what we may.
fn open_sources(plan: &Plan) -> Result<Sources> {
    let all = plan.maps.as_ref().is_some_and(|maps| maps.writer == Writer::Privileged);
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
    joins: &[Entrance],
    sources: Sources,
    flags: u64,
    (ours, theirs): (&Channel, Channel),
) -> Result<(i32, OwnedFd)> {
    let helper = match process_sys::clone(0, None)? {
        Cloned::Parent { pid, .. } => pid,
        Cloned::Child => {
            let inside = || -> Result<()> {
                nix::sys::prctl::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
                for entrance in joins.iter().filter(|e| matches!(e.kind(), Ns::User | Ns::Pid)) {
                    entrance.enter()?;
                }
                let flags = flags | CloneFlags::CLONE_PARENT.bits() as u32 as u64;
                match process_sys::clone(flags, setup.born_in).map_err(explain_clone)? {
                    Cloned::Child => become_container(plan, setup, joins, sources, &theirs),
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
    let said = channel.receive();
    process_sys::wait(helper)?;
    match said? {
        Message::Pid(pid, pidfd) => Ok((pid, pidfd)),
        Message::Failed(e) => Err(e),
        _ => Err(Error::new(Kind::System, "the process that joins the namespaces is gone")),
    }
}

/// The child's whole life up to its exec.
fn become_container(
    plan: &Plan,
    setup: &Setup<'_>,
    joins: &[Entrance],
    sources: Sources,
    channel: &Channel,
) -> ! {
    let error = child::run(plan, setup, joins, sources, channel);
    let _ = channel.send(&Message::Failed(error));
    process_sys::exit_now(125)
}

impl Starting {
    fn new(pid: i32, pidfd: OwnedFd, channel: Channel, process: &process::Plan) -> Self {
        let (command, identity) = (process.args[0].clone(), Identity::of(pid));
        let by_init = matches!(process.init, process::Init::Pid1(_));
        Self {
            pid,
            by_init,
            pidfd,
            channel,
            console: None,
            warnings: Vec::new(),
            command,
            identity,
            notify: None,
        }
    }

    /// Its pid, in the runner's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Write the maps of a new user namespace; with the right to it, also mount the layers from
    /// here: inside, overlay does not see the marks of deleted files.
    fn map_ids(&mut self, plan: &Plan, setup: &Setup<'_>) -> Result<()> {
        let Some(maps) = &plan.maps else { return Ok(()) };
        let mut map = || -> Result<()> {
            maps.write(nix::unistd::Pid::from_raw(self.pid))
                .context(|| "map the ids of the user namespace")?;
            setup.enter_cgroups(Some(self.pid))?;
            self.warnings.extend(plan.process.set_score(&self.pid.to_string())?);
            let stack = match &plan.root.source {
                Source::Layers(layers) if !layers.userxattr => Some(self.mount_mapped(layers, maps)?),
                _ => None,
            };
            self.channel.send(&Message::Mapped(stack))
        };
        map().inspect_err(|_| self.kill())
    }

    fn mount_mapped(&mut self, layers: &Layers, maps: &Maps) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/user", self.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
            .context(|| format!("open({path:?}, O_RDONLY)"))?;
        let outside = |ranges: &[Range]| {
            let root = ranges.iter().find(|r| r.inside == 0);
            root.map(|r| r.outside).ok_or_else(|| Error::invalid("the user namespace has no root"))
        };
        let ids = Ids { namespace: namespace.as_fd(), uid: outside(&maps.uids)?, gid: outside(&maps.gids)? };
        let stack = stack::mount(layers, Some(ids))?;
        self.warnings.extend(stack.warning.map(str::to_owned));
        Ok(stack.tree)
    }

    /// Which process it is.
    pub fn identity(&self) -> std::result::Result<Identity, &Error> {
        self.identity.as_ref().copied()
    }

    /// Wait until its root is whole, do what is to be done before it enters it, and let it.
    pub fn built(&mut self, then: impl FnOnce(i32) -> Result<()>) -> Result<()> {
        self.expect(|message| matches!(message, Message::Built))?;
        then(self.pid)?;
        self.channel.send(&Message::Pivot)
    }

    /// Wait until it is in the container's root, where the start is held after that.
    pub fn ready(&mut self) -> Result<()> {
        self.expect(|message| matches!(message, Message::Ready))
    }

    /// Wait until it has done all that can be done before a start; its command is looked up as well.
    pub fn waiting(&mut self) -> Result<()> {
        self.expect(|message| matches!(message, Message::Waiting))
    }

    /// Wait for a message. Any other means that the process is not to be reckoned with.
    fn expect(&mut self, is: impl FnOnce(&Message) -> bool) -> Result<()> {
        if is(&self.listen()?) {
            return Ok(());
        }
        self.kill();
        Err(Error::new(Kind::System, "the container's process is gone"))
    }

    /// A container that waits behind the gate `name` of a directory of states; none where nobody does.
    pub fn behind(dir: &Path, name: &str, init: Identity, command: &str) -> Result<Option<Self>> {
        let Some(channel) = gate::knock(dir, name)? else { return Ok(None) };
        let pidfd = process_sys::pidfd_open(init.pid)?;
        if !init.is_alive() {
            return Ok(None);
        }
        Ok(Some(Self {
            pid: init.pid,
            by_init: false,
            pidfd,
            channel,
            console: None,
            warnings: Vec::new(),
            command: command.to_owned(),
            identity: Ok(init),
            notify: None,
        }))
    }

    /// Who is asked about system calls, where its filter has it so.
    pub fn ask(&mut self, notify: Option<Notify>) {
        self.notify = notify;
    }

    /// The other side of its terminal, where it has one and has told so.
    pub fn console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Let it be as it is, for others to go on with.
    pub fn leave(self) {}

    /// Let a container that was held go on as soon as it is set up. One that is gone says so at the end.
    pub fn go(&mut self) {
        let _ = self.channel.send(&Message::Go);
    }

    /// End it before its command runs. What went wrong with it before, if anything did.
    pub fn give_up(self) -> Option<Error> {
        let _ = process_sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let failed = loop {
            match self.channel.receive() {
                Ok(Message::Failed(e)) => break Some(e),
                Ok(Message::Console(_) | Message::Warning(_)) => {}
                _ => break None,
            }
        };
        let _ = process_sys::wait(self.pid);
        failed
    }

    /// Wait until the command runs. On an error the process is gone.
    pub fn finish(mut self) -> Result<Container> {
        match self.listen()? {
            Message::End => {
                let Self { pid, by_init, pidfd, console, warnings, .. } = self;
                Ok(Container { pid, by_init, pidfd, console, warnings })
            }
            _ => {
                self.kill();
                Err(Error::new(Kind::System, "the container's process is confused"))
            }
        }
    }

    /// The next message that is neither a descriptor nor an error.
    fn listen(&mut self) -> Result<Message> {
        loop {
            let failed = match self.channel.receive()? {
                Message::Console(fd) => {
                    self.console = Some(fd);
                    continue;
                }
                Message::Warning(text) => {
                    // There are few, unless something pretends to be the child.
                    self.warnings.truncate(3);
                    self.warnings.push(text);
                    continue;
                }
                Message::Listener(listener) => {
                    let sent = self.notify.as_ref().map(|notify| notify.send(&listener, self.pid));
                    match sent
                        .unwrap_or_else(|| Err(Error::invalid("nobody is to hear the filter's questions")))
                    {
                        Ok(()) => {
                            self.channel.send(&Message::Go)?;
                            continue;
                        }
                        Err(e) => e,
                    }
                }
                Message::Failed(e) => e,
                Message::ExecFailed(errno) => exec_error(&self.command, errno),
                other => return Ok(other),
            };
            self.kill();
            return Err(failed);
        }
    }

    /// End it, and wait until it is gone. It may be another's child.
    fn kill(&self) {
        let _ = process_sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(10_000_u16));
        let _ = process_sys::wait(self.pid);
    }
}

impl Container {
    /// Its pid, in the runner's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd, readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The terminal's other side, when the command has a terminal.
    pub fn console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What it has to do without, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Send it a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        process_sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
    }

    /// Wait until it has ended. To be called once.
    pub fn wait(&self) -> Result<Ending> {
        ending::wait(self.pid, self.by_init)
    }
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
