//! `rm`: a container and all that it wrote.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Kind, Result};

use super::container::ending::{Held, await_end, has_ended, kill, lock, running, settle};
use super::typed::{self, Typed};
use super::{Global, forget, no_such_container, sweep};
use crate::diary::{self, Event};
use crate::record::{self, Record};
use crate::state::{Face, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "rm",
    "Remove containers.",
    typed::CONTAINERS,
    &[
        typed::switch("--force", Some('f'), "kill those that run, and do not mind those that are not there"),
        // Volumes without a name live in the container's directory and go with it.
        typed::switch("--volumes", Some('v'), "their own volumes too, which go in any case"),
    ],
    &["runner rm my-container", "runner rm -f $(runner ps -aq)"],
);

/// What was typed.
#[derive(Debug, Default)]
struct Flags {
    force: bool,
    containers: Vec<String>,
}

/// Remove each; one that cannot be removed does not keep the others.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let flags = &Flags { force: typed.get("--force").is_some(), containers: typed.words };
    if flags.containers.is_empty() {
        return Err(Error::usage("rm needs the name or id of a container"));
    }
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    sweep::sweep(&store);
    let mut code = 0;
    for typed in &flags.containers {
        match remove(&store, typed, flags.force) {
            Ok(()) => coracle_sys::say!("{typed}"),
            // As asked: said, and no error.
            Err(e) if flags.force && e.kind() == Kind::NotFound => coracle_sys::warn!("runner: {e}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Remove one, which must not run unless it is forced.
pub(super) fn remove(store: &Store, typed: &str, force: bool) -> Result<()> {
    let dir = match store.find_container(typed) {
        Err(e) if e.kind() == Kind::NotFound => return Err(no_such_container(typed)),
        other => other?,
    };
    let states = States::of(Face::Image, None)?;
    let mut state = running(&dir)?;
    if state.is_none() && force {
        // One that is about to begin again is told that it does not.
        state = settle(&dir)?;
    }
    let refused =
        |why: &str| Err(Error::new(Kind::Busy, format!("cannot remove container {typed:?}: {why}")));
    let held = match (state, force) {
        (Some(_), false) => return refused("container is running: kill it first, or rm -f"),
        (Some(state), true) => {
            record::mark(&dir.path)?;
            kill(&dir, state)?
        }
        (None, _) => match lock(&dir)? {
            Held::Ours(lock) => Some(lock),
            Held::Gone => None,
            Held::Others if has_ended(&dir.path) => await_end(&dir, None)?,
            Held::Others => return refused("it is about to start, or to go"),
        },
    };
    if held.is_none() {
        return Ok(());
    }
    let record = Record::read(&dir.path).ok();
    if let Some(record) = &record {
        diary::tell(&dir.path, record, &[Event::plain("destroy")]);
    }
    forget(store, &dir.id, record.as_ref().map(|r| r.name.as_str()))?;
    states.remove(&dir.id)
}
