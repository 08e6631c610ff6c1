//! Sockets that keep the bounds of messages, under a name in a directory whose path is of any length, unix(7): an address
//! holds 108 bytes, so the directory stands in it by its descriptor.

mod sys;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};

pub(crate) use sys::adopt;

/// Listen under a name. What is there by that name is of somebody who is no more.
pub(crate) fn listen_at(dir: &Path, name: &str, flags: SockFlag) -> Result<OwnedFd> {
    let listening = seqpacket(flags)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let _ = std::fs::remove_file(dir.join(name));
    let bound = at(dir, name, |address| bind(listening.as_raw_fd(), address));
    umask(before);
    bound.context(|| format!("bind({:?})", dir.join(name)))?;
    listen(&listening, Backlog::new(8).unwrap_or(Backlog::MAXCONN)).context(|| "listen()")?;
    Ok(listening)
}

/// Connect to who listens under a name; none where nobody does.
pub(crate) fn connect_to(dir: &Path, name: &str) -> Result<Option<OwnedFd>> {
    let fd = seqpacket(SockFlag::empty())?;
    match at(dir, name, |address| connect(fd.as_raw_fd(), address)) {
        Ok(()) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Some(Errno::ECONNREFUSED | Errno::ENOENT)) => Ok(None),
        Err(e) => Err(e.wrap(format!("connect({:?})", dir.join(name)))),
    }
}

fn seqpacket(flags: SockFlag) -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None)
        .context(|| "socket(AF_UNIX, SOCK_SEQPACKET)")
}

fn at(dir: &Path, name: &str, with: impl FnOnce(&UnixAddr) -> nix::Result<()>) -> Result<()> {
    let held = File::open(dir).context(|| format!("open({dir:?})"))?;
    let path = format!("/proc/self/fd/{}/{name}", held.as_raw_fd());
    let address =
        UnixAddr::new(path.as_str()).map_err(|_| Error::new(Kind::Invalid, "the address is too long"))?;
    with(&address).context(|| "unix(7)")
}
