//! Terminals: their size, and descriptors of processes that only hold one.
#![allow(unsafe_code)] // ioctl(2) takes pointers that nix does not wrap for window sizes

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::{Context, Result};

/// Descriptor 0.
pub fn standard_input() -> BorrowedFd<'static> {
    // SAFETY: std opens 0, 1 and 2 before main where they are closed, and nothing here closes them.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Descriptor 1.
pub fn standard_output() -> BorrowedFd<'static> {
    // SAFETY: as above.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Descriptor 2.
pub fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: as above.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Rows and columns, tty_ioctl(4). `ENOTTY` where it is none.
pub fn window_size(tty: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is and which outlives the call.
    let result = unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).context(|| format!("ioctl({}, TIOCGWINSZ)", tty.as_raw_fd()))?;
    Ok((size.ws_row, size.ws_col))
}

/// Keep `first` as descriptor 0 and `second` as 1, and close every other one, close_range(2).
pub fn keep_only(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: plain system calls on descriptor numbers. The caller is a process of its own that holds
    // nothing else, so nobody's descriptor is closed under them.
    let result = unsafe {
        // Out of the way of 0 and 1 first, whatever their numbers are.
        let (a, b) = (
            libc::fcntl(first.as_raw_fd(), libc::F_DUPFD, 3),
            libc::fcntl(second.as_raw_fd(), libc::F_DUPFD, 3),
        );
        let moved = if a < 0 || b < 0 || libc::dup2(a, 0) < 0 { -1 } else { libc::dup2(b, 1) };
        if moved < 0 { -1 } else { libc::syscall(libc::SYS_close_range, 2, u32::MAX, 0) as i32 }
    };
    Errno::result(result).map(drop).context(|| "close_range(2, max, 0)")
}

/// While it lives, what is typed is not shown.
pub struct Hidden {
    tty: BorrowedFd<'static>,
    before: Termios,
}

impl Hidden {
    /// From now on, on this terminal.
    pub fn begin(tty: BorrowedFd<'static>) -> Result<Self> {
        let before = tcgetattr(tty).context(|| "tcgetattr()")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(tty, SetArg::TCSAFLUSH, &silent).context(|| "tcsetattr(TCSAFLUSH)")?;
        Ok(Self { tty, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, SetArg::TCSANOW, &self.before);
    }
}
