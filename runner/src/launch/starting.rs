//! A container on its way, and one whose command runs: what it is waited for, told and asked by whoever has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::idmap::{Maps, Range};
use coracle_sys::{Context, Error, Kind, Result, pidfd, process as process_sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wire::{Channel, Message};
use super::{Ending, Setup, ending, fused, gate};
use crate::plan::Plan;
use crate::process::{self, exec_error};
use crate::rootfs::stack::{self, Ids};
use crate::rootfs::{Layers, Source};
use crate::seccomp::{Notify, Program};
use crate::state::Identity;

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
    /// Its network namespace, looked up before it hides itself.
    network: Option<OwnedFd>,
    /// Its layers, and the user namespace in which an ordinary user mounts them.
    layers: Option<Layers>,
    namespace: Option<OwnedFd>,
    /// Its filter may forbid what it takes to execute the command.
    filtered: bool,
}

/// A container whose command runs.
pub struct Container {
    pid: i32,
    by_init: bool,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
}

impl Starting {
    pub(super) fn new(
        pid: i32,
        pidfd: OwnedFd,
        channel: Channel,
        process: &process::Plan,
        seccomp: Option<&Program>,
    ) -> Self {
        let by_init = matches!(process.init, process::Init::Pid1(_));
        let mut starting = Self::of((pid, pidfd), channel, process.args[0].clone(), Identity::of(pid));
        starting.by_init = by_init;
        starting.filtered = seccomp.is_some_and(|program| !program.lets_exec());
        starting.notify = seccomp.and_then(|program| program.notify.clone());
        starting
    }

    fn of(
        (pid, pidfd): (i32, OwnedFd),
        channel: Channel,
        command: String,
        identity: Result<Identity>,
    ) -> Self {
        let (console, warnings, notify) = (None, Vec::new(), None);
        Self {
            pid,
            by_init: false,
            pidfd,
            channel,
            console,
            warnings,
            command,
            identity,
            notify,
            network: None,
            layers: None,
            namespace: None,
            filtered: true,
        }
    }

    /// What its root is made of.
    pub(super) fn of_source(&mut self, source: &Source) {
        if let Source::Layers(layers) = source {
            self.layers = Some(layers.clone());
        }
    }

    pub(super) fn open_network(&mut self) -> Result<()> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty());
        self.network = Some(file.context(|| format!("open({path:?})"))?);
        Ok(())
    }

    /// Its network namespace, where that was wanted.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
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
    pub(super) fn map_ids(&mut self, plan: &Plan, setup: &Setup<'_>) -> Result<()> {
        let Some(maps) = &plan.maps else { return Ok(()) };
        let mut map = || -> Result<()> {
            maps.write(nix::unistd::Pid::from_raw(self.pid))
                .context(|| "map the ids of the user namespace")?;
            setup.enter_cgroups(Some(self.pid))?;
            self.warnings.extend(plan.process.set_score(&self.pid.to_string())?);
            let stack = match &plan.root.source {
                Source::Layers(layers) if !layers.userxattr => Some(self.mount_mapped(layers, maps)?),
                // It hides itself later.
                Source::Layers(_) => {
                    self.namespace = Some(self.open_user_namespace()?);
                    None
                }
                Source::Directory(_) => None,
            };
            self.channel.send(&Message::Mapped(stack))
        };
        map().inspect_err(|_| self.kill())
    }

    fn open_user_namespace(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/user", self.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
            .context(|| format!("open({path:?}, O_RDONLY)"))
    }

    /// Mount the layers by a program. Where that is one way of several, another is left to the container.
    fn stack_up(&self) -> Result<()> {
        let layers = self.layers.as_ref().ok_or_else(|| Error::invalid("the container has no layers"))?;
        let made = fused::mount(layers, self.namespace.as_ref().map(AsFd::as_fd));
        let made = if layers.by_program { Some(made?) } else { made.ok() };
        self.channel.send(&Message::Mapped(made))
    }

    fn mount_mapped(&mut self, layers: &Layers, maps: &Maps) -> Result<OwnedFd> {
        let namespace = self.open_user_namespace()?;
        let outside = |ranges: &[Range]| {
            let root = ranges.iter().find(|r| r.inside == 0);
            root.map(|r| r.outside).ok_or_else(|| Error::invalid("the user namespace has no root"))
        };
        let ids = Ids { namespace: namespace.as_fd(), uid: outside(&maps.uids)?, gid: outside(&maps.gids)? };
        let stack = stack::mount(layers, Some(ids), || stack::by_program(layers, Some(ids)).map(Some))?;
        self.warnings.extend(stack.warning.map(str::to_owned));
        Ok(stack.tree)
    }

    /// It has been put into its cgroups, which it waits for.
    pub fn adopted(&self) -> Result<()> {
        self.channel.send(&Message::Mapped(None))
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
        let pidfd = match init.hold() {
            Err(e) if e.errno() == Some(Errno::ESRCH) => return Ok(None),
            held => held?.into_fd(),
        };
        Ok(Some(Self::of((init.pid, pidfd), channel, command.to_owned(), Ok(init))))
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
        let _ = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
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
                if self.is_stillborn() {
                    self.kill();
                    return Err(Error::new(
                        Kind::CannotExecute,
                        "container process is already dead: its filter of system calls forbids what it takes to execute the command",
                    ));
                }
                let Self { pid, by_init, pidfd, console, warnings, .. } = self;
                Ok(Container { pid, by_init, pidfd, console, warnings })
            }
            _ => {
                self.kill();
                Err(Error::new(Kind::System, "the container's process is confused"))
            }
        }
    }

    /// It has ended before it could execute anything, and not even say so.
    fn is_stillborn(&self) -> bool {
        self.filtered
            && std::fs::read(format!("/proc/{}/comm", self.pid))
                .is_ok_and(|name| name.strip_suffix(b"\n") == Some(super::UNBORN.to_bytes()))
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
                Message::Unstacked => match self.stack_up() {
                    Ok(()) => continue,
                    Err(e) => e,
                },
                Message::Failed(e) => e,
                Message::ExecFailed(errno) => exec_error(&self.command, errno),
                other => return Ok(other),
            };
            self.kill();
            return Err(failed);
        }
    }

    /// End it, and wait until it is gone. It may be another's child.
    pub(super) fn kill(&self) {
        let _ = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
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
        pidfd::signal(self.pidfd.as_fd(), signal)
    }

    /// Wait until it has ended. To be called once.
    pub fn wait(&self) -> Result<Ending> {
        ending::wait(self.pid, self.by_init)
    }
}
