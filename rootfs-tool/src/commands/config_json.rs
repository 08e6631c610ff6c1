//! The config.json that the runner makes of an image, for machines: `boot` and `pack` ask for it.

use std::fs::File;
use std::os::fd::AsFd;

use coracle_store::Image;
use coracle_sys::process::Status;
use coracle_sys::program::{self, Program};
use coracle_sys::{Context, Error, Result};
use serde_json::Value;

use crate::dockerfile::exec::find_runner;

/// The runner with a verb, on the store that is meant.
pub(super) fn runner(store: Option<&str>, verb: &str) -> Result<Program> {
    let mut runner = Program::new(&find_runner()?);
    if let Some(store) = store {
        runner.set("CORACLE_STORE", store);
    }
    runner.word(verb);
    Ok(runner)
}

/// `runner spec`, whose flags are still to be given. A machine's network is none of the runner's.
pub(super) fn spec(store: Option<&str>) -> Result<Program> {
    let mut runner = runner(store, "spec")?;
    for word in ["--network", "none"] {
        runner.word(word);
    }
    Ok(runner)
}

/// Does the image name a command? A machine may have services instead, or an init of its root's own.
pub(super) fn has_command(image: &Image) -> bool {
    let process = image.config.process();
    [&process.entrypoint, &process.cmd].iter().any(|words| words.as_ref().is_some_and(|w| !w.is_empty()))
}

/// A config.json has a command: this one is left out of what init reads.
pub(super) const NO_COMMAND: &str = "/sbin/init";

/// What it makes. Nothing where it has said why not.
pub(super) fn made_by(runner: &Program) -> Result<Option<Value>> {
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let out = program::memory()?;
    if runner.run([Some(null.as_fd()), Some(out.as_fd()), None])? != Status::Exited(0) {
        return Ok(None);
    }
    let read = serde_json::from_slice(&program::heard(out)?);
    read.map(Some).map_err(|e| Error::invalid(format!("read the runner's config.json: {e}")))
}
