//! The standard streams of a container without a terminal of its own. Its input is nothing unless it was
//! given ours; a terminal of the caller's it never gets, not as output either: what can be written to can be
//! read from, and holds what is typed next. It gets a pipe there, and [`crate::relay`] shows what comes out.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::{Context, Result, terminal as sys};
use nix::fcntl::OFlag;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use crate::relay::{Output, Stream};

/// Ours, while the container's stand in their places.
#[derive(Default)]
pub(crate) struct Streams {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    outputs: Vec<Output>,
}

impl Streams {
    /// All as they are: for a container with a terminal of its own, or one that is to have ours.
    pub(crate) fn ours() -> Self {
        Self::default()
    }

    /// Put the container's in place. With `input`, ours is its own.
    pub(crate) fn replace(input: bool) -> Result<Self> {
        let mut streams = Self::default();
        if !input {
            streams.input = Some(keep(sys::standard_input())?);
            let null = std::fs::File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
            dup2_stdin(&null).context(|| "dup2(null, 0)")?;
        }
        if sys::standard_output().is_terminal() {
            streams.output = Some(keep(sys::standard_output())?);
            let theirs = streams.pipe(Stream::Output)?;
            dup2_stdout(theirs).context(|| "dup2(pipe, 1)")?;
        }
        if sys::standard_error().is_terminal() {
            streams.error = Some(keep(sys::standard_error())?);
            let theirs = streams.pipe(Stream::Error)?;
            dup2_stderr(theirs).context(|| "dup2(pipe, 2)")?;
        }
        Ok(streams)
    }

    /// Put these in place: input, output and error.
    pub(crate) fn put([input, output, error]: &[OwnedFd; 3]) -> Result<Self> {
        let mut streams = Self::default();
        streams.input = Some(keep(sys::standard_input())?);
        streams.output = Some(keep(sys::standard_output())?);
        streams.error = Some(keep(sys::standard_error())?);
        dup2_stdin(input).context(|| "dup2(input, 0)")?;
        dup2_stdout(output).context(|| "dup2(output, 1)")?;
        dup2_stderr(error).context(|| "dup2(error, 2)")?;
        Ok(streams)
    }

    fn pipe(&mut self, to: Stream) -> Result<OwnedFd> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context(|| "pipe2(O_CLOEXEC)")?;
        self.outputs.push(Output::new(ours, to)?);
        Ok(theirs)
    }

    /// The container has what it needs: ours again, and what is to be shown on them.
    pub(crate) fn restore(mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(kept) = &self.input {
            let _ = dup2_stdin(kept);
        }
        if let Some(kept) = &self.output {
            let _ = dup2_stdout(kept);
        }
        if let Some(kept) = &self.error {
            let _ = dup2_stderr(kept);
        }
    }
}

fn keep(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().context(|| "dup(standard stream)")
}
