//! Descriptors that go to other processes over a socket, unix(7).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Send one with a text. A peer that is gone is EPIPE and no signal.
pub(crate) fn send(socket: &impl AsFd, text: &[u8], fd: &impl AsFd) -> nix::Result<usize> {
    let fds = [fd.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(text)], &rights, MsgFlags::MSG_NOSIGNAL, None)
}
