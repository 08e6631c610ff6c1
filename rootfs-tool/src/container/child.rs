//! A child that does the container's side of a copy: in the container's user namespace, in mounts of its own, with
//! nothing of the host's paths. It is made before there is a second thread.

use std::fs::File;
use std::io::Read;

use coracle_sys::process::{Cloned, Status, clone, exit_now, wait};
use coracle_sys::{Context, Error, Kind, Result};
use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{pipe2, write};

/// One at work.
pub(crate) struct Child {
    pid: i32,
    said: File,
}

/// Exit codes that tell what kind of error it was: rootfs-tool ends by them.
const USAGE: i32 = 2;

/// Both ends of a pipe: what is read from, and what is written to.
pub(crate) fn pipe() -> Result<(File, File)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context(|| "pipe2()")?;
    Ok((read.into(), write.into()))
}

/// It has nobody to work for then. The kernel forgets this when a process becomes somebody else.
pub(crate) fn die_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context(|| "prctl(PR_SET_PDEATHSIG)")
}

impl Child {
    /// Let it do its work. `ours` is the end of a pipe that it is not to hold open.
    pub(crate) fn begin(
        ours: Option<File>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<(Self, Option<File>)> {
        let (said, answer) = pipe2(OFlag::O_CLOEXEC).context(|| "pipe2()")?;
        match clone(0, None)? {
            Cloned::Child => {
                drop((said, ours));
                let done = die_with_parent().and_then(|()| work());
                if let Err(e) = &done {
                    let _ = write(&answer, e.to_string().as_bytes());
                }
                exit_now(match done {
                    Ok(()) => 0,
                    Err(e) if e.is_usage() => USAGE,
                    Err(_) => 1,
                })
            }
            Cloned::Parent { pid, .. } => Ok((Self { pid, said: said.into() }, ours)),
        }
    }

    /// Wait for its end, and hear what went wrong.
    pub(crate) fn end(mut self) -> Result<()> {
        let mut said = String::new();
        let heard = self.said.read_to_string(&mut said);
        match wait(self.pid)?.status {
            Status::Exited(0) => Ok(()),
            Status::Exited(code) => {
                heard.context(|| "read(pipe)")?;
                Err(Error::new(if code == USAGE { Kind::Usage } else { Kind::Invalid }, said))
            }
            Status::Signaled(signal) => {
                Err(Error::invalid(format!("the copy was killed by signal {signal}")))
            }
        }
    }
}
