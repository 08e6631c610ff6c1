//! `run --bundle DIR ID`: a config.json in the foreground, from start to end. Signals and terminals
//! are the caller's, who gets the container once its command runs.

use std::path::{Path, PathBuf};

use coracle_sys::{Context, Result};

use super::life::{Given, Life, Usage};
use crate::cgroups::{self, Lifetime};
use crate::host::Host;
use crate::launch::Container;
use crate::plan::{self, Options, Plan};
use crate::process::Init;
use crate::relay::Output;
use crate::spec::Spec;
use crate::state::{self, Face, States};

/// What the command line says beside bundle and id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The config.json, where it is not the bundle's.
    pub(crate) config: Option<PathBuf>,
    /// The directory of states, where an OCI client has one of its own.
    pub(crate) root: Option<PathBuf>,
    /// Share the runner's session keyring.
    pub(crate) no_new_keyring: bool,
    /// Descriptors from 3 on that the command inherits.
    pub(crate) preserve_fds: u32,
}

/// The plan of a bundle, whose path is absolute, and of its cgroups.
fn plan(bundle: &Path, id: &str, flags: &Flags) -> Result<(Plan, cgroups::Plan)> {
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
    let mut plan = plan::plan(&spec, &options, &Host::probe()?)?;
    plan.warnings.extend(groups.plan.dropped.iter().map(|what| format!("the container is without {what}")));
    Ok((plan, groups.plan))
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
    bundle: &Path,
    id: &str,
    flags: &Flags,
    attend: impl FnOnce(Container, Vec<Output>) -> Result<T>,
) -> Result<(T, Usage)> {
    state::check_id(id)?;
    let bundle = std::fs::canonicalize(bundle)
        .context(|| format!("open({bundle:?})"))
        .context(|| "find the bundle")?;
    let (plan, groups) = plan(&bundle, id, flags)?;
    let states = States::of(Face::Oci, flags.root.as_deref())?;
    let life = Life {
        plan: &plan,
        groups: &groups,
        states: &states,
        home: &bundle,
        streams: Given::Ours,
        network: None,
        guarded: false,
    };
    life.live(|_| Ok(()), attend)
}
