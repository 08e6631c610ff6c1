//! `wait`: until containers have ended; their exit codes.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use argh::CommandInfoWithArgs;
use coracle_store::{ContainerDir, Store};
use coracle_sys::{Error, Result};

use super::Global;
use super::container::ending::{Held, await_end, lock};
use super::container::{self};
use super::typed::{self, Typed};
use crate::attach::Client;
use crate::record::Record;
use crate::state::{Face, States};

/// It has no flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "wait",
    "Wait until containers have ended, and print their exit codes.",
    typed::CONTAINERS,
    &[],
    &["runner wait my-container"],
);

/// Wait for each.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    if typed.words.is_empty() {
        return Err(Error::usage("wait needs the name or id of a container"));
    }
    let store = container::store(global)?;
    let mut code = 0;
    for word in &typed.words {
        match wait(&store, word) {
            Ok(code) => coracle_sys::say!("{code}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

fn wait(store: &Store, typed: &str) -> Result<i32> {
    let dir = container::find(store, typed)?;
    // A monitor tells how it ended, also where nothing of it is left.
    if let Some(client) = Client::connect(&dir.path)?
        && let Some(code) = client.wait()?
    {
        return Ok(code);
    }
    let state = States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive());
    if let Some(state) = &state {
        if let Ok(process) = state.init.hold() {
            process.wait(None, None)?;
        }
        drop(await_end(&dir, Some(state))?);
    }
    written_end(&dir, typed)
}

/// The end that is written down, or is about to be: its monitor is no more to be spoken to before it has written.
fn written_end(dir: &ContainerDir, typed: &str) -> Result<i32> {
    let gone = |_| Error::not_found(format!("container {typed} is gone with its exit code"));
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let held = lock(dir)?;
        let record = Record::read(&dir.path).map_err(gone)?;
        let waits = record.exit.is_none() && record.started.is_some() && matches!(held, Held::Others);
        if !waits || Instant::now() > patience {
            return Ok(record.exit.map_or(0, |exit| exit.code));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
