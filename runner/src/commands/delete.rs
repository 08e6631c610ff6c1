//! `delete ID`: a container of an OCI client goes.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::life::poststop;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use crate::hooks;
use crate::state::{Face, States};

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
    let mut container = match Container::find(global, id) {
        Err(e) if force && e.kind() == Kind::NotFound => {
            States::of(Face::Oci, global.root.as_deref())?.forget_unmade(id)?;
            return Ok(0);
        }
        other => other?,
    };
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
