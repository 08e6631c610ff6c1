//! The life of a container: in the foreground, from its plan until nothing of it is left; or begun, and left to an OCI
//! client. The process is made first, and while it sets itself up what others need to find it is written. Its command waits
//! for that. Where the plan comes from, and what attending it means, is the callers' business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Error, Kind, Result};

use super::oci::document;
use crate::cgroups::{self, Cgroup, Stats};
use crate::embedded::init_image;
use crate::guardian::{Avenger, Guardian};
use crate::hooks::{self, Scene};
use crate::launch::{self, Ahead, Container, Gate, Hold, Setup, Starting, Turns};
use crate::namespaces::Kind as Ns;
use crate::plan::Plan;
use crate::rdt::Class;
use crate::relay::Output;
use crate::state::{self, Identity, Oci, Reserved, State, States};
use crate::streams::Streams;

/// A container that is about to be.
pub(crate) struct Life<'a> {
    /// What it will be.
    pub(crate) plan: &'a Plan,
    /// Its groups.
    pub(crate) groups: &'a cgroups::Plan,
    /// Where its state is kept.
    pub(crate) states: &'a States,
    /// What the state names as its home: the bundle, or the directory in the store.
    pub(crate) home: &'a Path,
    /// Its standard streams.
    pub(crate) streams: Given,
    /// Its network namespace, where one was begun for it.
    pub(crate) network: Option<Ahead>,
    /// Joins its process, by its pid, and its network namespace to its network.
    pub(crate) attach: Option<&'a Attach<'a>>,
    /// It must not outlive us, whatever its command does to the parent-death signal.
    pub(crate) guarded: bool,
    /// When memory runs out, all of it is killed.
    pub(crate) together: bool,
    /// Its state stays when it has ended in front of us. What is left to others stays anyway.
    pub(crate) keep: bool,
    /// What is kept for an OCI client.
    pub(crate) oci: Option<Oci>,
}

/// What joins a container to its network.
pub(crate) type Attach<'a> = dyn Fn(BorrowedFd<'_>) -> Result<()> + 'a;

/// The standard streams that a container is given.
#[derive(Default)]
pub(crate) enum Given {
    /// Those of a terminal of its own.
    #[default]
    Terminal,
    /// These: input, output and error.
    These(Box<[OwnedFd; 3]>),
    /// The caller's, whatever they are.
    Ours,
    /// The caller's, but no terminal of the caller's; and the input only where it was asked for.
    Pipes { input: bool },
}

/// What the container's groups tell at its end.
#[derive(Default)]
pub(crate) struct Usage {
    /// What was used, where groups counted it.
    pub(crate) stats: Stats,
    /// Limits that the host could not give.
    pub(crate) dropped: Vec<String>,
    /// All of it was killed because memory ran out.
    pub(crate) ran_out: bool,
    /// How it was confined, where that is to be told.
    pub(crate) confined: Option<serde_json::Value>,
}

impl Life<'_> {
    /// Start it, do `meanwhile`, with the runner and its pid, what must be done before its command runs, stay with it through
    /// `attend`, and take it away; `over` hears how it ended before its state goes.
    pub(crate) fn live<T>(
        mut self,
        meanwhile: impl FnOnce(Identity, i32) -> Result<()>,
        attend: impl FnOnce(Container, Vec<Output>) -> Result<T>,
        over: impl FnOnce(&T, &Usage),
    ) -> Result<(T, Usage)> {
        for warning in &self.plan.warnings {
            coracle_sys::warn!("runner: {warning}");
        }
        let reserved = self.states.reserve(&self.plan.id)?;
        let (mut guardian, mut avenger) = (None, None);
        let ended = reserved.begin(self.groups).and_then(|()| self.groups.create()).and_then(|mut cgroup| {
            let ended = self
                .start(&mut cgroup, &reserved, (&mut guardian, &mut avenger), meanwhile)
                .and_then(|(container, outputs)| attend(container, outputs));
            let mut usage =
                Usage { stats: cgroup.stats(), dropped: cgroup.plan().dropped.clone(), ..Usage::default() };
            // With what is kept its groups stay, for whoever deletes it.
            let removed = if self.keep && ended.is_ok() { Ok(()) } else { cgroup.end() };
            let ended = ended.map_err(|e| starved(e, &usage.stats))?;
            usage.ran_out = match avenger.take() {
                // Who it has killed the kernel need not have counted.
                Some(avenger) => Avenger::has_killed(avenger),
                None => self.together && usage.stats.oom_kills.is_some_and(|n| n > 0),
            };
            removed.map(|()| (ended, usage))
        });
        if let Ok((ended, usage)) = &ended {
            over(ended, usage);
        }
        if ended.is_err() || !self.keep {
            self.undone()?;
        }
        ended
    }

    /// Start it for others to live with: behind a gate it waits for a start, without one its command runs. `tell` is
    /// called when all is done that can fail before its command, and its error undoes all. Nothing of it is ours
    /// afterwards.
    pub(crate) fn leave(
        mut self,
        reserved: &Reserved,
        gate: Option<&Gate>,
        tell: impl FnOnce(&mut Starting, &State) -> Result<()>,
    ) -> Result<()> {
        self.plan.warnings.iter().for_each(|warning| coracle_sys::warn!("runner: {warning}"));
        let left = reserved.begin(self.groups).and_then(|()| self.groups.create()).and_then(|mut cgroup| {
            let left = self.start_and_leave(&mut cgroup, reserved, gate, tell);
            left.map_err(|e| {
                let stats = cgroup.stats();
                let _ = cgroup.end();
                starved(e, &stats)
            })
        });
        if left.is_err() {
            self.undone()?;
        }
        left
    }

    /// Nothing of it is left but its state, which goes now.
    fn undone(&self) -> Result<()> {
        self.oci.as_ref().map_or(Ok(()), |o| o.class.remove())?;
        self.states.remove(&self.plan.id)?;
        if hooks::any(&self.plan.hooks, hooks::Kind::Poststop) {
            poststop(&self.plan.hooks, &self.hooks_state("stopped", 0), self.home);
        }
        Ok(())
    }

    fn start_and_leave(
        &mut self,
        cgroup: &mut Cgroup,
        reserved: &Reserved,
        gate: Option<&Gate>,
        tell: impl FnOnce(&mut Starting, &State) -> Result<()>,
    ) -> Result<()> {
        let (mut starting, _) = self.spawn(cgroup, gate.map_or(Hold::Go, Hold::Gate))?;
        let prepared = (|| {
            let init = starting.identity().map_err(|e| Error::new(e.kind(), e.to_string()))?;
            let state = self.state(init, None, cgroup);
            starting.ready()?;
            if gate.is_some() {
                starting.waiting()?;
            }
            reserved.write(&state)?;
            tell(&mut starting, &state)
        })();
        if let Err(e) = prepared {
            return Err(starting.give_up().unwrap_or(e));
        }
        if gate.is_some() {
            // It has the lock's descriptor as well, and waits longer than we live.
            reserved.release();
        }
        starting.go();
        match gate {
            Some(_) => starting.leave(),
            None => {
                let pid = starting.finish()?.pid();
                self.hooks_after(hooks::Kind::Poststart, "running", pid)?;
            }
        }
        Ok(())
    }

    /// Its process, on its way.
    fn spawn(&mut self, cgroup: &mut Cgroup, hold: Hold<'_>) -> Result<(Starting, Vec<Output>)> {
        let enter = |pid: Option<i32>| cgroup.enter_late(pid.unwrap_or(0));
        let network = self.network.take().and_then(Ahead::finish);
        // Beside the child, but where a kernel parameter of the child's is one of the device.
        let early = self.plan.sysctl.iter().any(|(path, _)| path.to_string_lossy().contains("/eth"));
        let early = self.attach.filter(|_| early).zip(network.as_ref());
        if let Some((attach, network)) = early {
            attach(network.as_fd())?;
        }
        let streams = match std::mem::take(&mut self.streams) {
            Given::Terminal | Given::Ours => Streams::ours(),
            Given::These(streams) => Streams::put(&streams)?,
            Given::Pipes { input } => Streams::replace(input)?,
        };
        let tell = |status: &str, pid: i32| self.hooks_state(status, pid);
        let turns = Turns {
            hooks: &self.plan.hooks,
            rootfs: self.oci.as_ref().map_or(self.home, |o| &o.rootfs),
            state: &tell,
        };
        let turns = (!turns.hooks.is_empty()).then_some(turns);
        let setup = Setup {
            init: init_image(),
            hooks: turns,
            born_in: cgroup.v2_dir_fd(),
            enter_cgroups: if cgroup.is_entered_late() { Some(&enter) } else { None },
            adopted: cgroup.is_adopted(),
            seccomp: self.plan.seccomp.as_ref(),
            network: network.as_ref().map(AsFd::as_fd),
            wants_network: network.is_none() && self.attach.is_some(),
            hold,
        };
        let (mut starting, outputs) = (launch::spawn(self.plan, &setup)?, streams.restore());
        let adopted = match cgroup.is_adopted() {
            true => cgroup.adopt(starting.pid()).and_then(|()| starting.adopted()),
            false => Ok(()),
        };
        let filtered = adopted.and_then(|()| cgroup.filter_devices(starting.pid()));
        let mut class = Class::default();
        let classed = filtered.and_then(|()| match &self.plan.rdt {
            Some(rdt) => rdt.enter(starting.pid()).map(|entered| class = entered),
            None => Ok(()),
        });
        let joined = classed.and_then(|()| match (self.attach.filter(|_| early.is_none()), &network) {
            (None, _) => Ok(()),
            (Some(attach), Some(network)) => attach(network.as_fd()),
            (Some(attach), None) => starting.network().map_or(Ok(()), attach),
        });
        let prepared = joined.and_then(|()| match turns {
            Some(turns) if turns.before_the_root() => starting.built(|pid| {
                let state = tell("creating", pid);
                for kind in [hooks::Kind::Prestart, hooks::Kind::CreateRuntime] {
                    hooks::run(turns.hooks, kind, Scene { state: &state, cwd: self.home, become_it: None })?;
                }
                Ok(())
            }),
            _ => Ok(()),
        });
        if let Some(oci) = &mut self.oci {
            oci.class = class;
        }
        match prepared {
            Ok(()) => Ok((starting, outputs)),
            // A child that has failed tells more than what could not be done for it.
            Err(e) => Err(starting.give_up().unwrap_or(e)),
        }
    }

    /// Hooks whose turn is after the command has begun.
    fn hooks_after(&self, kind: hooks::Kind, status: &str, pid: i32) -> Result<()> {
        if !hooks::any(&self.plan.hooks, kind) {
            return Ok(());
        }
        let state = self.hooks_state(status, pid);
        hooks::run(&self.plan.hooks, kind, Scene { state: &state, cwd: self.home, become_it: None })
    }

    /// The state document that hooks read.
    fn hooks_state(&self, status: &str, pid: i32) -> String {
        document(&self.plan.id, self.home, self.oci.as_ref(), status, pid).to_string()
    }

    fn start(
        &mut self,
        cgroup: &mut Cgroup,
        reserved: &Reserved,
        (guardian, avenger): (&mut Option<Guardian>, &mut Option<Avenger>),
        meanwhile: impl FnOnce(Identity, i32) -> Result<()>,
    ) -> Result<(Container, Vec<Output>)> {
        let (mut starting, outputs) = self.spawn(cgroup, Hold::Go)?;
        let prepared = (|| {
            let runner = Identity::of_this_process()?;
            meanwhile(runner, starting.pid())?;
            let init = starting.identity().map_err(|e| Error::new(e.kind(), e.to_string()))?;
            // What is kept is nobody's to sweep when its runner is gone.
            let state = self.state(init, (!self.keep).then_some(runner), cgroup);
            // Who finds the state may enter the container: not before it is in its own root.
            starting.ready()?;
            if self.guarded && Guardian::is_needed(&self.plan.process) {
                *guardian = Some(Guardian::over(starting.pidfd())?);
            }
            if self.together
                && let Some(oom) = cgroup.die_together()?
            {
                *avenger = Some(Avenger::over(starting.pidfd(), &oom)?);
            }
            reserved.write(&state)
        })();
        if let Err(e) = prepared {
            // A child that has failed tells more than what could not be done for it.
            return Err(starting.give_up().unwrap_or(e));
        }
        starting.go();
        let container = starting.finish()?;
        self.hooks_after(hooks::Kind::Poststart, "running", container.pid())?;
        container.warnings().iter().for_each(|warning| coracle_sys::warn!("runner: {warning}"));
        Ok((container, outputs))
    }

    fn state(&self, init: Identity, runner: Option<Identity>, cgroup: &Cgroup) -> State {
        State {
            version: state::VERSION,
            id: self.plan.id.clone(),
            init,
            runner,
            bundle: self.home.to_path_buf(),
            namespaces: Ns::ALL.into_iter().filter(|k| self.plan.namespaces.is_own(*k)).collect(),
            cgroups: cgroup.plan().clone(),
            oci: self.oci.clone(),
        }
    }
}

/// The error of a start, for which the kernel may have left no memory.
fn starved(e: Error, stats: &Stats) -> Error {
    match stats.oom_kills {
        Some(1..) if e.kind() == Kind::System => e.wrap("the memory limit is too low to start the container"),
        _ => e,
    }
}

/// Hooks whose turn is when nothing is left. That one fails is told, and keeps none from its turn.
pub(super) fn poststop(hooks: &[hooks::Hook], state: &str, bundle: &Path) {
    let scene = Scene { state, cwd: bundle, become_it: None };
    for ended in hooks::each(hooks, hooks::Kind::Poststop, scene) {
        if let Err(e) = ended {
            coracle_sys::warn!("runner: {e}");
        }
    }
}
