//! `pause` and `unpause`, which runc calls `resume`: all processes of a container at once.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::{Error, Kind, Result};

use super::kill::running;
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use super::{Global, container};
use crate::cgroups::Cgroup;
use crate::diary::{self, Event};

/// Neither has flags.
pub(crate) static PAUSE: CommandInfoWithArgs = typed::table(
    "pause",
    "Stop all processes of containers.",
    typed::CONTAINERS,
    &[],
    &["runner pause my-container"],
);

/// docker's word.
pub(crate) static UNPAUSE: CommandInfoWithArgs = typed::table(
    "unpause",
    "Let the processes of paused containers go on.",
    typed::CONTAINERS,
    &[],
    &["runner unpause my-container"],
);

/// runc's word.
pub(crate) static RESUME: CommandInfoWithArgs = typed::table(
    "resume",
    "Let the processes of paused containers go on.",
    typed::CONTAINERS,
    &[],
    &["runner resume my-container"],
);

/// Stop them.
pub(crate) fn pause(global: &Global, words: &[OsString]) -> Result<u8> {
    each(global, &PAUSE, words, true)
}

/// Let them go on.
pub(crate) fn unpause(global: &Global, words: &[OsString]) -> Result<u8> {
    each(global, &UNPAUSE, words, false)
}

/// Let them go on.
pub(crate) fn resume(global: &Global, words: &[OsString]) -> Result<u8> {
    each(global, &RESUME, words, false)
}

fn each(global: &Global, table: &CommandInfoWithArgs, words: &[OsString], pause: bool) -> Result<u8> {
    let Some(typed) = Typed::read(table, words)? else { return Ok(0) };
    if let [id] = &typed.words[..]
        && let Some(container) = Container::if_meant(global, id, false)?
    {
        return of_a_client(container, pause);
    }
    if typed.words.is_empty() {
        return Err(Error::usage(format!("{} needs the name or id of a container", table.name)));
    }
    let store = container::store(global)?;
    typed.each(|word| one(&store, word, pause))
}

fn one(store: &Store, typed: &str, pause: bool) -> Result<()> {
    let state = running(store, typed)?;
    let refused = |why: &str| Err(Error::new(Kind::Invalid, format!("container {typed} is {why}")));
    let cgroup = Cgroup::open(state.cgroups.clone())?;
    match (cgroup.is_frozen()?, pause) {
        (false, true) => cgroup.freeze().map(|()| diary::tell_of(&state.bundle, &Event::plain("pause"))),
        (true, false) => cgroup.thaw().map(|()| diary::tell_of(&state.bundle, &Event::plain("unpause"))),
        (true, true) => refused("already paused"),
        (false, false) => refused("not paused"),
    }
}

fn of_a_client(mut container: Container, pause: bool) -> Result<u8> {
    let _alone = container.hold_or_share()?;
    let refused = |why: &str| Err(Error::new(Kind::Invalid, why.to_owned()));
    match (container.status()?, pause) {
        (Status::Running | Status::Created, true) => container.cgroup()?.freeze()?,
        (Status::Paused, false) => container.cgroup()?.thaw()?,
        (_, true) => return refused("container not running"),
        (_, false) => return refused("container not paused"),
    }
    Ok(0)
}
