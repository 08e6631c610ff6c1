//! `exec` in a container of an image: the process dies with the runner.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use coracle_store::driver::fuse;
use coracle_store::{ContainerDir, Locations, Store};
use coracle_sys::process::Status;
use coracle_sys::{Context, Error, Kind, Result, terminal as tty};
use nix::errno::Errno;

use super::Flags;
use crate::cgroups::Cgroup;
use crate::commands::Global;
use crate::commands::container::lookup::env_files;
use crate::commands::kill::running;
use crate::diary::{self, Event};
use crate::embedded::init_image;
use crate::foreground::{self, Signals};
use crate::from_image::{self, units, user};
use crate::host::Host;
use crate::launch::{Setup, join};
use crate::monitor;
use crate::namespaces::Kind as Ns;
use crate::own_file;
use crate::process::{self, Init};
use crate::record::{self, Record};
use crate::relay::{Relay, Screen};
use crate::spec::{ConsoleSize, Process};
use crate::streams::Streams;
use crate::{passwd, state};
use coracle_sys::raw::Raw;

/// Run it. The exit code is the command's.
pub(super) fn run(global: &Global, flags: &Flags, command: &[String]) -> Result<u8> {
    let typed = flags.container.as_str();
    if command.is_empty() {
        return Err(Error::usage("exec needs a command behind the container"));
    }
    if flags.tty && flags.interactive && !flags.detach && !std::io::stdin().is_terminal() {
        return Err(Error::usage("the input device is not a TTY (leave out -t)"));
    }
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    let state = running(&store, typed)?;
    start(flags, command, &store, &state).map_err(|e| super::or_gone(e, &state.init, typed))
}

/// Start it, and stay with it where it is not left alone.
fn start(flags: &Flags, command: &[String], store: &Store, state: &state::State) -> Result<u8> {
    let typed = flags.container.as_str();
    let cgroup = Cgroup::open(state.cgroups.clone())?;
    if cgroup.is_frozen()? {
        return Err(Error::invalid(format!(
            "container {typed} is paused, unpause the container before exec"
        )));
    }
    if !state.namespaces.contains(&Ns::User) {
        own_file::shield()?;
    }
    let held = state.init.hold()?;
    let record = Record::read(&state.bundle)?;
    let process = process(flags, command, store, (&record, state))?;
    if same_root(state.init.pid)? {
        return Err(Error::new(Kind::Busy, format!("container {typed} is just starting")));
    }
    let mut warnings = Vec::new();
    let plan = join::Plan {
        process: process::plan(&process, Init::ExecOnly, &mut warnings)?,
        die_with_parent: !flags.detach,
        preserve_fds: 0,
    };
    let bounding = process.capabilities.as_ref().map_or(&[][..], |sets| &sets.bounding);
    let filter = record.seccomp.compile(bounding)?;
    let signals = Signals::hold()?;
    let target = join::Target { process: &held, namespaces: &state.namespaces };
    let enter = |pid: Option<i32>| cgroup.enter_beside(pid.unwrap_or(0), &[], state.init.pid);
    let setup = Setup {
        init: init_image(),
        enter_cgroups: if cgroup.is_empty() { None } else { Some(&enter) },
        seccomp: filter.as_ref(),
        ..Setup::default()
    };
    let streams = match (flags.detach, flags.tty) {
        (true, _) => Streams::put(&[null()?, null()?, null()?])?,
        (false, true) => Streams::ours(),
        (false, false) => Streams::replace(flags.interactive)?,
    };
    let starting = join::join(&target, &plan, &setup)?;
    let outputs = streams.restore();
    let mut container = starting.finish().map_err(|e| hint(e, command))?;
    let exec = record::new_id()?;
    let words = command.join(" ");
    let [create, start] = ["create", "start"].map(|what| format!("exec_{what}: {words}"));
    let more = [("execID", exec.as_str())];
    let tell = |events: &[Event<'_>]| diary::tell(&state.bundle, &record, events);
    tell(&[Event { action: &create, more: &more }, Event { action: &start, more: &more }]);
    if flags.detach {
        return container.console().map_or(Ok(()), monitor::unseen).map(|()| 0);
    }
    let stdin = std::io::stdin();
    let screen = match container.console() {
        None => None,
        Some(master) => {
            let raw = (flags.interactive && stdin.is_terminal()).then(|| Raw::take(&stdin)).transpose()?;
            Some(Screen { master, raw, input: flags.interactive })
        }
    };
    let attended = foreground::attend(&container, &signals, Relay::new(screen, outputs)?, None)?;
    let code = match attended.ending.ended.status {
        Status::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        Status::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    };
    tell(&[Event { action: "exec_die", more: &[("execID", &exec), ("exitCode", &code.to_string())] }]);
    Ok(code)
}

fn null() -> Result<OwnedFd> {
    let file = std::fs::File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).context(|| "open(\"/dev/null\")")
}

/// The container's own process with another command, and what the flags change.
fn process(
    flags: &Flags,
    command: &[String],
    store: &Store,
    (record, state): (&Record, &state::State),
) -> Result<Process> {
    let base =
        record.spec.process.clone().ok_or_else(|| Error::invalid("the container's record has no process"))?;
    let mut process = Process { args: command.to_vec(), terminal: flags.tty, ..base };
    if flags.tty {
        let (height, width) = tty::window_size(std::io::stdin().as_fd()).unwrap_or_default();
        process.console_size = Some(ConsoleSize { height, width });
        from_image::set_variable(&mut process.env, "TERM=xterm");
    }
    if let Some(typed) = &flags.user {
        let root = root(store, state)?;
        let text = |path: &str| passwd::read(&root, path).context(|| format!("read the container's {path}"));
        let who = user::resolve(typed, &[], &text("/etc/passwd")?, &text("/etc/group")?)?;
        process.user.uid = who.uid;
        process.user.gid = who.gid;
        process.user.additional_gids = who.groups;
        from_image::set_variable(&mut process.env, &format!("HOME={}", who.home.as_deref().unwrap_or("/")));
        if who.uid != 0
            && !flags.privileged
            && let Some(capabilities) = &mut process.capabilities
        {
            // What the container's own user was granted by name is not this one's.
            capabilities.effective.clear();
            capabilities.permitted.clear();
            capabilities.inheritable.clear();
            capabilities.ambient.clear();
        }
    }
    if flags.privileged {
        let (all, _) = units::capabilities(&[], &[], true, Host::probe()?.grantable())?;
        process.capabilities = Some(from_image::granted(all.clone(), all, process.user.uid));
    }
    if let Some(dir) = &flags.workdir {
        process.cwd = dir.into();
    }
    let files = env_files(&flags.env_file)?;
    for text in files.iter().chain(&flags.env) {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::usage(format!("invalid environment variable: {text:?}"))),
            Some(_) => from_image::set_variable(&mut process.env, text),
            None => {
                if let Ok(value) = std::env::var(text) {
                    from_image::set_variable(&mut process.env, &format!("{text}={value}"));
                }
            }
        }
    }
    Ok(process)
}

/// Where the container's files are read from, lowest first: its root. What a program mounts in a user namespace can be
/// seen there alone, and is read from where it lies on the disk.
fn root(store: &Store, state: &state::State) -> Result<Vec<PathBuf>> {
    let dir = ContainerDir { id: state.id.clone(), path: state.bundle.clone() };
    if !fuse::is_marked(&dir.upper()) {
        return Ok(vec![format!("/proc/{}/root", state.init.pid).into()]);
    }
    let mut all = store.stack_paths(store.image_of(&dir)?.diff_ids())?;
    all.push(dir.upper());
    Ok(all)
}

/// Whether a process still has our own root: what is executed in it would be executed on the host.
pub(super) fn same_root(pid: i32) -> Result<bool> {
    let look = |path: &str| nix::sys::stat::stat(path).context(|| format!("stat({path:?})"));
    let ours = look("/")?;
    let its = match look(&format!("/proc/{pid}/root/")) {
        // What a program mounts is for those alone who are in its user namespace; ours is not so.
        Err(e) if e.errno() == Some(Errno::EACCES) => return Ok(false),
        its => its?,
    };
    Ok((ours.st_dev, ours.st_ino) == (its.st_dev, its.st_ino))
}

/// The command every tutorial types, in an image that has no bash.
fn hint(e: Error, command: &[String]) -> Error {
    match command.first().map(String::as_str) {
        Some("bash" | "/bin/bash") if e.kind() == coracle_sys::Kind::CommandNotFound => {
            Error::new(e.kind(), format!("{e} (this image may only have sh)"))
        }
        _ => e,
    }
}
