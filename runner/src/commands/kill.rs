//! `kill`: a signal to containers.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::{ContainerDir, Locations, Store};
use coracle_sys::handle::Handle;
use coracle_sys::{Error, Kind, Result};
use nix::errno::Errno;

use super::container::ending;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use super::{Global, no_such_container};
use crate::cgroups::Cgroup;
use crate::diary::{self, Event};
use crate::from_image::units;
use crate::record::{self, Record};
use crate::state::State;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "kill",
    "Send a signal to containers: KILL if not said, and TERM to one of an OCI client.",
    typed::CONTAINERS_AND_SIGNAL,
    &[
        typed::option("--signal", Some('s'), "signal", "the signal, by name or number"),
        typed::switch("--all", Some('a'), "OCI: to all its processes"),
    ],
    &["runner kill my-container", "runner kill -s HUP my-container"],
);

/// What was typed.
#[derive(Debug, Default)]
struct Flags {
    signal: Option<String>,
    all: bool,
    containers: Vec<String>,
}

/// Send it to each.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let flags = &Flags {
        signal: typed.get("--signal").map(str::to_owned),
        all: typed.get("--all").is_some(),
        containers: typed.words,
    };
    let typed = flags.containers.first().map_or("", String::as_str);
    if let Some(container) = Container::if_meant(global, typed, flags.all)? {
        return kill_oci(&container, flags);
    }
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    let mut containers = flags.containers.clone();
    let mut signal = flags.signal.clone();
    if let ([first, word], None) = (&containers[..], &signal)
        && (units::signal(word).is_ok() || looks_like_a_signal(word))
        && store.find_container(word).is_err()
    {
        store.find_container(first).map_err(|e| unfound(e, first))?;
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

/// `kill ID [SIGNAL]`, as OCI clients say it.
fn kill_oci(container: &Container, flags: &Flags) -> Result<u8> {
    let signal = match &flags.containers[..] {
        [_] => flags.signal.as_deref().unwrap_or("TERM"),
        [_, signal] if flags.signal.is_none() => signal,
        _ => return Err(Error::usage("kill ID [SIGNAL]: one container of an OCI client, and one signal")),
    };
    // 0 is none: it asks whether there is anybody to be sent one.
    let number = match signal {
        "0" => 0,
        named => units::signal(named).map_err(|_| Error::usage(format!("unknown signal {named:?}")))?,
    };
    let status = container.status()?;
    let cgroup = container.cgroup()?;
    if flags.all {
        if number == libc::SIGKILL {
            container.state.init.kill()?;
            return cgroup.kill_all().map(|()| 0);
        }
        for pid in cgroup.processes()? {
            // One that is gone meanwhile is gone.
            let _ = Handle::open(pid).and_then(|process| process.signal(number));
        }
        return Ok(0);
    }
    let gone = || Error::new(Kind::Invalid, "container not running");
    if status == Status::Stopped {
        return Err(gone());
    }
    // The kernel keeps from the first process of a pid namespace what would end it, and one that waits for its start
    // has said nothing of signals.
    let ends = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    let number = if status == Status::Created && ends.contains(&number) { libc::SIGKILL } else { number };
    container.state.init.hold().map_err(|_| gone())?.signal(number)?;
    if status == Status::Paused && number == libc::SIGKILL {
        cgroup.thaw()?;
    }
    Ok(0)
}

/// No name of a container that people give is in capitals.
fn looks_like_a_signal(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn unfound(e: Error, typed: &str) -> Error {
    match e.kind() {
        Kind::NotFound => no_such_container(typed),
        _ => e,
    }
}

fn send(store: &Store, typed: &str, signal: i32) -> Result<()> {
    let state = running(store, typed)?;
    let process = Handle::open(state.init.pid).map_err(|e| match e.errno() {
        Some(Errno::ESRCH) => not_running(typed),
        _ => e,
    })?;
    // What is meant to end it ends it, as in docker: no policy brings it back, and who is paused is let go on.
    let ends = signal == libc::SIGKILL || Record::read(&state.bundle).is_ok_and(|r| r.stop_signal == signal);
    if ends {
        record::mark(&state.bundle)?;
    }
    if !state.init.is_alive() {
        return Err(not_running(typed));
    }
    process.signal(signal)?;
    let number = signal.to_string();
    diary::tell_of(&state.bundle, &Event { action: "kill", more: &[("signal", &number)] });
    let cgroup = Cgroup::open(state.cgroups.clone())?;
    if ends && cgroup.is_frozen()? {
        cgroup.thaw()?;
    }
    if signal == libc::SIGKILL {
        // Scripts remove next what they have killed.
        let dir = ContainerDir { id: state.id.clone(), path: state.bundle.clone() };
        ending::kill(&dir, state)?;
    }
    Ok(())
}

/// The state of a container that runs.
pub(super) fn running(store: &Store, typed: &str) -> Result<State> {
    let dir = store.find_container(typed).map_err(|e| unfound(e, typed))?;
    ending::running(&dir)?.ok_or_else(|| not_running(typed))
}

fn not_running(typed: &str) -> Error {
    Error::new(Kind::Invalid, format!("container {typed} is not running"))
}
