//! `delete ID`: a container of an OCI client goes.

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::life::poststop;
use super::oci::{Container, Status};
use crate::hooks;

/// Remove a container that has ended, or was never started.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "delete",
    example = "runner delete my-container\nrunner delete --force my-container"
)]
pub(crate) struct Flags {
    /// kill it first, and do not mind if it is not there
    #[argh(switch, short = 'f')]
    force: bool,
    /// the container's id
    #[argh(positional)]
    id: String,
}

/// Remove it.
pub(crate) fn run(global: &Global, flags: &Flags) -> Result<u8> {
    let mut container = match Container::find(global, &flags.id) {
        Err(e) if flags.force && e.kind() == Kind::NotFound => return Ok(0),
        other => other?,
    };
    let _alone = container.hold()?;
    match container.status()? {
        Status::Stopped | Status::Created => {}
        _ if flags.force => {}
        status => {
            let why = format!("cannot delete container {} that is not stopped: {}", flags.id, status.word());
            return Err(Error::new(Kind::Busy, why));
        }
    }
    let cgroup = container.cgroup()?;
    container.state.init.kill()?;
    cgroup.kill_all()?;
    cgroup.remove()?;
    container.states.remove(&flags.id)?;
    let oci = container.state.oci.as_ref();
    let hooks = hooks::plan(oci.and_then(|o| o.spec.hooks.as_ref()))?;
    if !hooks.is_empty() {
        let state = container.document(Status::Stopped).to_string();
        poststop(&hooks, &state, &container.state.bundle);
    }
    Ok(0)
}
