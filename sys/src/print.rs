//! What the programs print. A reader that has gone away, or a disk that is full, ends nothing half-way: the
//! verb goes on, and what went wrong with its output is told at the end.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

use crate::error::{Context, Result};

/// The first errno of the standard output.
static FAILED: AtomicI32 = AtomicI32::new(0);

/// A line on standard output, as `println!` without the panic.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($words)*))) };
}

/// A line on standard error, as `eprintln!` without the panic.
#[macro_export]
macro_rules! warn {
    ($($words:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($words)*))) };
}

/// Write to standard output.
pub fn out(text: Arguments<'_>) {
    note(std::io::stdout().write_fmt(text));
}

/// Write to standard error. There is nobody to tell when that fails.
pub fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(text);
}

/// Text of an image or a container for a terminal: its control characters, which could write to the
/// terminal's own memory, rename its window or fake lines, become blanks.
pub fn harmless(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Whether all that was printed has arrived. A pipe whose reader has seen enough is fine.
pub fn finish() -> Result<()> {
    note(std::io::stdout().flush());
    match Errno::from_raw(FAILED.load(Ordering::Relaxed)) {
        Errno::UnknownErrno | Errno::EPIPE => Ok(()),
        failed => Err(failed).context(|| "write(standard output)"),
    }
}

fn note(written: std::io::Result<()>) {
    if let Err(e) = written {
        let errno = e.raw_os_error().unwrap_or(libc::EIO);
        let _ = FAILED.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
    }
}
