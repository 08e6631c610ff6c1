//! `delete ID`: a container of an OCI client goes.

use std::ffi::OsString;
use std::time::Duration;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::life::poststop;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use crate::hooks;
use crate::state::{Face, States};

/// How often it is looked whether a container that is being made is there, or gone.
const PATIENCE: u32 = 500;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "delete",
    "Remove a container that has ended, or was never started.",
    typed::ID,
    &[typed::switch("--force", Some('f'), "kill it first, and do not mind if it is not there")],
    &["runner delete my-container", "runner delete --force my-container"],
);

/// Remove it.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let (id, force) = (typed.one("delete", "the container's id")?, typed.get("--force").is_some());
    let Some(mut container) = find(global, id, force)? else { return Ok(0) };
    let _alone = container.hold()?;
    match container.status()? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            let why = format!("cannot delete container {id} that is not stopped: {}", status.word());
            return Err(Error::new(Kind::Busy, why));
        }
    }
    let cgroup = container.cgroup()?;
    container.state.init.kill()?;
    cgroup.kill_all()?;
    cgroup.remove()?;
    container.states.remove(id)?;
    let oci = container.state.oci.as_ref();
    let hooks = hooks::plan(oci.and_then(|o| o.spec.hooks.as_ref()))?;
    if !hooks.is_empty() {
        let state = container.document(Status::Stopped).to_string();
        poststop(&hooks, &state, &container.state.bundle);
    }
    Ok(0)
}

/// The container; by force none where there is none, once nothing is left of what was to be one.
fn find(global: &Global, id: &str, force: bool) -> Result<Option<Container>> {
    let states = States::of(Face::Oci, global.root.as_deref())?;
    for _ in 0..PATIENCE {
        match Container::find(global, id) {
            Err(e) if force && e.kind() == Kind::NotFound => states.forget_unmade(id)?,
            other => return other.map(Some),
        }
        if !states.is_taken(id) {
            return Ok(None);
        }
        // It is being made; or who made it was killed, and its first process has yet to find that out.
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Error::new(Kind::Busy, format!("container {id:?} is being created")))
}
