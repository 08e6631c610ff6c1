//! `start`: the command of a created container of an OCI client; containers of images, in the background.

use std::ffi::OsString;
use std::time::Duration;

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::{Error, Kind, Result};

use super::attach::{How, NO_SIG_PROXY, SIG_PROXY};
use super::container::{self, Made};
use super::oci::{Container, Status};
use super::typed::{self, Typed};
use super::{Global, sweep};
use crate::attach::{Client, Shows, keys};
use crate::hooks::{self, Scene};
use crate::monitor::restart::Policy;
use crate::own_file;
use crate::record::{self, Record};
use crate::seccomp::Choice;
use crate::state::{Face, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "start",
    "Start containers that were created or have ended; let the command of an OCI client's run.",
    typed::CONTAINERS,
    &[
        typed::switch("--attach", Some('a'), "show what it writes, and end with its exit code"),
        typed::switch("--interactive", Some('i'), "pass on what is typed"),
        typed::switch("--all", None, "those that are to come back after a reboot, by their --restart"),
        typed::option("--detach-keys", None, "keys", "keys that leave it, ctrl-p,ctrl-q if not said"),
        SIG_PROXY,
        NO_SIG_PROXY,
        typed::hidden(typed::option(
            "--again",
            None,
            "ms",
            "in place of the monitor, which waited so long before",
        )),
    ],
    &["runner start my-container", "runner start -ai my-container", "runner start --all"],
);

/// Start them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    if let (Some(last), [id]) = (typed.number("--again")?, &typed.words[..]) {
        return Made::load(global, id)?.again(Duration::from_millis(last.into())).map(|()| 0);
    }
    if let [id] = &typed.words[..]
        && let Some(container) = Container::if_meant(global, id, false)?
    {
        return run_oci(container);
    }
    // What its flags were is known only later, and for one after the other.
    own_file::shield()?;
    let store = container::store(global)?;
    sweep::sweep(&store);
    let all = typed.get("--all").is_some();
    let (attach, interactive) = (typed.get("--attach").is_some(), typed.get("--interactive").is_some());
    let named = match (all, attach || interactive, &typed.words[..]) {
        (true, false, []) => returning(&store)?,
        (true, _, _) => return Err(Error::usage("start --all: neither containers nor -a go with it")),
        (false, _, []) => return Err(Error::usage("start needs the name or id of a container")),
        (false, true, [one]) => {
            return attached(global, &store, one, interactive, &typed);
        }
        (false, true, _) => {
            return Err(Error::usage("you cannot start and attach multiple containers at once"));
        }
        (false, false, many) => many.to_vec(),
    };
    let mut code = 0;
    for word in &named {
        match start(global, &store, word) {
            Ok(()) => coracle_sys::say!("{word}"),
            Err(e) => {
                coracle_sys::warn!("runner: {e}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// One that runs already, runs.
fn start(global: &Global, store: &Store, typed: &str) -> Result<()> {
    let dir = container::find(store, typed)?;
    if container::ending::running(&dir)?.is_some() {
        return Ok(());
    }
    // One that waits to begin again does so now.
    if container::ending::stop_waiting(&dir.path)? {
        drop(container::ending::await_end(&dir, None)?);
    }
    Made::load(global, &dir.id)?.background(false)
}

fn attached(global: &Global, store: &Store, named: &str, input: bool, typed: &Typed) -> Result<u8> {
    let leave = keys(typed.get("--detach-keys"))?;
    let dir = container::find(store, named)?;
    let running = container::ending::running(&dir)?;
    let client = match &running {
        Some(_) => Client::connect(&dir.path)?
            .ok_or_else(|| Error::invalid(format!("attach to {named}: it has no monitor")))?,
        None => Made::load(global, &dir.id)?.attached(false, false)?,
    };
    let record = Record::read(&dir.path)?;
    let terminal = record.spec.process.as_ref().is_some_and(|p| p.terminal);
    // One that has ended already needs no signals.
    let init = container::ending::running(&dir)?.map(|s| s.init).unwrap_or_default();
    let signals = typed.get("--no-sig-proxy").is_none();
    let how = How { terminal, input, leave, shows: Shows::ALL, signals };
    how.stay(&client, init, named).map(|outcome| outcome.code())
}

/// The containers that come back after a reboot, and do not run.
fn returning(store: &Store) -> Result<Vec<String>> {
    let states = States::of(Face::Image, None)?;
    let mut all: Vec<(u64, String)> = Vec::new();
    for dir in store.containers()? {
        let Ok(record) = Record::read(&dir.path) else { continue };
        let Some(exit) = record.exit.as_ref().filter(|_| record.started.is_some()) else { continue };
        let runs = states.read(&record.id).is_ok_and(|s| s.init.is_alive());
        let stopped = record.stopped || record::is_marked(&dir.path);
        let policy = Policy::parse(&record.restart).unwrap_or_default();
        if !runs && record.waiting().is_none() && policy.returns(stopped, exit.code, record.restarts) {
            all.push((record.created, record.name));
        }
    }
    // Whose namespaces another one joins was there before that one.
    coracle_sys::order::sort_by(&mut all, |a, b| a.cmp(b));
    Ok(all.into_iter().map(|(_, name)| name).collect())
}

/// Let the command of a created container run.
fn run_oci(mut container: Container) -> Result<u8> {
    let _alone = container.hold_or_share()?;
    let oci = container.state.oci.as_ref();
    let command = oci.and_then(|o| o.spec.process.as_ref()?.args.first().cloned()).unwrap_or_default();
    let refused = |why: &str| Err(Error::new(Kind::Invalid, why.to_owned()));
    let Some(mut starting) = container.behind_its_gate(&command)? else {
        return match container.status()? {
            Status::Stopped => refused("cannot start a container that has stopped"),
            _ => refused("cannot start an already running container"),
        };
    };
    let profile = container.state.oci.as_ref().and_then(|o| o.spec.linux.as_ref()?.seccomp.clone());
    if let Some(profile) = profile.filter(|p| p.listener_path.is_some()) {
        let program = Choice::Profile(profile).compile(&[])?;
        starting.ask(program.and_then(|p| p.notify));
    }
    starting.go();
    let started = starting.finish();
    if let Some(gate) = container.state.oci.as_ref().and_then(|o| o.gate.as_ref()) {
        let _ = std::fs::remove_file(container.states.dir().join(gate));
    }
    started?;
    let Some(oci) = &container.state.oci else { return Ok(0) };
    let hooks = hooks::plan(oci.spec.hooks.as_ref())?;
    if hooks::any(&hooks, hooks::Kind::Poststart) {
        let state = container.document(Status::Running).to_string();
        let scene = Scene { state: &state, cwd: &container.state.bundle, become_it: None };
        if let Err(e) = hooks::run(&hooks, hooks::Kind::Poststart, scene) {
            container.state.init.kill()?;
            container.cgroup()?.kill_all()?;
            return Err(e);
        }
    }
    Ok(0)
}
