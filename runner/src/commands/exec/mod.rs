//! `exec`: one more process in a container that runs, by the container's face.

mod image;
mod oci;

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Error, Result};

use super::Global;

/// Run a command in a running container.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "exec",
    example = "runner exec -it my-container sh\nrunner exec -u nobody -w /tmp my-container id"
)]
pub(crate) struct Flags {
    /// keep standard input open
    #[argh(switch, short = 'i')]
    interactive: bool,
    /// give the command a terminal of its own
    #[argh(switch, short = 't')]
    tty: bool,
    /// set a variable, or pass this one on: NAME=VALUE or NAME
    #[argh(option, short = 'e')]
    env: Vec<String>,
    /// user and group, names or numbers: USER[:GROUP]
    #[argh(option, short = 'u')]
    user: Option<String>,
    /// working directory inside
    #[argh(option, short = 'w')]
    workdir: Option<String>,
    /// all capabilities
    #[argh(switch)]
    privileged: bool,
    /// leave the command to others once it runs
    #[argh(switch, short = 'd')]
    detach: bool,
    /// OCI: a file with the whole process, as in config.json
    #[argh(option, short = 'p')]
    process: Option<PathBuf>,
    /// OCI: a file for the command's pid
    #[argh(option)]
    pid_file: Option<PathBuf>,
    /// OCI: a socket that the other side of the terminal is sent to
    #[argh(option)]
    console_socket: Option<PathBuf>,
    /// OCI: a socket that a pidfd of the command is sent to
    #[argh(option)]
    pidfd_socket: Option<PathBuf>,
    /// OCI: working directory inside
    #[argh(option)]
    cwd: Option<String>,
    /// OCI: add a capability
    #[argh(option, short = 'c')]
    cap: Vec<String>,
    /// OCI: add a group
    #[argh(option, short = 'g')]
    additional_gids: Vec<u32>,
    /// OCI: execve grants no new privileges
    #[argh(switch)]
    no_new_privs: bool,
    /// OCI: how many descriptors from 3 on the command inherits
    #[argh(option, default = "0")]
    preserve_fds: u32,
    /// OCI: also where the container is paused
    #[argh(switch)]
    ignore_paused: bool,
    /// name, id or beginning of an id
    #[argh(positional)]
    container: Option<String>,
}

impl Flags {
    /// Is something said that only OCI clients say?
    fn is_oci(&self) -> bool {
        self.process.is_some()
            || self.pid_file.is_some()
            || self.console_socket.is_some()
            || self.pidfd_socket.is_some()
            || self.cwd.is_some()
            || !self.cap.is_empty()
            || !self.additional_gids.is_empty()
            || self.no_new_privs
            || self.preserve_fds > 0
            || self.ignore_paused
    }
}

/// Run it. The exit code is the command's.
pub(crate) fn run(global: &Global, flags: &Flags, command: &[String]) -> Result<u8> {
    let typed =
        flags.container.as_deref().ok_or_else(|| Error::usage("exec needs a container and a command"))?;
    if let Some(container) = super::oci::Container::if_meant(global, typed, flags.is_oci())? {
        return oci::run(container, flags, command);
    }
    if flags.detach {
        return Err(Error::unsupported("exec -d in a container of an image is not there yet"));
    }
    image::run(global, flags, command)
}
