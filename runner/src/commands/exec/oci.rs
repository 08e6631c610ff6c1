//! `exec` in a container of an OCI client: what its process is comes from a file, or from the container's own config.json
//! and the flags. Left to others it is a child of theirs once the runner has ended.

use std::os::fd::AsFd;

use coracle_sys::process::Status as Ended;
use coracle_sys::{Context, Error, Kind, Result, file, json, terminal as tty};

use super::Flags;
use super::image::same_root;
use crate::commands::bundle::write_pid;
use crate::commands::oci::{Container, Status};
use crate::console::Console;
use crate::embedded::init_image;
use crate::foreground::{self, Signals};
use crate::from_image;
use crate::launch::{self, Setup, join};
use crate::namespaces::Kind as Ns;
use crate::own_file;
use crate::process::{self, Init};
use crate::relay::{Relay, Screen};
use crate::seccomp::Choice;
use crate::spec::{Capabilities, ConsoleSize, Process, Spec};
use coracle_sys::raw::Raw;

/// Run it.
pub(super) fn run(container: Container, flags: &Flags, command: &[String]) -> Result<u8> {
    let state = &container.state;
    start(&container, flags, command).map_err(|e| super::or_gone(e, &state.init, &state.id))
}

/// Start it, and stay with it where it is not left to others.
fn start(container: &Container, flags: &Flags, command: &[String]) -> Result<u8> {
    let refused = |why: &str| Err(Error::new(Kind::Invalid, why.to_owned()));
    match container.status()? {
        Status::Stopped => return refused("cannot exec in a stopped container"),
        Status::Paused if !flags.ignore_paused => {
            return refused("cannot exec in a paused container (use --ignore-paused to override)");
        }
        _ => {}
    }
    let state = &container.state;
    if !state.namespaces.contains(&Ns::User) {
        own_file::shield()?;
    }
    let (spec, class) = match &state.oci {
        Some(oci) => (&oci.spec, &oci.class),
        None => return Err(Error::unsupported("exec: an older version made this container")),
    };
    let process = process(flags, command, spec)?;
    let console = Console::asked(flags.console_socket.as_deref(), process.terminal, flags.detach)?;
    let pidfd_socket = flags.pidfd_socket.as_deref();
    let pidfd_socket = pidfd_socket.map(|path| Console::connect(path, "--pidfd-socket")).transpose()?;
    let held = state.init.hold()?;
    if same_root(state.init.pid)? && spec.root.is_some() {
        return Err(Error::new(Kind::Busy, format!("container {} is just starting", state.id)));
    }
    let mut warnings = Vec::new();
    let plan = join::Plan {
        process: process::plan(&process, Init::ExecOnly, &mut warnings)?
            .in_linux(&spec.linux.clone().unwrap_or_default())?,
        die_with_parent: false,
        preserve_fds: flags.preserve_fds,
    };
    warnings.iter().for_each(|w| coracle_sys::warn!("runner: {w}"));
    let profile = spec.linux.as_ref().and_then(|l| l.seccomp.clone());
    let bounding = process.capabilities.as_ref().map_or(&[][..], |sets| &sets.bounding);
    let filter = profile.map_or(Choice::Unconfined, Choice::Profile).compile(bounding)?;
    let signals = (!flags.detach).then(Signals::hold).transpose()?;
    let cgroup = container.cgroup()?;
    let wanted = cgroup.named(&flags.cgroup)?;
    let enter = |pid: Option<i32>| {
        let pid = pid.unwrap_or(0);
        class.enter(pid).and_then(|()| cgroup.enter_beside(pid, &wanted, state.init.pid))
    };
    let setup = Setup {
        init: init_image(),
        enter_cgroups: if cgroup.is_empty() && class.is_none() { None } else { Some(&enter) },
        seccomp: filter.as_ref(),
        ..Setup::default()
    };
    let target = join::Target { process: &held, namespaces: &state.namespaces };
    let mut running = join::join(&target, &plan, &setup)?.finish()?;
    running.warnings().iter().for_each(|w| coracle_sys::warn!("runner: {w}"));
    let terminal = running.console();
    if let (Some(console), Some(terminal)) = (&console, &terminal) {
        console.send(terminal.as_fd(), "/dev/ptmx")?;
    }
    if let Some(socket) = &pidfd_socket {
        socket.send(running.pidfd(), "setns")?;
    }
    flags.pid_file.iter().try_for_each(|path| write_pid(path, running.pid()))?;
    match signals {
        Some(signals) => attend(&running, &signals, terminal.filter(|_| console.is_none())),
        None => Ok(0),
    }
}

/// Stay with it until it has ended.
fn attend(
    running: &launch::Container,
    signals: &Signals,
    terminal: Option<std::os::fd::OwnedFd>,
) -> Result<u8> {
    use std::io::IsTerminal;
    let stdin = std::io::stdin();
    let screen = match terminal {
        None => None,
        Some(master) => {
            let raw = stdin.is_terminal().then(|| Raw::take(&stdin)).transpose()?;
            Some(Screen { master, raw, input: true })
        }
    };
    let attended = foreground::attend(running, signals, Relay::new(screen, Vec::new())?, None)?;
    Ok(match attended.ending.ended.status {
        Ended::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        Ended::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    })
}

/// The process of a file; else the container's own with another command, and what the flags change.
fn process(flags: &Flags, command: &[String], spec: &Spec) -> Result<Process> {
    if let Some(path) = &flags.process {
        let text = file::read(path).context(|| "--process")?;
        return json::from_slice(&text).map_err(|e| e.wrap(format!("read {path:?}")));
    }
    if command.is_empty() {
        return Err(Error::usage("exec needs a command behind the container, or --process FILE"));
    }
    let base = spec.process.clone().unwrap_or_default();
    let mut process = Process { args: command.to_vec(), terminal: flags.tty, ..base };
    if flags.tty {
        let (height, width) = tty::window_size(std::io::stdin().as_fd()).unwrap_or_default();
        process.console_size = Some(ConsoleSize { height, width });
    }
    if let Some(typed) = &flags.user {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                Error::usage(format!(
                    "--user {typed:?}: of a container of an OCI client it is UID[:GID], in numbers"
                ))
            })
        };
        let (uid, gid) = typed.split_once(':').map_or((typed.as_str(), None), |(u, g)| (u, Some(g)));
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    process.user.additional_gids.extend(&flags.additional_gids);
    if let Some(dir) = flags.cwd.as_ref().or(flags.workdir.as_ref()) {
        process.cwd = dir.into();
    }
    for text in &flags.env {
        from_image::set_variable(&mut process.env, text);
    }
    for (said, field) in
        [(&flags.apparmor, &mut process.apparmor_profile), (&flags.process_label, &mut process.selinux_label)]
    {
        if said.is_some() {
            field.clone_from(said);
        }
    }
    process.no_new_privileges |= flags.no_new_privs;
    if !flags.cap.is_empty() {
        let Capabilities { bounding, effective, permitted, ambient, .. } =
            process.capabilities.get_or_insert_default();
        for set in [bounding, effective, permitted, ambient] {
            set.extend(flags.cap.iter().map(|c| c.to_ascii_uppercase()));
        }
    }
    Ok(process)
}
