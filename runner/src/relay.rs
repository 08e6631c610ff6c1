//! Bytes between the caller and the container: what it writes into a terminal or pipe of ours goes to the
//! caller's streams, keys go to its terminal. Nothing here ever waits: a caller who does not read keeps the
//! container from writing, and us from nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::{Context, Result, process as process_sys, terminal as sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{read, write};

use coracle_sys::raw::Raw;

/// What a pipe takes at once when it takes anything: PIPE_BUF.
const PIECE: usize = 4096;

/// Something of the container's that is shown on one of our streams.
pub(crate) struct Output {
    /// None where nothing more is to come.
    from: Option<OwnedFd>,
    to: Stream,
    pending: Vec<u8>,
    /// What we write arrives.
    wanted: bool,
}

/// One of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// The container's terminal, seen from outside.
pub(crate) struct Screen {
    /// The pty's master.
    pub(crate) master: OwnedFd,
    /// The caller's terminal, raw, where keys are passed on.
    pub(crate) raw: Option<Raw>,
    /// Whether standard input is passed on.
    pub(crate) input: bool,
}

/// All of it.
pub(crate) struct Relay {
    outputs: Vec<Output>,
    screen: Option<Screen>,
    /// Keys that the container has not had room for.
    keys: Vec<u8>,
}

/// What a descriptor in the poll set is there for.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Read(usize),
    Write(usize),
    ReadKeys,
    WriteKeys,
}

impl Output {
    pub(crate) fn new(from: OwnedFd, to: Stream) -> Result<Self> {
        let flags = fcntl(&from, FcntlArg::F_GETFL).context(|| "fcntl(F_GETFL)")?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&from, FcntlArg::F_SETFL(flags)).context(|| "fcntl(F_SETFL, O_NONBLOCK)")?;
        Ok(Self { from: Some(from), to, pending: Vec::new(), wanted: true })
    }

    fn fill(&mut self) -> Result<()> {
        let Some(from) = &self.from else { return Ok(()) };
        let mut buffer = [0; 4 * PIECE];
        match read(from, &mut buffer) {
            Ok(n) if n > 0 => {
                if self.wanted {
                    self.pending.extend_from_slice(&buffer[..n]);
                }
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            // EIO: the last one who had the terminal inside has closed it.
            Ok(_) | Err(Errno::EIO) => {
                self.from = None;
                Ok(())
            }
            Err(e) => Err(e).context(|| "read(the container's output)"),
        }
    }

    fn flush(&mut self) {
        let piece = &self.pending[..self.pending.len().min(PIECE)];
        match write(self.to, piece) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Nobody reads any more: whoever writes is to hear of it.
            Err(Errno::EPIPE) => {
                self.from = None;
                self.pending.clear();
            }
            // It has nowhere to go; the container goes on.
            Err(_) => {
                self.wanted = false;
                self.pending.clear();
            }
        }
    }
}

impl Stream {
    /// Its descriptor.
    pub(crate) fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Output => sys::standard_output(),
            Self::Error => sys::standard_error(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl Relay {
    /// Of a screen, and of pipes.
    pub(crate) fn new(screen: Option<Screen>, mut outputs: Vec<Output>) -> Result<Self> {
        if let Some(screen) = &screen {
            let master = screen.master.try_clone().context(|| "dup(pty)")?;
            outputs.push(Output::new(master, Stream::Output)?);
        }
        Ok(Self { outputs, screen, keys: Vec::new() })
    }

    /// What to wait for, and why.
    pub(crate) fn poll_set(&self) -> Vec<(PollFd<'_>, Role)> {
        let mut set = Vec::new();
        for (n, output) in self.outputs.iter().enumerate() {
            if !output.pending.is_empty() {
                set.push((PollFd::new(output.to.as_fd(), PollFlags::POLLOUT), Role::Write(n)));
            } else if let Some(from) = &output.from {
                set.push((PollFd::new(from.as_fd(), PollFlags::POLLIN), Role::Read(n)));
            }
        }
        if let Some(screen) = self.screen.as_ref().filter(|_| self.outputs.iter().any(|o| o.from.is_some())) {
            if !self.keys.is_empty() {
                set.push((PollFd::new(screen.master.as_fd(), PollFlags::POLLOUT), Role::WriteKeys));
            } else if screen.input {
                set.push((PollFd::new(sys::standard_input(), PollFlags::POLLIN), Role::ReadKeys));
            }
        }
        set
    }

    /// Do what a descriptor is ready for.
    pub(crate) fn act(&mut self, role: Role) -> Result<()> {
        match role {
            Role::Read(n) => self.outputs[n].fill()?,
            Role::Write(n) => {
                let output = &mut self.outputs[n];
                let open = output.from.is_some();
                output.flush();
                // A terminal that nobody sees is hung up.
                if open && output.from.is_none() {
                    self.screen = None;
                }
            }
            Role::ReadKeys => self.read_keys(),
            Role::WriteKeys => self.write_keys(),
        }
        Ok(())
    }

    /// After the container's end: no more keys, and what it has written is shown to the last byte. Whether
    /// there is some left.
    pub(crate) fn drain(&mut self) -> Result<bool> {
        if let Some(screen) = &mut self.screen {
            screen.input = false;
        }
        self.keys.clear();
        for output in self.outputs.iter_mut().filter(|o| o.from.is_some() && o.pending.is_empty()) {
            output.fill()?;
            // Nobody writes any more: what is not there now does not come.
            if output.pending.is_empty() {
                output.from = None;
            }
        }
        Ok(self.outputs.iter().any(|o| o.from.is_some() || !o.pending.is_empty()))
    }

    fn read_keys(&mut self) {
        let mut buffer = [0; PIECE];
        match read(sys::standard_input(), &mut buffer) {
            Ok(n) if n > 0 => {
                self.keys.extend_from_slice(&buffer[..n]);
                self.write_keys();
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // The terminal is gone: what runs inside is told by a hang-up of ours, not by this.
            _ => {
                if let Some(screen) = &mut self.screen {
                    screen.input = false;
                }
            }
        }
    }

    fn write_keys(&mut self) {
        let Some(screen) = &self.screen else { return };
        match write(&screen.master, &self.keys) {
            Ok(n) => drop(self.keys.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.keys.clear(),
        }
    }

    fn raw(&self) -> Option<&Raw> {
        self.screen.as_ref()?.raw.as_ref()
    }

    /// Whether there is a screen.
    pub(crate) fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// Before we are stopped: the caller's shell gets its terminal back. One that is gone, or that is no
    /// longer ours to change, does not end the container.
    pub(crate) fn pause(&self) {
        if let Some(raw) = self.raw() {
            let _ = raw.suspend();
        }
    }

    /// After we were stopped: others have had the terminal, and may have changed its size.
    pub(crate) fn go_on(&self) {
        if let Some(raw) = self.raw() {
            let _ = raw.resume();
        }
        self.resize();
    }

    /// The container's terminal gets the size of ours.
    pub(crate) fn resize(&self) {
        if let (Some(screen), Ok((rows, columns))) = (&self.screen, sys::window_size(sys::standard_input())) {
            let _ = process_sys::set_window_size(screen.master.as_fd(), rows, columns);
        }
    }
}
