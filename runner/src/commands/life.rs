//! The life of a container in the foreground, from its plan until nothing of it is left: the process is
//! made first, and while it sets itself up what others need to find it is written. Its command waits
//! for that. Where the plan comes from, and what attending it means, is the callers' business.

use std::os::fd::AsFd;
use std::path::Path;

use coracle_sys::Result;

use crate::cgroups::{self, Cgroup, Stats};
use crate::embedded::init_image;
use crate::launch::{self, Ahead, Container, Setup};
use crate::namespaces::Kind as Ns;
use crate::plan::Plan;
use crate::state::{self, Identity, Reserved, State, States};

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
    /// The standard input is the container's.
    pub(crate) input: bool,
    /// Its network namespace, where one was begun for it.
    pub(crate) network: Option<Ahead>,
}

/// What the container's groups tell at its end.
#[derive(Default)]
pub(crate) struct Usage {
    /// What was used, where groups counted it.
    pub(crate) stats: Stats,
    /// Limits that the host could not give.
    pub(crate) dropped: Vec<String>,
}

impl Life<'_> {
    /// Start it, do `meanwhile` what must be done before its command runs, stay with it through `attend`,
    /// and take it away.
    pub(crate) fn live<T>(
        mut self,
        meanwhile: impl FnOnce(Identity) -> Result<()>,
        attend: impl FnOnce(Container) -> Result<T>,
    ) -> Result<(T, Usage)> {
        for warning in &self.plan.warnings {
            coracle_sys::warn!("runner: {warning}");
        }
        let reserved = self.states.reserve(&self.plan.id)?;
        let ended = self.groups.create().and_then(|mut cgroup| {
            let ended = self.start(&mut cgroup, &reserved, meanwhile).and_then(attend);
            let usage = Usage { stats: cgroup.stats(), dropped: cgroup.plan().dropped.clone() };
            let removed = cgroup.end();
            let ended = ended?;
            removed.map(|()| (ended, usage))
        });
        self.states.remove(&self.plan.id)?;
        ended
    }

    fn start(
        &mut self,
        cgroup: &mut Cgroup,
        reserved: &Reserved,
        meanwhile: impl FnOnce(Identity) -> Result<()>,
    ) -> Result<Container> {
        let mut starting = {
            let enter = |pid: Option<i32>| cgroup.enter_late(pid.unwrap_or(0));
            let network = self.network.take().and_then(Ahead::finish);
            let _input = super::StandardInput::for_container(self.input)?;
            let setup = Setup {
                init: init_image(),
                born_in: cgroup.v2_dir_fd(),
                enter_cgroups: if cgroup.is_entered_late() { Some(&enter) } else { None },
                seccomp: self.plan.seccomp.as_ref(),
                network: network.as_ref().map(AsFd::as_fd),
                hold: true,
            };
            launch::spawn(self.plan, &setup)?
        };
        let prepared = (|| {
            cgroup.filter_devices(starting.pid())?;
            let runner = Identity::of_this_process()?;
            meanwhile(runner)?;
            reserved.write(&self.state(Identity::of(starting.pid())?, runner, cgroup))
        })();
        if let Err(e) = prepared {
            // A child that has failed tells more than what could not be done for it.
            return Err(starting.give_up().unwrap_or(e));
        }
        starting.go();
        let container = starting.finish()?;
        container.warnings().iter().for_each(|warning| coracle_sys::warn!("runner: {warning}"));
        Ok(container)
    }

    fn state(&self, init: Identity, runner: Identity, cgroup: &Cgroup) -> State {
        State {
            version: state::VERSION,
            id: self.plan.id.clone(),
            init,
            runner: Some(runner),
            bundle: self.home.to_path_buf(),
            namespaces: Ns::ALL.into_iter().filter(|k| self.plan.namespaces.is_own(*k)).collect(),
            cgroups: cgroup.plan().clone(),
        }
    }
}
