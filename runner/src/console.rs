//! The terminal of a container that others look after: its other side is sent to them over the socket that they named.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use coracle_sys::{Context, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// The way to who waits for it.
pub(crate) struct Console(OwnedFd);

impl Console {
    /// Connect, before anything is made: an address that is wrong is told early.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path);
        Ok(Self(stream.context(|| format!("connect({path:?})")).context(|| "--console-socket")?.into()))
    }

    /// Send a descriptor, with a word that clients read as its name.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let fds = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let text = [IoSlice::new(name.as_bytes())];
        let sent = sendmsg::<()>(self.0.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None);
        sent.map(drop).context(|| "sendmsg(SCM_RIGHTS)").context(|| "hand over a descriptor")
    }
}
