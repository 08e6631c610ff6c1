//! The container's side of a start: `Entered -> Confining -> Confined -> exec`, each step consuming the
//! one before, because their order is security.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result, mount as mounts_sys, process as sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid, setsid};

use super::wire::{Channel, Message};
use super::{Hold, Opened, Setup, Turns, image, lookup, tty};
use crate::caps;
use crate::hooks;
use crate::mounts::Memory;
use crate::namespaces::Kind as Ns;
use crate::plan::Plan;
use crate::process;
use crate::rootfs::{self, Root, Source};
use crate::seccomp::Program;
use crate::timens;

/// Run the container's side. Comes back only with an error.
pub(super) fn run(plan: &Plan, setup: &Setup<'_>, opened: Opened, channel: &Channel) -> Error {
    let go = || -> Result<Error> {
        let entered = Entered::new(plan, setup, opened, channel)?;
        let confining = entered.root()?;
        confining.let_go()?;
        confining.confine()?.exec()
    };
    go().unwrap_or_else(|e| e)
}

/// In all namespaces, with all ids mapped.
struct Entered<'a> {
    plan: &'a Plan,
    setup: &'a Setup<'a>,
    channel: &'a Channel,
    /// The layers, where they were mounted from outside.
    stack: Option<OwnedFd>,
    passed: Vec<RawFd>,
    opened: Opened,
}

/// In the container's root; nothing of the host can be reached by path any more.
pub(super) struct Confining<'a> {
    pub(super) process: &'a process::Plan,
    pub(super) setup: &'a Setup<'a>,
    pub(super) channel: &'a Channel,
    pub(super) die_with_parent: bool,
    pub(super) new_keyring: bool,
    /// Descriptors that the command inherits.
    pub(super) passed: Vec<RawFd>,
    /// Our init's executable, where it was made before.
    pub(super) init: Option<OwnedFd>,
    /// The bounding set is the container's already.
    pub(super) bounded: bool,
}

/// With the container's ids and limits; the last rights are given up with the exec.
pub(super) struct Confined<'a> {
    confining: Confining<'a>,
    capabilities: caps::Sets,
    init: OwnedFd,
}

impl<'a> Entered<'a> {
    fn new(plan: &'a Plan, setup: &'a Setup<'a>, opened: Opened, channel: &'a Channel) -> Result<Self> {
        // No descriptor of the host's survives the exec, and none that the caller leaked to us. What is
        // executed on the way to the command inherits none at all.
        let passed = sys::inheritable(3, plan.preserve_fds);
        sys::close_on_exec_from(3)?;
        // Who is left to others is not held by one that does not come to it, whatever it waits for.
        die_with_parent(channel)?;
        let mut stack = None;
        if plan.maps.is_some() {
            match channel.receive()? {
                Message::Mapped(mounted) => {
                    stack = mounted;
                    become_root_inside()?;
                    if plan.namespaces.makes(Ns::Ipc) {
                        unshare(CloneFlags::CLONE_NEWIPC).context(|| "unshare(CLONE_NEWIPC)")?;
                    }
                }
                _ => return Err(Error::new(Kind::System, "the runner is gone")),
            }
        }
        // Our own /proc entry is closed to us once we cannot be traced. In a user namespace of ours we
        // have no right to it either, and the runner has done it.
        if plan.maps.is_none()
            && let Some(warning) = plan.process.set_score("self")?
        {
            channel.send(&Message::Warning(warning))?;
        }
        if plan.namespaces.makes(Ns::Time) {
            timens::enter(&plan.time_offsets)?;
        }
        prctl::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
        // The kernel makes new credentials for each, and is slow to let go of the old: they are not to count as
        // memory of the container's. Hooks in its namespaces have all rights still.
        if setup.hooks.is_none() {
            plan.process.capabilities.limit_bounding()?;
        }
        if plan.maps.is_none() {
            setup.enter_cgroups(None)?;
        }
        if setup.adopted && !matches!(channel.receive()?, Message::Mapped(None)) {
            return Err(Error::new(Kind::System, "the runner is gone"));
        }
        if setup.has_cgroups() && plan.namespaces.makes(Ns::Cgroup) {
            unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "unshare(CLONE_NEWCGROUP)")?;
        }
        for entrance in opened.joins.iter().filter(|e| !matches!(e.kind(), Ns::User | Ns::Pid)) {
            entrance.enter()?;
        }
        match setup.network {
            Some(made) => setns(made, CloneFlags::CLONE_NEWNET).context(|| "setns(CLONE_NEWNET)")?,
            None if plan.namespaces.makes(Ns::Network) => {
                sys::loopback_up().context(|| "bring up the loopback device")?;
            }
            None => {}
        }
        Ok(Self { plan, setup, channel, stack, passed, opened })
    }

    fn root(mut self) -> Result<Confining<'a>> {
        let plan = self.plan;
        if let Some(name) = &plan.hostname {
            sethostname(name).context(|| format!("sethostname({name:?})")).map_err(|e| match e.kind() {
                Kind::Denied => e.wrap("set the host name (the container around this one forbids it: start that with --security-opt seccomp=unconfined)"),
                _ => e,
            })?;
        }
        if let Some(name) = &plan.domainname {
            sys::set_domain_name(name)?;
        }
        umask(Mode::empty());
        let stack = match (self.stack.take(), &plan.root.source) {
            (None, Source::Layers(layers)) => {
                let by_program = || {
                    self.channel.send(&Message::Unstacked)?;
                    self.channel.receive_mapped()
                };
                let stack = rootfs::stack::mount(layers, None, by_program)?;
                if let Some(warning) = stack.warning {
                    self.channel.send(&Message::Warning(warning.into()))?;
                }
                Some(stack.tree)
            }
            (stack, _) => stack,
        };
        let root = plan.root.attach(stack)?;
        if !plan.is_mapped_by_root() {
            plan.volumes.iter().try_for_each(|volume| volume.make(&root))?;
        }
        let (mut dev, mut unsealed) = (None, Vec::new());
        let mut memory = Memory::default();
        let mut sources = std::mem::take(&mut self.opened.sources).into_iter();
        for mount in &plan.mounts {
            let opened = match sources.next().flatten() {
                None => mount.open_text(&mut memory, &root)?,
                opened => opened,
            };
            let tree = mount.attach(&root, opened)?;
            if mount.sealed_late {
                unsealed.push((mount, tree.try_clone().context(|| "dup(mount)")?));
            }
            if mount.at == Path::new("/dev") {
                dev = Some(tree);
            }
        }
        memory.finish()?;
        let terminal = self.make_dev(&root, dev)?;
        self.write_sysctl()?;
        self.make_cwd(&root)?;
        unsealed.iter().try_for_each(|(mount, tree)| mount.seal(tree))?;
        plan.hidden.apply(&root)?;
        setsid().context(|| "setsid()")?;
        if let Some(terminal) = terminal {
            tty::enter(terminal, plan.process.terminal.unwrap_or_default())?;
        }
        self.hooks_before_the_root()?;
        plan.root.enter(&root)?;
        if !matches!(self.setup.hold, Hold::No) {
            self.channel.send(&Message::Ready)?;
        }
        Ok(Confining {
            process: &plan.process,
            setup: self.setup,
            channel: self.channel,
            die_with_parent: plan.die_with_parent,
            new_keyring: plan.new_keyring,
            passed: self.passed,
            init: self.opened.init,
            bounded: self.setup.hooks.is_none(),
        })
    }

    /// The runner's hooks are waited for, and then it is this side's turn. Paths lead to the host's still.
    fn hooks_before_the_root(&self) -> Result<()> {
        let Some(turns) = self.setup.hooks.filter(Turns::before_the_root) else { return Ok(()) };
        self.channel.send(&Message::Built)?;
        match self.channel.receive()? {
            Message::Pivot => {}
            _ => return Err(Error::new(Kind::System, "the runner is gone")),
        }
        let state = (turns.state)("creating", nix::unistd::getpid().as_raw());
        let scene = hooks::Scene { state: &state, cwd: turns.rootfs, become_it: None };
        hooks::run(turns.hooks, hooks::Kind::CreateContainer, scene)
    }

    /// Nodes, links, and the container's own terminal on /dev/console.
    fn make_dev(&self, root: &Root, dev: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        let plan = self.plan;
        let whole = plan.devices.nodes.is_empty();
        let dev = match dev {
            Some(dev) => dev,
            None if whole => root.open(Path::new("/dev"))?,
            None => root.make_directory(Path::new("/dev"))?,
        };
        plan.devices.make(root, dev.as_fd())?;
        if plan.process.terminal.is_none() {
            return Ok(None);
        }
        let make = || -> Result<OwnedFd> {
            let ptmx = root.open_read_write(Path::new("/dev/pts/ptmx"), true)?;
            let peer = tty::make(ptmx, self.channel)?;
            let console = tty::console(&dev)?;
            let tree = mounts_sys::clone_tree(peer.as_fd(), Path::new(""), false)?;
            mounts_sys::attach(tree.as_fd(), console.as_fd())?;
            Ok(peer)
        };
        make().context(|| "make the container's terminal").map(Some)
    }

    /// Through a /proc of our own that nothing of the container's can be mounted over. In a user namespace
    /// that has the pid namespace of others there is none, but the host's is still in view.
    fn write_sysctl(&self) -> Result<()> {
        if self.plan.sysctl.is_empty() {
            return Ok(());
        }
        let context = mounts_sys::FsContext::open("proc")?;
        let proc = match context.create() {
            Err(e) if e.kind() == Kind::Denied => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                nix::fcntl::open("/proc", flags, Mode::empty()).context(|| "open(\"/proc\", O_PATH)")?
            }
            made => made.and_then(|()| context.mount(0))?,
        };
        for (path, value) in &self.plan.sysctl {
            let write = || -> Result<()> {
                let full = Path::new("sys").join(path);
                let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = nix::fcntl::openat(&proc, &full, flags, Mode::empty())
                    .context(|| format!("openat(\"/proc/{}\", O_WRONLY)", full.display()))?;
                nix::unistd::write(&file, value.as_bytes())
                    .context(|| format!("write(\"/proc/{}\", {value:?})", full.display()))?;
                Ok(())
            };
            write().context(|| format!("set the kernel parameter {}", path.display()))?;
        }
        Ok(())
    }

    /// An image need not have the working directory.
    fn make_cwd(&self, root: &Root) -> Result<()> {
        let cwd = &self.plan.process.cwd;
        if cwd == Path::new("/") {
            return Ok(());
        }
        match root.open(cwd) {
            Err(e) if e.kind() == Kind::NotFound => {
                root.make_directory(cwd).map(drop).context(|| "make process.cwd")
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Confining<'a> {
    /// Close what was the runner's, and forget what it was told: who shares the pid namespace and may trace sees both.
    fn let_go(&self) -> Result<()> {
        let gate = match self.setup.hold {
            Hold::Gate(gate) => Some(gate.number()),
            _ => None,
        };
        let ours = [Some(self.channel.number()), self.init.as_ref().map(AsRawFd::as_raw_fd), gate];
        let keep: Vec<RawFd> = self.passed.iter().copied().chain(ours.into_iter().flatten()).collect();
        sys::close_all_but(3, &keep)?;
        sys::forget_environment();
        Ok(())
    }

    /// From the runner's rights to the container's.
    pub(super) fn confine(mut self) -> Result<Confined<'a>> {
        let process = self.process;
        if self.new_keyring {
            process.lsm.label_keys()?;
            match sys::join_new_session_keyring(c"coracle") {
                // A kernel without keyrings has none to share, and a filter may hide them.
                Err(e) if matches!(e.kind(), Kind::Unsupported | Kind::Denied) => {}
                other => other?,
            }
        }
        let init = self.init.take().map_or_else(|| image::open(self.setup.init), Ok)?;
        let (capabilities, beyond) = process.capabilities.held()?;
        if !beyond.is_empty() {
            let text = format!("ignoring unknown or unavailable capabilities: [{}]", beyond.join(" "));
            self.channel.send(&Message::Warning(text))?;
        }
        process.own_streams();
        process.sched.apply()?;
        let early = process.enter_cwd();
        process.set_limits()?;
        if !self.bounded {
            process.capabilities.limit_bounding()?;
        }
        process.become_user()?;
        umask(Mode::from_bits_truncate(process.umask));
        // The change of user has cleared it.
        if self.die_with_parent {
            die_with_parent(self.channel)?;
        }
        // A directory that only the user may enter, such as one on NFS.
        match early {
            Err(e) if e.kind() == Kind::Denied && process.uid != 0 => process.enter_cwd()?,
            other => other?,
        }
        self.wait()?;
        Ok(Confined { confining: self, capabilities, init })
    }
}

impl Confining<'_> {
    /// Wait for what the start is held by.
    fn wait(&self) -> Result<()> {
        if !self.die_with_parent {
            // From here on it hears by the channel that the runner is gone.
            prctl::set_pdeathsig(None).context(|| "prctl(PR_SET_PDEATHSIG, 0)")?;
        }
        let go = || match self.channel.receive()? {
            Message::Go => Ok(()),
            _ => Err(Error::new(Kind::System, "the runner is gone")),
        };
        match self.setup.hold {
            Hold::No => Ok(()),
            Hold::Go => go(),
            Hold::Gate(gate) => {
                // Who creates is to learn of a command that there is not.
                lookup::find_command(self.process)?;
                self.channel.send(&Message::Waiting)?;
                go()?;
                self.channel.replace_by(gate.wait()?)
            }
        }
    }
}

impl Confined<'_> {
    /// The last rights go, and the command comes. The point of no return is execveat.
    pub(super) fn exec(self) -> Result<Error> {
        let Confining { process, setup, channel, passed, .. } = self.confining;
        let (init, capabilities) = (self.init, self.capabilities);
        // Init would have to mark it close-on-exec. Without that call the command's failure is told on standard error.
        let marks = setup.seccomp.is_none_or(|filter| filter.fcntl);
        let error_fd = marks.then(|| channel.as_fd().as_raw_fd());
        let (argv, env) = (process.init_argv(error_fd)?, process.c_env()?);
        for fd in passed.into_iter().chain(error_fd) {
            sys::set_close_on_exec(fd, false)?;
        }
        if let Some(turns) = setup.hooks.filter(|t| hooks::any(t.hooks, hooks::Kind::StartContainer)) {
            let state = (turns.state)("created", nix::unistd::getpid().as_raw());
            // Who is asked by a filter waits for the command's questions alone.
            let filter = setup.seccomp.filter(|filter| filter.notify.is_none());
            let rights = || restrict(process, &capabilities, filter, |_| false);
            let scene = hooks::Scene { state: &state, cwd: &process.cwd, become_it: Some(&rights) };
            hooks::run(turns.hooks, hooks::Kind::StartContainer, scene)?;
        }
        reset_signals()?;
        process.sched.apply_last()?;
        process.lsm.confine()?;
        // The command's limits hold already: no more descriptors than there must be.
        let asks = setup.seccomp.is_some_and(|filter| filter.notify.is_some());
        let channel = asks.then(|| channel.duplicate()).transpose()?;
        let give = move |listener| {
            let ask = |channel: Channel| -> Result<Message> {
                channel.send(&Message::Listener(listener))?;
                channel.receive()
            };
            channel.is_some_and(|channel| matches!(ask(channel), Ok(Message::Go)))
        };
        prctl::set_name(super::UNBORN).context(|| "prctl(PR_SET_NAME)")?;
        restrict(process, &capabilities, setup.seccomp, give)?;
        let error = match setup.seccomp.is_none_or(|filter| filter.execveat) {
            true => sys::exec_fd(init.as_fd(), &argv, &env),
            // A /proc of the container's own making leads to nothing but what it may execute itself.
            false => sys::exec_by_path(init.as_fd(), &argv, &env),
        };
        let what = match error.errno() {
            Some(Errno::E2BIG) => "the command and its environment are longer than the kernel passes on",
            _ => "execute init",
        };
        Ok(error.wrap(what))
    }
}

/// The rights that are left, in the order in which each can still be given up: no new privileges; the filter, which
/// needs CAP_SYS_ADMIN or that, so that without it the one is kept until the filter is in, and the calls that are left
/// after it are few; the capabilities.
fn restrict(
    process: &process::Plan,
    capabilities: &caps::Sets,
    filter: Option<&Program>,
    give: impl FnOnce(OwnedFd) -> bool + Send + 'static,
) -> Result<()> {
    if process.no_new_privileges {
        prctl::set_no_new_privs().context(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)")?;
    }
    match filter {
        None => capabilities.finish(),
        Some(filter) => {
            // Whatever can be done before it is not for the filter to allow.
            match process.no_new_privileges {
                true => capabilities.finish()?,
                false => capabilities.keep_also(caps::SYS_ADMIN)?,
            }
            filter.install(give).context(|| "install the filter of system calls")?;
            if process.no_new_privileges { Ok(()) } else { capabilities.finish() }
        }
    }
}

/// Be killed when the parent is, also when that has happened before we asked.
fn die_with_parent(channel: &Channel) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)")?;
    match channel.is_open() {
        true => Ok(()),
        false => Err(Error::new(Kind::System, "the runner is gone")),
    }
}

/// The ids of a new user namespace are ours only once we take them.
pub(super) fn become_root_inside() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)
        .context(|| "setresgid(0, 0, 0)")
        .context(|| "become root in the user namespace")?;
    // Denied in a namespace of one id: there are no groups to lose then.
    let _ = setgroups(&[]);
    setresuid(uid, uid, uid).context(|| "setresuid(0, 0, 0)").context(|| "become root in the user namespace")
}

/// The command starts with no signal blocked and none ignored: what the runner ignores, or its caller (nohup, a job in
/// the background of a script), is no affair of the container's.
fn reset_signals() -> Result<()> {
    sys::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .context(|| "sigprocmask(SIG_SETMASK, [])")
}
