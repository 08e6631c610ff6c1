//! `delete ID`: a container of an OCI client goes.

use std::ffi::OsString;
use std::time::Duration;

use argh::CommandInfoWithArgs;
use coracle_store::lock::Lock;
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
    let Some((container, _alone)) = hold(global, id, force)? else { return Ok(0) };
    match container.status()? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => return Err(not_stopped(id, status)),
    }
    let cgroup = container.cgroup()?;
    container.state.init.kill()?;
    cgroup.kill_all()?;
    cgroup.remove()?;
    let oci = container.state.oci.as_ref();
    oci.map_or(Ok(()), |o| o.class.remove())?;
    container.states.remove(id)?;
    let hooks = hooks::plan(oci.and_then(|o| o.spec.hooks.as_ref()))?;
    if !hooks.is_empty() {
        let state = container.document(Status::Stopped).to_string();
        poststop(&hooks, &state, &container.state.bundle);
    }
    Ok(0)
}

fn not_stopped(id: &str, status: Status) -> Error {
    Error::new(Kind::Busy, format!("cannot delete container {id} that is not stopped: {}", status.word()))
}

/// The container, held against others. By force it is waited for who holds it, and is none where there is none, once
/// nothing is left of what was to be one.
fn hold(global: &Global, id: &str, force: bool) -> Result<Option<(Container, Lock)>> {
    let states = States::of(Face::Oci, global.root.as_deref())?;
    let mut busy = Error::new(Kind::Busy, format!("container {id:?} is being created"));
    for _ in 0..PATIENCE {
        let held = Container::find(global, id).and_then(|mut container| match container.hold() {
            Err(e) if e.kind() == Kind::Busy && container.is_in_front() => {
                if !force {
                    return Err(not_stopped(id, container.status()?));
                }
                // Its runner takes all of it away, once it has ended.
                let cgroup = container.cgroup()?;
                if cgroup.is_frozen()? {
                    cgroup.thaw()?;
                }
                container.state.init.kill()?;
                Err(e)
            }
            held => Ok((container, held?)),
        });
        match held {
            Err(e) if force && e.kind() == Kind::Busy => busy = e,
            Err(e) if force && matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {
                if e.kind() == Kind::Invalid {
                    coracle_sys::warn!("runner: {e}");
                }
                states.forget_unmade(id)?;
                if !states.is_taken(id) {
                    return Ok(None);
                }
            }
            other => return other.map(Some),
        }
        // It is being made; or who made it was killed, and its first process has yet to find that out.
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(busy)
}
