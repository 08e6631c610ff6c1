//! `rm`: a container and all that it wrote.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use argh::CommandInfoWithArgs;
use coracle_store::lock::Lock;
use coracle_store::{ContainerDir, Locations, Store};
use coracle_sys::{Error, Kind, Result};

use super::typed::{self, Typed};
use super::{Global, no_such_container, remove_files, sweep};
use crate::record::Record;
use crate::state::{Face, Identity, State, States};

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

fn remove(store: &Store, typed: &str, force: bool) -> Result<()> {
    let dir = match store.find_container(typed) {
        Err(e) if e.kind() == Kind::NotFound => return Err(no_such_container(typed)),
        other => other?,
    };
    let states = States::of(Face::Image, None)?;
    let state = states.read(&dir.id).ok().filter(|s| s.init.is_alive());
    let refused =
        |why: &str| Err(Error::new(Kind::Busy, format!("cannot remove container {typed:?}: {why}")));
    let held = match (&state, force) {
        (Some(_), false) => return refused("container is running: kill it first, or rm -f"),
        (Some(state), true) => {
            state.init.kill()?;
            await_end(&dir, Some(state))?
        }
        (None, true) => await_end(&dir, None)?,
        (None, false) => match lock(&dir)? {
            Held::Ours(lock) => Some(lock),
            Held::Gone => None,
            Held::Others => return refused("it is about to start, or to go"),
        },
    };
    if held.is_none() {
        return Ok(());
    }
    if let Ok(record) = Record::read(&dir.path) {
        store.release_name(&record.name, &dir.id)?;
    }
    remove_files(store, &dir.id)?;
    states.remove(&dir.id)
}

/// Who has a container's directory.
enum Held {
    Ours(Lock),
    /// The runner in front of it.
    Others,
    /// Nobody: it is not there any more.
    Gone,
}

fn lock(dir: &ContainerDir) -> Result<Held> {
    match Lock::try_existing(&dir.path) {
        Ok(Some(lock)) if lock.is_at(&dir.path) => Ok(Held::Ours(lock)),
        Ok(None) => Ok(Held::Others),
        Err(e) if e.kind() != Kind::NotFound => Err(e),
        _ => Ok(Held::Gone),
    }
}

/// The runner in front of it tidies up first; what it leaves is then ours. One that was stopped does nothing
/// any more. Nothing where all is gone.
fn await_end(dir: &ContainerDir, state: Option<&State>) -> Result<Option<Lock>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match lock(dir)? {
            Held::Ours(lock) if state.is_none_or(|s| !s.init.is_alive()) => return Ok(Some(lock)),
            Held::Gone => return Ok(None),
            _ => {}
        }
        if let Some(runner) = state.and_then(|s| s.runner).filter(Identity::is_stopped) {
            runner.kill()?;
        }
        if Instant::now() > end {
            return Err(Error::new(Kind::Busy, format!("the container {} does not end", dir.id)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
