//! `rm`: a container and all that it wrote.

use std::time::{Duration, Instant};

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Kind, Result, process};

use super::{Global, no_such_container, remove_files, sweep};
use crate::record::Record;
use crate::state::{Face, States};

/// Remove containers.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "rm", example = "runner rm my-container\nrunner rm -f $(runner ps -aq)")]
pub(crate) struct Flags {
    /// kill those that run, and do not mind those that are not there
    #[argh(switch, short = 'f')]
    force: bool,
    /// their own volumes too, which go in any case
    #[argh(switch, short = 'v')]
    #[allow(dead_code)] // volumes without a name live in the container's directory and go with it
    volumes: bool,
    /// names, ids or beginnings of ids
    #[argh(positional)]
    containers: Vec<String>,
}

/// Remove each; one that cannot be removed does not keep the others.
pub(crate) fn run(global: &Global, flags: &Flags) -> Result<u8> {
    if flags.containers.is_empty() {
        return Err(Error::usage("rm needs the name or id of a container"));
    }
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    sweep::sweep(&store)?;
    let mut code = 0;
    for typed in &flags.containers {
        match remove(&store, typed, flags.force) {
            Ok(()) => println!("{typed}"),
            Err(e) => {
                eprintln!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

fn remove(store: &Store, typed: &str, force: bool) -> Result<()> {
    let dir = match store.find_container(typed) {
        Err(e) if e.kind() == Kind::NotFound && force => return Ok(()),
        Err(e) if e.kind() == Kind::NotFound => return Err(no_such_container(typed)),
        other => other?,
    };
    let states = States::of(Face::Image, None)?;
    if let Some(state) = states.read(&dir.id).ok().filter(|s| s.init.is_alive()) {
        if !force {
            return Err(Error::new(
                Kind::Busy,
                format!("cannot remove container {typed:?}: container is running: stop it first, or rm -f"),
            ));
        }
        let pidfd = process::pidfd_open(state.init.pid)?;
        // Between the look and the open another process may have got the pid.
        if state.init.is_alive() {
            process::pidfd_send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL)?;
        }
        await_end(&states, &state)?;
    }
    if let Ok(record) = Record::read(&dir.path) {
        store.release_name(&record.name, &record.id)?;
    }
    remove_files(store, &dir.id)?;
    states.remove(&dir.id)
}

/// The runner in front of it tidies up first; what it leaves is then ours.
fn await_end(states: &States, state: &crate::state::State) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    let runner_is_busy = || state.runner.is_some_and(|r| r.is_alive()) && states.read(&state.id).is_ok();
    while state.init.is_alive() || runner_is_busy() {
        if Instant::now() > end {
            return Err(Error::new(Kind::Busy, format!("the container {} does not end", state.id)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
