//! A blob on its way here: where the connection breaks off, the rest is asked for.

use std::io::{self, Read};
use std::time::Duration;

use coracle_store::image::Descriptor;
use coracle_sys::{Error, Kind};

use super::insist::{self, Failure};
use super::pace::{self, Pace};

/// Breaks in a row, with less than [`PROGRESS`] between them.
const BREAKS: u32 = 5;
const PROGRESS: u64 = 1 << 20;

/// Asks for a blob from an offset on.
pub(super) type Open<'a> = Box<dyn FnMut(u64) -> Result<Box<dyn Read + Send>, Failure> + Send + 'a>;

pub(super) struct Resuming<'a> {
    open: Open<'a>,
    what: String,
    size: u64,
    at: u64,
    body: Option<Box<dyn Read + Send>>,
    breaks: u32,
    /// Where the last break was.
    broke: u64,
    pace: Pace,
}

impl<'a> Resuming<'a> {
    pub(super) fn new(d: &Descriptor, from: u64, body: Box<dyn Read + Send>, open: Open<'a>) -> Self {
        Self {
            open,
            what: format!("receive the blob {}", d.digest),
            size: d.size,
            at: from,
            body: Some(body),
            breaks: 0,
            broke: from,
            pace: Pace::begin(from),
        }
    }

    /// It broke off: wait and go on, unless that has been tried enough.
    fn broken(&mut self, why: &Error, asked: Option<Duration>) -> io::Result<()> {
        if self.at - self.broke >= PROGRESS {
            self.breaks = 0;
        }
        self.broke = self.at;
        self.body = None;
        self.breaks += 1;
        if self.breaks > BREAKS {
            return Err(self.error(why));
        }
        insist::wait(self.breaks - 1, asked);
        Ok(())
    }

    fn error(&self, why: &Error) -> io::Error {
        io::Error::other(format!("{}: after {} of {} bytes: {why}", self.what, self.at, self.size))
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(body) = &mut self.body else {
                match (self.open)(self.at) {
                    Ok(body) => self.body = Some(body),
                    Err(Failure::Passing(e, asked)) => self.broken(&e, asked)?,
                    Err(Failure::Lasting(e)) => return Err(self.error(&e)),
                }
                continue;
            };
            match body.read(buf) {
                Ok(0) if self.at < self.size => {
                    self.broken(&Error::new(Kind::System, "the connection ended"), None)?;
                }
                Ok(n) => {
                    self.at += n as u64;
                    if n > 0 && !self.pace.goes_on(self.at) {
                        return Err(self.error(&Error::new(Kind::System, pace::TOO_SLOW)));
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.broken(&Error::new(Kind::System, e.to_string()), None)?,
            }
        }
    }
}
