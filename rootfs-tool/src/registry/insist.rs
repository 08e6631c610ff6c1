//! Trying again: what may pass by itself (a broken connection, 429, 5xx) is waited for, longer each time, or as
//! long as the registry asks for.

use std::thread::sleep;
use std::time::Duration;

use coracle_sys::{Error, Result};

/// How often a request is made before its failure is believed.
const TRIES: u32 = 5;
/// The longest wait that a registry is granted.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a request did not succeed.
pub(super) enum Failure {
    /// It may pass, after so long when that is known.
    Passing(Error, Option<Duration>),
    /// It will not.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Lasting(e)
    }
}

impl Failure {
    /// The error, whatever comes of it.
    pub(super) fn error(self) -> Error {
        match self {
            Self::Passing(e, _) | Self::Lasting(e) => e,
        }
    }
}

/// Wait before the next try: half a second, one, two, four.
pub(super) fn wait(tried: u32, asked: Option<Duration>) {
    sleep(asked.unwrap_or(Duration::from_millis(500) * 2u32.pow(tried.min(4))).min(LONGEST));
}

/// Try until it succeeds, or fails for good.
pub(super) fn insist<T>(mut request: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut tried = 0;
    loop {
        match request() {
            Ok(value) => return Ok(value),
            Err(Failure::Passing(_, asked)) if tried + 1 < TRIES => wait(tried, asked),
            Err(failure) => return Err(failure.error()),
        }
        tried += 1;
    }
}
