//! The terminal of a container that others look after: its other side is sent to them over the socket that they named.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use coracle_sys::{Context, Error, Result};

use crate::scm_rights;

/// The way to who waits for it, or for another descriptor.
pub(crate) struct Console(OwnedFd);

impl Console {
    /// Connect to where the flag says, before anything is made: an address that is wrong is told early.
    pub(crate) fn connect(path: &Path, flag: &str) -> Result<Self> {
        let stream = UnixStream::connect(path);
        Ok(Self(stream.context(|| format!("connect({path:?})")).context(|| flag.to_owned())?.into()))
    }

    /// The one of `--console-socket`, which has to be there, or must not, by whether there is a terminal and whether its
    /// process is left to others.
    pub(crate) fn asked(socket: Option<&Path>, terminal: bool, detach: bool) -> Result<Option<Self>> {
        match socket {
            Some(path) if terminal => Self::connect(path, "--console-socket").map(Some),
            Some(_) => Err(Self::unwanted()),
            None if terminal && detach => Err(Error::usage(
                "cannot allocate tty if the runner will detach without setting console socket",
            )),
            None => Ok(None),
        }
    }

    /// Nothing will be sent.
    pub(crate) fn unwanted() -> Error {
        Error::usage("cannot use console socket if the runner will not detach or allocate tty")
    }

    /// Send a descriptor, with a word that clients read as its name.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let sent = scm_rights::send(&self.0, name.as_bytes(), &fd);
        sent.map(drop).context(|| "sendmsg(SCM_RIGHTS)").context(|| "hand over a descriptor")
    }
}
