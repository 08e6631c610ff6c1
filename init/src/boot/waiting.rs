//! Waiting for something to appear, with a limit, and without keeping a machine that is told to go down.

use super::fault::{Fault, Result};
use crate::sys::{self, machine};

/// Signals that end the machine.
pub(crate) const ENDING: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPWR];

/// Ask again and again until it is there, for so many milliseconds. Whether it is; a fault when the machine is to end.
pub(crate) fn until(millis: u32, there: &mut dyn FnMut() -> bool) -> Result<bool> {
    let end = sys::now() + u64::from(millis) * 1000;
    while !there() {
        if ENDING.iter().any(|signal| sys::is_pending(*signal as u8)) {
            return Err(Fault::text(b"start", b"", b"the machine was told to end"));
        }
        if sys::now() >= end {
            return Ok(false);
        }
        machine::sleep(2);
    }
    Ok(true)
}
