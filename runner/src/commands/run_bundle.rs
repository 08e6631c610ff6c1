//! `run --bundle DIR ID`: a config.json in the foreground, from start to end. Signals and terminals
//! are the caller's, who gets the container once its command runs.

use std::path::{Path, PathBuf};

use coracle_sys::{Context, Result};

use crate::cgroups::{self, Cgroup, Lifetime};
use crate::embedded::init_image;
use crate::host::Host;
use crate::launch::{self, Container, Setup};
use crate::namespaces::Kind as Ns;
use crate::plan::{self, Options, Plan};
use crate::process::Init;
use crate::spec::Spec;
use crate::state::{self, Face, Identity, State, States};

/// What the command line says beside bundle and id.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The config.json, where it is not the bundle's.
    pub config: Option<PathBuf>,
    /// The directory of states, where an OCI client has one of its own.
    pub root: Option<PathBuf>,
    /// Share the runner's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the command inherits.
    pub preserve_fds: u32,
}

/// The plan of a bundle, whose path is absolute, and of its cgroups.
pub fn plan(bundle: &Path, id: &str, flags: &Flags) -> Result<(Plan, cgroups::Plan)> {
    let mut spec = Spec::load(flags.config.as_deref().unwrap_or(&bundle.join("config.json")))?;
    let listening = listen_fds();
    if let (1.., Some(process)) = (listening, &mut spec.process) {
        process.env.push(format!("LISTEN_FDS={listening}"));
    }
    let groups = cgroups::prepare(&spec, id, Lifetime::ForegroundRun, false)?;
    let options = Options {
        id: id.to_string(),
        bundle: bundle.to_path_buf(),
        root: None,
        init: Init::ExecOnly,
        die_with_parent: true,
        new_keyring: !flags.no_new_keyring,
        preserve_fds: flags.preserve_fds.max(listening),
        cgroup_v1: groups.mounted,
        seccomp: None,
    };
    Ok((plan::plan(&spec, &options, &Host::probe()?)?, groups.plan))
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
pub fn run<T>(
    bundle: &Path,
    id: &str,
    flags: &Flags,
    attend: impl FnOnce(Container) -> Result<T>,
) -> Result<T> {
    state::check_id(id)?;
    let bundle = std::fs::canonicalize(bundle)
        .context(|| format!("open({bundle:?})"))
        .context(|| "find the bundle")?;
    let (plan, groups) = plan(&bundle, id, flags)?;
    for warning in &plan.warnings {
        eprintln!("runner: {warning}");
    }
    let states = States::of(Face::Oci, flags.root.as_deref())?;
    states.reserve(id)?;
    let ended = in_groups(&plan, &groups, &states, bundle, attend);
    states.remove(id)?;
    ended
}

/// The groups are there before the container and go after it.
fn in_groups<T>(
    plan: &Plan,
    groups: &cgroups::Plan,
    states: &States,
    bundle: PathBuf,
    attend: impl FnOnce(Container) -> Result<T>,
) -> Result<T> {
    let cgroup = groups.create()?;
    let ended = start(plan, &cgroup, states, bundle).and_then(attend);
    let removed = cgroup.kill_all().and_then(|()| cgroup.remove());
    let ended = ended?;
    removed.map(|()| ended)
}

/// The state is written while the child sets itself up.
fn start(plan: &Plan, cgroup: &Cgroup, states: &States, bundle: PathBuf) -> Result<Container> {
    let enter = |pid: Option<i32>| cgroup.enter_late(pid.unwrap_or(0));
    let setup = Setup {
        init: init_image(),
        born_in: cgroup.v2_dir_fd(),
        enter_cgroups: if cgroup.is_entered_late() { Some(&enter) } else { None },
        seccomp: plan.seccomp.as_ref(),
        ..Setup::default()
    };
    let starting = launch::spawn(plan, &setup)?;
    let record = || {
        states.write(&State {
            version: state::VERSION,
            id: plan.id.clone(),
            init: Identity::of(starting.pid())?,
            runner: Some(Identity::of_this_process()?),
            bundle,
            namespaces: Ns::ALL.into_iter().filter(|k| plan.namespaces.is_own(*k)).collect(),
            cgroups: cgroup.to_value(),
            details: serde_json::Value::Null,
        })
    };
    // A child that has failed already tells more than the state that could not be written.
    let recorded = record();
    let container = starting.finish()?;
    recorded.inspect_err(|_| {
        let _ = container.signal(libc::SIGKILL);
        let _ = container.wait();
    })?;
    Ok(container)
}
