//! `run --bundle DIR ID`: a config.json in the foreground, from start to end.

use std::path::{Path, PathBuf};

use coracle_sys::process::Ended;
use coracle_sys::{Context, Result};

use crate::embedded::init_image;
use crate::host::Host;
use crate::launch::{self, Setup};
use crate::plan::{self, Options, Plan};
use crate::process::Init;
use crate::spec::Spec;

/// What the command line says beside bundle and id.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The config.json, where it is not the bundle's.
    pub config: Option<PathBuf>,
    /// Share the runner's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the command inherits.
    pub preserve_fds: u32,
}

/// The plan of a bundle.
pub fn plan(bundle: &Path, id: &str, flags: &Flags) -> Result<Plan> {
    let bundle = std::fs::canonicalize(bundle)
        .context(|| format!("open({bundle:?})"))
        .context(|| "find the bundle")?;
    let config = flags.config.clone().unwrap_or_else(|| bundle.join("config.json"));
    let spec = Spec::load(&config)?;
    let options = Options {
        id: id.to_string(),
        bundle,
        root: None,
        init: Init::ExecOnly,
        die_with_parent: true,
        new_keyring: !flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
        cgroup_v1: None,
    };
    plan::plan(&spec, &options, &Host::probe()?)
}

/// Run it and wait for its end.
pub fn run(bundle: &Path, id: &str, flags: &Flags) -> Result<Ended> {
    let plan = plan(bundle, id, flags)?;
    let setup = Setup { init: init_image(), hold: false, seccomp: None };
    let container = launch::spawn(&plan, &setup)?.finish()?;
    container.wait()
}
