//! A terminal that nobody looks at, of a command that was left alone: somebody has to hold its other side, else it hangs up,
//! and to read it, else who writes to it waits. A process of its own does that until nobody has the terminal any more.

use std::os::fd::{AsRawFd, OwnedFd};

use coracle_sys::process::{Cloned, close_all_but, exit_now};
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::unistd::read;

use super::{born, ties};
use crate::cgroups;

/// Have it held. The caller has one thread.
pub(crate) fn unseen(master: OwnedFd) -> Result<()> {
    let aside = cgroups::aside();
    if let Cloned::Child = born(&aside).context(|| "make the process that holds the terminal")? {
        aside.enter();
        if ties::cut().and_then(|()| ties::forget_standard_streams()).is_ok()
            && close_all_but(3, &[master.as_raw_fd()]).is_ok()
        {
            let mut lost = [0; 4096];
            // Of the last who had it the kernel says EIO.
            while matches!(read(&master, &mut lost), Ok(1..) | Err(Errno::EINTR)) {}
        }
        exit_now(0);
    }
    Ok(())
}
