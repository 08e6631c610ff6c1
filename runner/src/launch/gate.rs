//! Where a created container waits for its start: a listening socket that outlives the runner who made it. The
//! connection that `start` makes becomes the channel on which the rest of the start is reported, so that whoever
//! starts it learns whether its command could be executed.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};

use super::wire::{Channel, Message};
use crate::unix;

/// The socket.
pub struct Gate {
    listening: OwnedFd,
    name: String,
}

impl Gate {
    /// Make one in a directory of states. What is there by its name is of a container that is no more.
    pub fn make(dir: &Path, name: String) -> Result<Self> {
        let listening = unix::listen_at(dir, &name, SockFlag::empty())?;
        Ok(Self { listening, name })
    }

    /// Its name in the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its descriptor, to be kept while all others are closed.
    pub(super) fn number(&self) -> RawFd {
        self.listening.as_raw_fd()
    }

    /// Wait for a start. Who only knocks, to learn whether somebody waits, is let go again.
    pub(super) fn wait(&self) -> Result<Channel> {
        loop {
            let accepted = match accept4(self.listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                other => other.context(|| "accept4(gate)")?,
            };
            let channel = Channel::of(crate::unix::adopt(accepted));
            if matches!(channel.receive(), Ok(Message::Go)) {
                return Ok(channel);
            }
        }
    }
}

/// The channel to who waits behind a gate; none when nobody does.
pub(super) fn knock(dir: &Path, name: &str) -> Result<Option<Channel>> {
    Ok(unix::connect_to(dir, name)?.map(Channel::of))
}
