//! OCI bundles: `run --bundle DIR ID` in the foreground, from start to end, and what `create` and `run -d` begin for
//! others to live with. Signals and terminals of the foreground are the caller's, who gets the container once its
//! command runs.

use std::cell::Cell;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coracle_sys::terminal::{standard_input, window_size};
use coracle_sys::{Context, Error, Kind, Result, file, time};

use super::life::{Given, Life, Usage};
use crate::cgroups::{self, Lifetime, Manager};
use crate::console::Console;
use crate::foreground::Signals;
use crate::host::Host;
use crate::launch::{Container, Gate, Starting};
use crate::own_file;
use crate::plan::{self, Options, Plan};
use crate::process::Init;
use crate::rdt::Class;
use crate::relay::Output;
use crate::spec::{ConsoleSize, Spec};
use crate::state::{self, Face, Oci, State, States};

/// What the command line says beside bundle and id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The config.json, where it is not the bundle's.
    pub(crate) config: Option<PathBuf>,
    /// The directory of states, where an OCI client has one of its own.
    pub(crate) root: Option<PathBuf>,
    /// Share the runner's session keyring.
    pub(crate) no_new_keyring: bool,
    /// Who makes its groups.
    pub(crate) groups: Manager,
    /// Descriptors from 3 on that the command inherits.
    pub(crate) preserve_fds: u32,
    /// Its state stays when it has ended.
    pub(crate) keep: bool,
    /// Where the first process' pid is written.
    pub(crate) pid_file: Option<PathBuf>,
    /// Where the other side of the terminal is sent.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where a pidfd of the first process is sent.
    pub(crate) pidfd_socket: Option<PathBuf>,
}

/// A bundle, fully decided.
struct Bundle {
    plan: Plan,
    groups: cgroups::Plan,
    states: States,
    dir: PathBuf,
    keep: bool,
    oci: Oci,
}

impl Bundle {
    fn decide(bundle: &Path, id: &str, flags: &Flags, detached: bool, waits: bool) -> Result<Self> {
        // What is kept is looked at afterwards, its groups as well.
        let lifetime = if detached || flags.keep { Lifetime::Detached } else { Lifetime::ForegroundRun };
        state::check_id(id)?;
        // As it was named: clients compare.
        let dir = std::path::absolute(bundle).context(|| format!("make {bundle:?} absolute"))?;
        let bundle = std::fs::canonicalize(bundle)
            .context(|| format!("open({bundle:?})"))
            .context(|| "find the bundle")?;
        let config = flags.config.clone().unwrap_or_else(|| bundle.join("config.json"));
        let spec = Spec::load(&config).map_err(|e| match e.kind() {
            Kind::NotFound => {
                Error::not_found(format!("JSON specification file {} not found", config.display()))
            }
            _ => e,
        })?;
        if waits || may_be_seen(&spec) {
            own_file::shield_from(&spec)?;
        }
        let mut started = spec.clone();
        let listening = listen_fds();
        if let (1.., Some(process)) = (listening, &mut started.process) {
            process.env.push(format!("LISTEN_FDS={listening}"));
        }
        if let (false, Some(process)) = (detached, &mut started.process)
            && process.terminal
            && let Ok((height @ 1.., width)) = window_size(standard_input())
        {
            // It is shown on the caller's terminal, whatever its config.json says.
            process.console_size = Some(ConsoleSize { height, width });
        }
        // Its group is called as it is, as under runc: who looks for it knows no other name.
        let groups = cgroups::prepare(&started, id, id, flags.groups, lifetime, false)?;
        let options = Options {
            id: id.to_string(),
            bundle: bundle.clone(),
            root: None,
            init: Init::ExecOnly,
            die_with_parent: !detached,
            new_keyring: !flags.no_new_keyring,
            preserve_fds: flags.preserve_fds.max(listening),
            cgroup_v1: groups.mounted,
            seccomp: None,
        };
        let mut plan = plan::plan(&started, &options, &Host::probe()?)?;
        plan.warnings
            .extend(groups.plan.dropped.iter().map(|what| format!("the container is without {what}")));
        let rootfs = spec.root.as_ref().map(|r| bundle.join(&r.path)).unwrap_or_default();
        let oci = Oci {
            created: time::rfc3339_now(),
            owner: nix::unistd::getuid().as_raw(),
            rootfs: rootfs.canonicalize().unwrap_or(rootfs),
            spec,
            gate: None,
            class: Class::default(),
        };
        let states = States::of(Face::Oci, flags.root.as_deref())?;
        Ok(Self { plan, groups: groups.plan, states, dir, keep: flags.keep, oci })
    }

    fn life(&self, gate: Option<&Gate>) -> Life<'_> {
        Life {
            plan: &self.plan,
            groups: &self.groups,
            states: &self.states,
            home: &self.dir,
            streams: Given::Ours,
            network: None,
            attach: None,
            guarded: false,
            together: false,
            keep: self.keep,
            oci: Some(Oci { gate: gate.map(|g| g.name().to_owned()), ..self.oci.clone() }),
        }
    }
}

/// Whether its first process, before it is the command, is seen by somebody else who may look into it: by what lives in
/// the pid namespace already, or by a hook of its own.
fn may_be_seen(spec: &Spec) -> bool {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let pid = namespaces.filter(|n| n.kind == "pid").any(|n| n.path.is_none());
    let capabilities = spec.process.iter().flat_map(|p| &p.capabilities);
    !pid || capabilities.flat_map(|sets| &sets.bounding).any(|name| name == "CAP_SYS_PTRACE")
}

/// Whether the caller has a terminal, as runc looks for it.
fn has_terminal() -> bool {
    let streams =
        [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
    streams.contains(&true) || File::open("/dev/tty").is_ok()
}

/// How many descriptors systemd's socket activation, or whoever speaks it, passed to this process.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(fds)) if pid == std::process::id() => fds.min(1 << 16),
        _ => 0,
    }
}

/// Start it, hand the running container to `attend`, and clean up after it.
pub(crate) fn run<T>(
    dir: &Path,
    id: &str,
    flags: &Flags,
    attend: impl FnOnce(Container, Vec<Output>, &Signals) -> Result<T>,
) -> Result<(T, Usage)> {
    if flags.console_socket.is_some() {
        return Err(Console::unwanted());
    }
    let bundle = Bundle::decide(dir, id, flags, false, false)?;
    if bundle.plan.process.terminal.is_some() && !has_terminal() {
        return Err(Error::invalid(
            "process.terminal is true, and the caller has no terminal to show it on: neither a standard stream nor /dev/tty \
             (false in config.json, or create with --console-socket)",
        ));
    }
    let signals = Signals::hold()?;
    let told = Cell::new(false);
    let tell = |_, pid| {
        told.set(true);
        flags.pid_file.iter().try_for_each(|path| write_pid(path, pid))
    };
    let attend = |container, outputs| attend(container, outputs, &signals);
    bundle.life(None).live(tell, attend, |_, _| {}).inspect_err(|_| {
        // Nobody is to believe in one that never ran.
        if told.get() {
            flags.pid_file.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
    })
}

/// Begin it for others to live with: `create`, behind a gate, and `run -d`.
pub(crate) fn begin(dir: &Path, id: &str, flags: &Flags, wait: bool) -> Result<()> {
    let bundle = Bundle::decide(dir, id, flags, true, wait)?;
    let terminal = bundle.plan.process.terminal.is_some();
    let console = Console::asked(flags.console_socket.as_deref(), terminal, true)?;
    let pidfd_socket = flags.pidfd_socket.as_deref();
    let pidfd_socket = pidfd_socket.map(|path| Console::connect(path, "--pidfd-socket")).transpose()?;
    let reserved = bundle.states.reserve(id)?;
    let gate = wait.then(|| reserved.make_gate(Gate::make)).transpose();
    let gate = gate.or_else(|e| bundle.states.remove(id).and(Err(e)))?;
    let tell = |starting: &mut Starting, state: &State| -> Result<()> {
        if let (Some(console), Some(terminal)) = (&console, starting.console()) {
            console.send(terminal.as_fd(), "/dev/ptmx")?;
        }
        if let Some(socket) = &pidfd_socket {
            socket.send(starting.pidfd(), "standard")?;
        }
        flags.pid_file.iter().try_for_each(|path| write_pid(path, state.init.pid))
    };
    bundle.life(gate.as_ref()).leave(&reserved, gate.as_ref(), tell)
}

/// Write a pid where a client waits for it: the file is there with the whole pid in it, or not at all.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::usage(format!("--pid-file {path:?} is no file")))?;
    let mut temp = std::ffi::OsString::from(".");
    temp.push(name);
    temp.push(file::unique_name("."));
    let temp = path.with_file_name(temp);
    let write = || -> Result<()> {
        // Others may write into the folder: what they have put there is neither followed nor waited for.
        let made = File::options().write(true).create_new(true).mode(0o644).open(&temp);
        let mut made = made.context(|| format!("open({temp:?}, O_CREAT|O_EXCL)"))?;
        let written = made.write_all(pid.to_string().as_bytes()).context(|| format!("write({temp:?})"));
        let placed = written
            .and_then(|()| std::fs::rename(&temp, path).context(|| format!("rename({temp:?}, {path:?})")));
        placed.inspect_err(|_| drop(std::fs::remove_file(&temp)))
    };
    write().context(|| "--pid-file")
}
