//! `start ID`: the command of a created container.

use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::oci::{Container, Status};
use crate::hooks::{self, Scene};
use crate::seccomp::Choice;

/// Let its command run.
pub(crate) fn run(global: &Global, id: &str) -> Result<u8> {
    let mut container = Container::find(global, id)?;
    let _alone = container.hold()?;
    let oci = container.state.oci.as_ref();
    let command = oci.and_then(|o| o.spec.process.as_ref()?.args.first().cloned()).unwrap_or_default();
    let refused = |why: &str| Err(Error::new(Kind::Invalid, why.to_owned()));
    let Some(mut starting) = container.behind_its_gate(&command)? else {
        return match container.status()? {
            Status::Stopped => refused("cannot start a container that has stopped"),
            _ => refused("cannot start an already running container"),
        };
    };
    let profile = container.state.oci.as_ref().and_then(|o| o.spec.linux.as_ref()?.seccomp.clone());
    if let Some(profile) = profile.filter(|p| p.listener_path.is_some()) {
        let program = Choice::Profile(profile).compile(&[])?;
        starting.ask(program.and_then(|p| p.notify));
    }
    starting.go();
    let started = starting.finish();
    if let Some(gate) = container.state.oci.as_ref().and_then(|o| o.gate.as_ref()) {
        let _ = std::fs::remove_file(container.states.dir().join(gate));
    }
    started?;
    let Some(oci) = &container.state.oci else { return Ok(0) };
    let hooks = hooks::plan(oci.spec.hooks.as_ref())?;
    if hooks::any(&hooks, hooks::Kind::Poststart) {
        let state = container.document(Status::Running).to_string();
        let scene = Scene { state: &state, cwd: &container.state.bundle, become_it: None };
        if let Err(e) = hooks::run(&hooks, hooks::Kind::Poststart, scene) {
            container.state.init.kill()?;
            container.cgroup()?.kill_all()?;
            return Err(e);
        }
    }
    Ok(0)
}
