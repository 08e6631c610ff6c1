//! `init`: the bytes of the program that the runner carries, for a root that is to have one of its own, such as that of a
//! machine that is booted.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use argh::CommandInfoWithArgs;
use coracle_sys::{Context, Error, Result};

use super::typed::{self, Typed};
use crate::embedded::init_image;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "init",
    "Write the init that this runner carries to standard output: a static program.",
    typed::NONE,
    &[],
    &["runner init >rootfs/init && chmod 755 rootfs/init"],
);

/// Write it.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    if Typed::read(&TABLE, words)?.is_none() {
        return Ok(0);
    }
    let mut out = std::io::stdout();
    if out.is_terminal() {
        return Err(Error::usage(
            "init writes a program: not to a terminal, name a file (runner init >FILE)",
        ));
    }
    out.write_all(init_image()).and_then(|()| out.flush()).context(|| "write(standard output)")?;
    Ok(0)
}
