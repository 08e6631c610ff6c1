//! Where a created container waits for its start: a listening socket that outlives the runner who made it. The
//! connection that `start` makes becomes the channel on which the rest of the start is reported, so that whoever
//! starts it learns whether its command could be executed.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, umask};

use super::wire::{Channel, Message};

/// The socket.
pub struct Gate {
    listening: OwnedFd,
    name: String,
}

impl Gate {
    /// Make one in a directory of states. What is there by its name is of a container that is no more.
    pub fn make(dir: &Path, name: String) -> Result<Self> {
        let listening = stream()?;
        let before = umask(Mode::from_bits_truncate(0o177));
        let _ = std::fs::remove_file(dir.join(&name));
        let bound = at(dir, &name, |address| bind(listening.as_raw_fd(), address));
        umask(before);
        bound.context(|| format!("bind({:?})", dir.join(&name)))?;
        listen(&listening, Backlog::new(8).unwrap_or(Backlog::MAXCONN)).context(|| "listen(gate)")?;
        Ok(Self { listening, name })
    }

    /// Its name in the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wait for a start. Who only knocks, to learn whether somebody waits, is let go again.
    pub(super) fn wait(&self) -> Result<Channel> {
        loop {
            let accepted = match accept4(self.listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                other => other.context(|| "accept4(gate)")?,
            };
            let channel = Channel::of(super::sys::adopt(accepted));
            if matches!(channel.receive(), Ok(Message::Go)) {
                return Ok(channel);
            }
        }
    }
}

/// The channel to who waits behind a gate; none when nobody does.
pub(super) fn knock(dir: &Path, name: &str) -> Result<Option<Channel>> {
    let fd = stream()?;
    match at(dir, name, |address| connect(fd.as_raw_fd(), address)) {
        Ok(()) => Ok(Some(Channel::of(fd))),
        Err(e) if matches!(e.errno(), Some(Errno::ECONNREFUSED | Errno::ENOENT)) => Ok(None),
        Err(e) => Err(e.wrap(format!("connect({:?})", dir.join(name)))),
    }
}

fn stream() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .context(|| "socket(AF_UNIX, SOCK_SEQPACKET)")
}

/// A path of any length: an address holds 108 bytes, and the directory stands in it by its descriptor.
fn at(dir: &Path, name: &str, with: impl FnOnce(&UnixAddr) -> nix::Result<()>) -> Result<()> {
    let held = File::open(dir).context(|| format!("open({dir:?})"))?;
    let path = format!("/proc/self/fd/{}/{name}", held.as_raw_fd());
    let address =
        UnixAddr::new(path.as_str()).map_err(|_| Error::new(Kind::Invalid, "the address is too long"))?;
    with(&address).context(|| "unix(7)")
}
