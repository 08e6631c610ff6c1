//! Verbs about images are rootfs-tool's: the runner brings no network and no archive, and hands over.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Result, terminal as tty};

use super::Global;
use crate::guise::Guise;
use crate::own_file;

/// Those that are handed over.
pub(crate) const VERBS: [&str; 24] = [
    "apply", "boot", "bootfs", "build", "catalog", "compose", "copy", "du", "history", "images", "import",
    "load", "login", "logout", "pack", "pull", "push", "rmi", "save", "sbom", "search", "tag", "tags",
    "verify",
];

/// Become rootfs-tool. Comes back only with an error.
pub(crate) fn run(global: &Global, verb: &str, words: &[OsString]) -> Result<u8> {
    let mut command = rootfs_tool(global)?;
    command.word(verb);
    if global.guise == Guise::Docker {
        command.set("CORACLE_AS_DOCKER", "1");
    }
    words.iter().for_each(|word| command.word(word));
    Err(command.exec())
}

/// Let rootfs-tool get an image.
pub(crate) fn pull(global: &Global, name: &str, platform: Option<&str>, quiet: bool) -> Result<()> {
    match aside(global, "pull", name, platform, quiet)? {
        true => Ok(()),
        // What went wrong it has said itself.
        false => Err(Error::not_found(format!("no such image: {name}, and it could not be pulled"))),
    }
}

/// Let rootfs-tool apply the layers of an image that another tool has put into the store.
pub(crate) fn apply(global: &Global, name: &str, platform: Option<&str>) -> Result<()> {
    match aside(global, "apply", name, platform, true)? {
        true => Ok(()),
        false => Err(Error::invalid(format!("the layers of {name} could not be applied"))),
    }
}

/// Let rootfs-tool do something, and tell whether it could. What it says goes to standard error: standard output is
/// the container's.
fn aside(global: &Global, verb: &str, name: &str, platform: Option<&str>, quiet: bool) -> Result<bool> {
    let mut command = rootfs_tool(global)?;
    let words = [verb].into_iter().chain(quiet.then_some("--quiet"));
    let words = words.chain(platform.into_iter().flat_map(|p| ["--platform", p])).chain([name]);
    words.for_each(|word| command.word(word));
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let status = command.run([Some(null.as_fd()), Some(tty::standard_error()), None])?;
    Ok(status == Status::Exited(0))
}

/// rootfs-tool, on the store that is meant.
pub(super) fn rootfs_tool(global: &Global) -> Result<Program> {
    let mut command = Program::new(&find()?);
    global.store.iter().for_each(|store| command.set("CORACLE_STORE", store));
    global.docker_config.iter().for_each(|dir| command.set("DOCKER_CONFIG", &dir.to_string_lossy()));
    Ok(command)
}

/// Beside the runner, then in ../libexec/coracle; CORACLE_ROOTFS_TOOL overrides.
fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CORACLE_ROOTFS_TOOL").filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let own = own_file::path()?;
    let beside = own.with_file_name("rootfs-tool");
    let libexec = own.parent().map(|bin| bin.join("../libexec/coracle/rootfs-tool"));
    let found = [Some(beside), libexec].into_iter().flatten().find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::not_found("find rootfs-tool: it lies neither beside runner nor in ../libexec/coracle (CORACLE_ROOTFS_TOOL names it elsewhere)")
    })
}

/// What rootfs-tool prints when it is asked; none where it cannot tell.
pub(crate) fn answer(global: &Global, words: &[&str]) -> Result<Option<Vec<u8>>> {
    let mut command = rootfs_tool(global)?;
    words.iter().for_each(|word| command.word(*word));
    let (status, said, _) = command.hear()?;
    Ok((status == Status::Exited(0)).then_some(said))
}
