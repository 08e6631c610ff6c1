//! What binds a monitor to who started it: session, working directory, descriptors. A caller who reads our output to its
//! end waits for everybody who holds the other side.

use std::os::fd::RawFd;

use coracle_sys::{Context, Result, process};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

/// Leave the caller's session and folder, and close what the caller has left open for its programs: everything of our own
/// is close-on-exec. The standard streams are kept for what there is to say until the container runs.
pub(super) fn cut() -> Result<()> {
    setsid().context(|| "setsid()")?;
    let entries = std::fs::read_dir("/proc/self/fd").context(|| "open(\"/proc/self/fd\")")?;
    let open: Vec<RawFd> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        process::close_if_inherited(fd);
    }
    Ok(())
}

/// From now on there is nobody to talk to.
pub(super) fn forget_standard_streams() -> Result<()> {
    chdir("/").context(|| "chdir(\"/\")")?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.context(|| "open(\"/dev/null\")")?;
    dup2_stdin(&null).context(|| "dup2(null, 0)")?;
    dup2_stdout(&null).context(|| "dup2(null, 1)")?;
    dup2_stderr(&null).context(|| "dup2(null, 2)")
}
