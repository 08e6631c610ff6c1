//! The terminal of a container that others look after: its other side is sent to them over the socket that they named.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;

use crate::scm_rights;

/// How many seconds a client may take to accept a connection.
const PATIENCE: i64 = 10;

/// The way to who waits for it, or for another descriptor.
pub(crate) struct Console(OwnedFd);

impl Console {
    /// Connect to where the flag says, before anything is made: an address that is wrong is told early.
    pub(crate) fn connect(path: &Path, flag: &str) -> Result<Self> {
        let address =
            UnixAddr::new(path).context(|| format!("{flag}: {path:?} is no address of a socket"))?;
        let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
            .context(|| "socket(AF_UNIX, SOCK_STREAM)")?;
        // Connecting waits as sending does: who listens, and accepts nobody, is not waited for for ever.
        let _ = setsockopt(&stream, SendTimeout, &TimeVal::new(PATIENCE, 0));
        match connect(stream.as_raw_fd(), &address) {
            Err(Errno::EAGAIN) => Err(Error::new(
                Kind::Busy,
                format!("{flag}: nobody has accepted a connection to {} for {PATIENCE} s", path.display()),
            )),
            connected => connected
                .context(|| format!("connect({path:?})"))
                .context(|| flag.to_owned())
                .map(|()| Self(stream)),
        }
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
