//! What the monitor has of the container's streams: the terminal's other side, or pipes.

use std::os::fd::{AsFd, OwnedFd};

use coracle_sys::{Context, Result, process};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{pipe2, read, write};

use crate::relay::Stream;

/// What is read at once: what a pipe holds in one page, so that a line of the log has few pieces.
const PIECE: usize = 4 * 4096;

/// Keys that the container does not read are kept up to this length; then those who type wait.
const KEYS: usize = 64 << 10;

/// All of it.
#[derive(Default)]
pub(super) struct Screen {
    outputs: Vec<(Stream, Option<OwnedFd>)>,
    terminal: bool,
    input: Option<OwnedFd>,
    /// What the container has not had room for.
    keys: Vec<u8>,
    /// Nothing comes after those keys.
    closing: bool,
}

/// A pipe: where it is read, where it is written.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context(|| "pipe2(O_CLOEXEC)")
}

fn without_waiting(fd: OwnedFd) -> Result<OwnedFd> {
    let flags = fcntl(&fd, FcntlArg::F_GETFL).context(|| "fcntl(F_GETFL)")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(&fd, FcntlArg::F_SETFL(flags)).context(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
    Ok(fd)
}

impl Screen {
    pub(super) fn of_pipes(input: Option<OwnedFd>, output: OwnedFd, error: OwnedFd) -> Result<Self> {
        Ok(Self {
            outputs: vec![
                (Stream::Output, Some(without_waiting(output)?)),
                (Stream::Error, Some(without_waiting(error)?)),
            ],
            input: input.map(without_waiting).transpose()?,
            ..Self::default()
        })
    }

    pub(super) fn of_terminal(master: OwnedFd) -> Result<Self> {
        let master = without_waiting(master)?;
        let input = master.try_clone().context(|| "dup(pty)")?;
        Ok(Self {
            outputs: vec![(Stream::Output, Some(master))],
            terminal: true,
            input: Some(input),
            ..Self::default()
        })
    }

    /// What to wait for. [`Screen::read`] wants the answers in this order.
    pub(super) fn poll_set<'a>(&'a self, set: &mut Vec<PollFd<'a>>) {
        set.extend(self.outputs.iter().filter_map(|(_, fd)| fd.as_ref()).map(|fd| {
            let keys = self.terminal && !self.keys.is_empty();
            let flags = if keys { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            PollFd::new(fd.as_fd(), flags)
        }));
        if !self.terminal && !self.keys.is_empty() {
            set.extend(self.input.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        }
    }

    /// Hand on what there is to read, once of each stream. Whether there was something.
    pub(super) fn read(&mut self, ready: &[bool], mut show: impl FnMut(Stream, &[u8])) -> Result<bool> {
        let mut any = false;
        let mut ready = ready.iter();
        let mut buffer = [0; PIECE];
        for (stream, fd) in &mut self.outputs {
            let Some(from) = fd else { continue };
            if ready.next() != Some(&true) {
                continue;
            }
            match read(&*from, &mut buffer) {
                Ok(n) if n > 0 => {
                    show(*stream, &buffer[..n]);
                    any = true;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // EIO: the last one who had the terminal inside has closed it.
                Ok(_) | Err(Errno::EIO) => *fd = None,
                Err(e) => return Err(e).context(|| "read(the container's output)"),
            }
        }
        self.press();
        Ok(any)
    }

    /// Whether it takes more keys.
    pub(super) fn has_room(&self) -> bool {
        self.keys.len() < KEYS
    }

    /// Keys for the container. One without an input takes none.
    pub(super) fn type_in(&mut self, keys: &[u8]) {
        if self.input.is_some() && !self.closing {
            self.keys.extend_from_slice(keys);
            self.press();
        }
    }

    /// There will be no more of them. A terminal is not closed, as there is one end of it for both ways.
    pub(super) fn close_input(&mut self) {
        self.closing = !self.terminal;
        self.press();
    }

    fn press(&mut self) {
        while let (Some(to), false) = (&self.input, self.keys.is_empty()) {
            match write(to, &self.keys) {
                Ok(n) => drop(self.keys.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.keys = Vec::new();
                    self.input = None;
                }
            }
        }
        if self.closing {
            self.input = None;
        }
    }

    /// The container's terminal gets this size.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let (true, Some(master)) = (self.terminal, &self.input) {
            let _ = process::set_window_size(master.as_fd(), rows, columns);
        }
    }
}
