//! `create --bundle DIR ID`: all of a container but its command, which waits for `start`.

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Error, Result};

use super::{Global, bundle};

/// Make a container of an OCI bundle; its command waits for `start`.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "create", example = "runner create --bundle DIR my-container")]
pub(crate) struct Flags {
    /// the bundle's folder, this one where none is named
    #[argh(option, short = 'b')]
    bundle: Option<PathBuf>,
    /// the config.json, where it lies elsewhere
    #[argh(option)]
    config: Option<PathBuf>,
    /// a socket that the other side of the terminal is sent to
    #[argh(option)]
    console_socket: Option<PathBuf>,
    /// a file for the first process' pid
    #[argh(option)]
    pid_file: Option<PathBuf>,
    /// a socket that a pidfd of the first process is sent to
    #[argh(option)]
    pidfd_socket: Option<PathBuf>,
    /// stay in the caller's session keyring
    #[argh(switch)]
    no_new_keyring: bool,
    /// how many descriptors from 3 on the command inherits
    #[argh(option, default = "0")]
    preserve_fds: u32,
    /// the container's id
    #[argh(positional)]
    id: String,
}

/// Make it.
pub(crate) fn run(global: &Global, flags: Flags) -> Result<u8> {
    let own = bundle::Flags {
        config: flags.config,
        root: global.root.clone(),
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
        pid_file: flags.pid_file,
        console_socket: flags.console_socket,
        pidfd_socket: flags.pidfd_socket,
    };
    let dir = flags.bundle.as_deref().unwrap_or(Path::new("."));
    if flags.bundle.is_none() && own.config.is_none() && !Path::new("config.json").exists() {
        return Err(Error::usage("JSON specification file config.json not found (create --bundle DIR ID)"));
    }
    bundle::begin(dir, &flags.id, &own, true).map(|()| 0)
}
