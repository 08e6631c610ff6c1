//! `kill`: a signal to containers.

use std::os::fd::AsFd;

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Kind, Result, process};

use super::{Global, no_such_container};
use crate::from_image::units;
use crate::state::{Face, State, States};

/// Send a signal to containers, KILL if not said.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "kill", example = "runner kill my-container\nrunner kill -s HUP my-container")]
pub(crate) struct Flags {
    /// the signal, by name or number
    #[argh(option, short = 's')]
    signal: Option<String>,
    /// names, ids or beginnings of ids; a second word that is a signal is one
    #[argh(positional)]
    containers: Vec<String>,
}

/// Send it to each.
pub(crate) fn run(global: &Global, flags: &Flags) -> Result<u8> {
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    let mut containers = flags.containers.clone();
    let mut signal = flags.signal.clone();
    if let ([_, word], None) = (&containers[..], &signal)
        && units::signal(word).is_ok()
        && store.find_container(word).is_err()
    {
        signal = containers.pop();
    }
    let number = units::signal(signal.as_deref().unwrap_or("KILL"))?;
    if containers.is_empty() {
        return Err(Error::usage("kill needs the name or id of a container"));
    }
    let mut code = 0;
    for typed in &containers {
        match send(&store, typed, number) {
            Ok(()) => coracle_sys::say!("{typed}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

fn send(store: &Store, typed: &str, signal: i32) -> Result<()> {
    let state = running(store, typed)?;
    let pidfd = process::pidfd_open(state.init.pid)?;
    if !state.init.is_alive() {
        return Err(not_running(typed));
    }
    process::pidfd_send_signal(pidfd.as_fd(), signal)
}

/// The state of a container that runs.
pub(super) fn running(store: &Store, typed: &str) -> Result<State> {
    let dir = store.find_container(typed).map_err(|e| match e.kind() {
        Kind::NotFound => no_such_container(typed),
        _ => e,
    })?;
    let state = States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive());
    state.ok_or_else(|| not_running(typed))
}

fn not_running(typed: &str) -> Error {
    Error::new(Kind::Invalid, format!("container {typed} is not running"))
}
