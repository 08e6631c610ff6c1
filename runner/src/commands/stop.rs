//! `stop`: containers are asked to end, all at once, and killed when they do not; `restart`, which begins them again.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use argh::CommandInfoWithArgs;
use coracle_store::{ContainerDir, Store};
use coracle_sys::handle::{Handle, Woken};
use coracle_sys::{Error, Result};
use nix::errno::Errno;

use super::Global;
use super::container::ending::{kill, running, settle};
use super::container::{self, Made};
use super::typed::{self, Typed};
use crate::cgroups::Cgroup;
use crate::diary::{self, Event};
use crate::from_image::units;
use crate::own_file;
use crate::record::{self, Record};
use crate::state::State;

/// Seconds between the signal and the end by force, where nobody says how many.
const USUAL: i64 = 10;

/// The flags of `stop`.
pub(crate) static STOP: CommandInfoWithArgs = typed::table(
    "stop",
    "Ask containers to end, and kill those that do not.",
    typed::CONTAINERS,
    &[
        typed::option(
            "--time",
            Some('t'),
            "seconds",
            "how long they have, -1 for ever; the container's own, or 10",
        ),
        typed::hidden(typed::option("--timeout", None, "seconds", "the same as --time")),
        typed::option("--signal", Some('s'), "signal", "how they are asked; the container's own, or TERM"),
    ],
    &["runner stop my-container", "runner stop -t 1 $(runner ps -q)"],
);

/// The flags of `restart`.
pub(crate) static RESTART: CommandInfoWithArgs = typed::table(
    "restart",
    "Stop containers, and start them again in the background.",
    typed::CONTAINERS,
    STOP.flags,
    &["runner restart my-container"],
);

/// Stop them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&STOP, words)? else { return Ok(0) };
    each(global, &typed, "stop", |_| Ok(()))
}

/// Stop them, and start them again.
pub(crate) fn restart(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&RESTART, words)? else { return Ok(0) };
    own_file::shield()?;
    each(global, &typed, "restart", |dir| {
        Made::load(global, &dir.id)?.background(false)?;
        diary::tell_of(&dir.path, &Event::plain("restart"));
        Ok(())
    })
}

/// All are asked before any is waited for.
fn each(
    global: &Global,
    typed: &Typed,
    verb: &str,
    then: impl Fn(&ContainerDir) -> Result<()>,
) -> Result<u8> {
    if typed.words.is_empty() {
        return Err(Error::usage(format!("{verb} needs the name or id of a container")));
    }
    let seconds = typed.get("--time").or(typed.get("--timeout"));
    let seconds = seconds.map(|text| {
        let number = text.parse::<i64>().ok().filter(|n| *n >= -1);
        number
            .ok_or_else(|| Error::flag(format!("--time {text:?}: it is a number of seconds, or -1 for ever")))
    });
    let (seconds, signal) = (seconds.transpose()?, typed.get("--signal").map(units::signal).transpose()?);
    let store = container::store(global)?;
    super::sweep::sweep(&store);
    let asked: Vec<_> =
        typed.words.iter().map(|word| (word, Ending::ask(&store, word, signal, seconds))).collect();
    let mut code = 0;
    for (word, asked) in asked {
        let ended = asked.and_then(|mut ending| {
            ending.wait()?;
            then(&ending.dir)
        });
        match ended {
            Ok(()) => coracle_sys::say!("{word}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// A container that was asked to end.
struct Ending {
    dir: ContainerDir,
    /// Its process, where it has one, and when that is killed.
    running: Option<(Handle, State, Option<Instant>)>,
}

impl Ending {
    fn ask(store: &Store, typed: &str, signal: Option<i32>, seconds: Option<i64>) -> Result<Self> {
        let dir = container::find(store, typed)?;
        let (state, process) = loop {
            // One that waits to begin again, or is about to, does not.
            let state = running(&dir)?.map_or_else(|| settle(&dir), |state| Ok(Some(state)))?;
            let Some(state) = state else { return Ok(Self { dir, running: None }) };
            record::mark(&dir.path)?;
            match Handle::open(state.init.pid) {
                // It has ended meanwhile.
                Err(e) if e.errno() == Some(Errno::ESRCH) => {}
                process => break (state, process?),
            }
        };
        let record = Record::read(&dir.path)?;
        let seconds = seconds.or(record.stop_timeout).unwrap_or(USUAL);
        let deadline = u64::try_from(seconds).ok().map(|s| Instant::now() + Duration::from_secs(s));
        if state.init.is_alive() {
            let signal = if seconds == 0 { libc::SIGKILL } else { signal.unwrap_or(record.stop_signal) };
            send(&process, signal)?;
            told_kill(&dir, &record, signal);
            // Who is frozen does not end.
            let cgroup = Cgroup::open(state.cgroups.clone())?;
            if cgroup.is_frozen()? {
                cgroup.thaw()?;
            }
        }
        Ok(Self { dir, running: Some((process, state, deadline)) })
    }

    fn wait(&mut self) -> Result<()> {
        let Some((process, state, deadline)) = self.running.take() else { return Ok(()) };
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        if process.wait(None, left)? != Woken::Ended {
            send(&process, libc::SIGKILL)?;
            if let Ok(record) = Record::read(&self.dir.path) {
                told_kill(&self.dir, &record, libc::SIGKILL);
            }
            Cgroup::open(state.cgroups.clone())?.kill_all()?;
        }
        kill(&self.dir, state)?;
        diary::tell_of(&self.dir.path, &Event::plain("stop"));
        Ok(())
    }
}

fn told_kill(dir: &ContainerDir, record: &Record, signal: i32) {
    let number = signal.to_string();
    diary::tell(&dir.path, record, &[Event { action: "kill", more: &[("signal", &number)] }]);
}

/// One that has ended meanwhile needs no signal.
fn send(process: &Handle, signal: i32) -> Result<()> {
    match process.signal(signal) {
        Err(e) if e.errno() == Some(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
