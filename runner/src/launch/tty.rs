//! The command's own terminal: made from the container's devpts and looked at before it is used, so
//! that a swapped path gives an error and not a terminal of the host's.

use std::os::fd::{AsFd, OwnedFd};

use coracle_sys::{Context, Error, Kind, Result, process as sys};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::wire::{Channel, Message};

/// Open the other side of `ptmx`, which was opened without blocking, and hand `ptmx` to the parent.
pub(super) fn make(ptmx: OwnedFd, channel: &Channel) -> Result<OwnedFd> {
    let magic = fstatfs(&ptmx).context(|| "fstatfs(ptmx)")?.filesystem_type();
    if magic != DEVPTS_SUPER_MAGIC {
        return Err(Error::new(Kind::Denied, "the container's /dev/pts/ptmx is not of a devpts"));
    }
    fcntl(&ptmx, FcntlArg::F_SETFL(OFlag::O_RDWR)).context(|| "fcntl(ptmx, F_SETFL, O_RDWR)")?;
    let peer = sys::pty_peer(ptmx.as_fd())?;
    channel.send(&Message::Console(ptmx))?;
    Ok(peer)
}

/// Make it the controlling terminal of this session leader, and its standard streams.
pub(super) fn enter(tty: OwnedFd, (rows, columns): (u16, u16)) -> Result<()> {
    if (rows, columns) != (0, 0) {
        sys::set_window_size(tty.as_fd(), rows, columns)?;
    }
    sys::set_controlling_terminal(tty.as_fd())?;
    dup2_stdin(&tty).context(|| "dup2(tty, 0)")?;
    dup2_stdout(&tty).context(|| "dup2(tty, 1)")?;
    dup2_stderr(&tty).context(|| "dup2(tty, 2)")
}

/// What the terminal is mounted on: whatever the image has there is not opened to be read, and no link is followed.
pub(super) fn console(dev: &OwnedFd) -> Result<OwnedFd> {
    let open = |flags, text| {
        let mode = Mode::from_bits_truncate(0o600);
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | flags;
        nix::fcntl::openat(dev, "console", flags, mode)
            .context(|| format!("openat(\"/dev/console\", {text})"))
    };
    let found = match open(OFlag::O_PATH, "O_PATH|O_NOFOLLOW") {
        Err(e) if e.kind() == Kind::NotFound => open(OFlag::O_CREAT | OFlag::O_EXCL, "O_CREAT|O_EXCL")?,
        found => found?,
    };
    let stat = fstat(&found).context(|| "fstat(\"/dev/console\")")?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFCHR => Ok(found),
        _ => Err(Error::invalid("the image's /dev/console is neither a file nor a terminal")),
    }
}
