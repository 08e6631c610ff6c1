//! `create --bundle DIR ID`: all of a container but its command, which waits for `start`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Result};

use super::typed::{self, Typed};
use super::{Global, bundle};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "create",
    "Make a container of an OCI bundle; its command waits for start.",
    typed::ID,
    &[
        typed::option("--bundle", Some('b'), "dir", "the bundle's folder, this one where none is named"),
        typed::option("--config", None, "file", "the config.json, where it lies elsewhere"),
        typed::option(
            "--console-socket",
            None,
            "path",
            "a socket that the other side of the terminal is sent to",
        ),
        typed::option("--pid-file", None, "file", "a file for the first process' pid"),
        typed::option(
            "--pidfd-socket",
            None,
            "path",
            "a socket that a pidfd of the first process is sent to",
        ),
        typed::switch("--no-new-keyring", None, "stay in the caller's session keyring"),
        typed::switch(
            "--no-pivot",
            None,
            "for clients on a ramdisk, where the root is left by pivot_root all the same",
        ),
        typed::option("--preserve-fds", None, "n", "how many descriptors from 3 on the command inherits"),
    ],
    &["runner create --bundle DIR my-container"],
);

/// Make it.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let id = typed.one("create", "the container's id")?;
    let path = |flag: &str| typed.get(flag).map(PathBuf::from);
    let own = bundle::Flags {
        config: path("--config"),
        root: global.root.clone(),
        groups: global.groups,
        no_new_keyring: typed.get("--no-new-keyring").is_some(),
        preserve_fds: typed.number("--preserve-fds")?.unwrap_or(0),
        keep: false,
        pid_file: path("--pid-file"),
        console_socket: path("--console-socket"),
        pidfd_socket: path("--pidfd-socket"),
    };
    let dir = path("--bundle");
    if dir.is_none() && own.config.is_none() && !Path::new("config.json").exists() {
        return Err(Error::usage("JSON specification file config.json not found (create --bundle DIR ID)"));
    }
    bundle::begin(dir.as_deref().unwrap_or(Path::new(".")), id, &own, true).map(|()| 0)
}
