//! `attach`: the terminal, or the streams, of a container in the background.

use std::ffi::OsString;
use std::io::IsTerminal;

use argh::{CommandInfoWithArgs, FlagInfo};
use coracle_sys::{Error, Result};

use super::Global;
use super::container::{self};
use super::kill::running;
use super::typed::{self, Typed};
use crate::attach::{Client, Manner, Outcome, Shows, keys};
use crate::foreground::Signals;
use crate::record::Record;
use crate::state::Identity;
use coracle_sys::raw::Raw;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "attach",
    "Show what a container in the background writes, and pass on what is typed.",
    typed::CONTAINER,
    &[
        typed::option("--detach-keys", None, "keys", "keys that leave it, ctrl-p,ctrl-q if not said"),
        typed::switch("--no-stdin", None, "pass nothing on"),
        SIG_PROXY,
        NO_SIG_PROXY,
    ],
    &["runner attach my-container"],
);

/// What becomes of signals.
pub(crate) const SIG_PROXY: FlagInfo<'static> = typed::switch(
    "--sig-proxy",
    None,
    "pass signals on, as is done if nothing is said; with =false one of them leaves the container, which goes on",
);
pub(crate) const NO_SIG_PROXY: FlagInfo<'static> =
    typed::hidden(typed::switch("--no-sig-proxy", None, "the word of --sig-proxy=false"));

/// Attach to it. The exit code is the container's.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let named = typed.one("attach", "the container")?;
    let store = container::store(global)?;
    let state = running(&store, named)?;
    let record = Record::read(&state.bundle)?;
    let client = Client::connect(&state.bundle)?.ok_or_else(|| {
        Error::invalid(format!(
            "container {named} runs in front of its runner: there is nothing to attach to"
        ))
    })?;
    let how = How {
        terminal: record.spec.process.as_ref().is_some_and(|p| p.terminal),
        input: typed.get("--no-stdin").is_none(),
        leave: keys(typed.get("--detach-keys"))?,
        shows: Shows::ALL,
        signals: typed.get("--no-sig-proxy").is_none(),
    };
    how.stay(&client, state.init, named).map(|outcome| outcome.code())
}

/// How somebody is attached.
pub(crate) struct How {
    /// The container has a terminal.
    pub(crate) terminal: bool,
    /// What is typed is passed on.
    pub(crate) input: bool,
    /// The keys that leave it.
    pub(crate) leave: Vec<u8>,
    /// What is shown.
    pub(crate) shows: Shows,
    /// Signals are passed on. Else one leaves the container.
    pub(crate) signals: bool,
}

impl How {
    /// Stay with the container whose first process is `init`.
    pub(crate) fn stay(self, client: &Client, init: Identity, named: &str) -> Result<Outcome> {
        let stdin = std::io::stdin();
        if self.terminal && self.input && !stdin.is_terminal() {
            return Err(Error::usage("the input device is not a TTY (see --no-stdin)"));
        }
        let held = Signals::hold()?;
        let raw = (self.terminal && self.input).then(|| Raw::take(&stdin)).transpose()?;
        // A terminal that is closed tells who is attached; the container has one of its own, and goes on where it outlives us.
        let kept = |signal| signal == libc::SIGHUP && self.terminal && !client.owns();
        // Who ends at this moment needs none.
        let forward = |signal: i32| match self.signals && !kept(signal) {
            true => init.signal(signal).or(Ok(())).map(|()| true),
            false => Ok(false),
        };
        let manner =
            Manner { raw, input: self.input, shows: self.shows, leave: &self.leave, forward: &forward };
        let outcome = client.attend(&held, manner)?;
        if let Outcome::Detached | Outcome::Left(_) = outcome {
            coracle_sys::warn!("runner: left the container {named}, which goes on");
        }
        Ok(outcome)
    }
}
