//! Verbs about images are rootfs-tool's: the runner brings no network and no archive, and hands over.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use coracle_sys::{Context, Error, Result};

use super::Global;

/// Those that are handed over.
pub(crate) const VERBS: [&str; 6] = ["images", "inspect", "history", "rmi", "tag", "compose"];

/// Become rootfs-tool. Comes back only with an error.
pub(crate) fn run(global: &Global, verb: &str, words: &[OsString]) -> Result<u8> {
    let program = find()?;
    let mut command = Command::new(&program);
    if let Some(store) = &global.store {
        command.env("CORACLE_STORE", store);
    }
    let error = command.arg(verb).args(words).exec();
    Err::<u8, _>(error).context(|| format!("execve({program:?})"))
}

/// Beside the runner, then in ../libexec/coracle; CORACLE_ROOTFS_TOOL overrides.
fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CORACLE_ROOTFS_TOOL").filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context(|| "readlink(\"/proc/self/exe\")")?;
    let beside = own.with_file_name("rootfs-tool");
    let libexec = own.parent().map(|bin| bin.join("../libexec/coracle/rootfs-tool"));
    let found = [Some(beside), libexec].into_iter().flatten().find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::not_found("find rootfs-tool: it lies neither beside runner nor in ../libexec/coracle (CORACLE_ROOTFS_TOOL names it elsewhere)")
    })
}
