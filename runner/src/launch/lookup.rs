//! The command is looked up before a created container waits: who creates it is to learn that there is none. What the
//! kernel says of its content is told at the exec, which has the last word.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_sys::Result;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};

use crate::process::{Plan, exec_error};

/// Where PATH is not set, as init has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Look for the command as init will, as this user and in this root.
pub(super) fn find_command(process: &Plan) -> Result<()> {
    let name = process.args.first().map_or("", String::as_str);
    let failed = |errno| Err(exec_error(name, errno));
    if name.is_empty() {
        return failed(Errno::ENOENT);
    }
    if name.contains('/') {
        return look(Path::new(name)).or_else(failed);
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut errno = Errno::ENOENT;
    for folder in path.as_bytes().split(|b| *b == b':') {
        let candidate = Path::new(OsStr::from_bytes(folder)).join(name);
        match look(&candidate) {
            Ok(()) => return Ok(()),
            // Another folder may have one that may be executed.
            Err(Errno::EACCES) if candidate.exists() => errno = Errno::EACCES,
            Err(_) => {}
        }
    }
    failed(errno)
}

fn look(path: &Path) -> std::result::Result<(), Errno> {
    let found = nix::sys::stat::stat(path)?;
    eaccess(path, AccessFlags::X_OK)?;
    match found.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        _ => Err(Errno::EACCES),
    }
}
