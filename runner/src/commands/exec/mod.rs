//! `exec`: one more process in a container that runs, by the container's face.

mod image;
mod oci;

use std::ffi::OsString;
use std::path::PathBuf;

use argh::CommandInfoWithArgs;
use coracle_sys::argv::Tail;
use coracle_sys::{Error, Kind, Result};

use super::Global;
use super::oci::Container;
use super::typed::{self, Typed};
use crate::state::Identity;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "exec",
    "Run a command in a running container.",
    typed::CONTAINER,
    &[
        typed::switch("--interactive", Some('i'), "keep standard input open"),
        typed::switch("--tty", Some('t'), "give the command a terminal of its own"),
        typed::list(
            "--env",
            Some('e'),
            "name=value",
            "set a variable, or pass this one on: NAME=VALUE or NAME",
        ),
        typed::list("--env-file", None, "file", "read variables from a file, one a line"),
        typed::option("--user", Some('u'), "user", "user and group, names or numbers: USER[:GROUP]"),
        typed::option("--workdir", Some('w'), "dir", "working directory inside"),
        typed::switch("--privileged", None, "all capabilities"),
        typed::switch(
            "--detach",
            Some('d'),
            "leave the command alone once it runs; nobody sees what it writes, on a terminal neither",
        ),
        typed::hidden(typed::option(
            "--detach-keys",
            None,
            "keys",
            "nothing: the command ends with who looks at it",
        )),
        typed::option(
            "--process",
            Some('p'),
            "file",
            "OCI: a file with the whole process, as in config.json",
        ),
        typed::option("--pid-file", None, "file", "OCI: a file for the command's pid"),
        typed::option(
            "--console-socket",
            None,
            "path",
            "OCI: a socket that the other side of the terminal is sent to",
        ),
        typed::option("--pidfd-socket", None, "path", "OCI: a socket that a pidfd of the command is sent to"),
        typed::option("--cwd", None, "dir", "OCI: working directory inside"),
        typed::list("--cap", Some('c'), "name", "OCI: add a capability"),
        typed::list("--additional-gids", Some('g'), "gid", "OCI: add a group"),
        typed::option("--apparmor", None, "profile", "OCI: the AppArmor profile of the command"),
        typed::option("--process-label", None, "label", "OCI: the SELinux label of the command"),
        typed::switch("--no-new-privs", None, "OCI: execve grants no new privileges"),
        typed::option(
            "--preserve-fds",
            None,
            "n",
            "OCI: how many descriptors from 3 on the command inherits",
        ),
        typed::switch("--ignore-paused", None, "OCI: also where the container is paused"),
        typed::list(
            "--cgroup",
            None,
            "path",
            "OCI: enter a group below the container's: PATH, on v1 also CONTROLLER[,...]:PATH",
        ),
    ],
    &["runner exec -it my-container sh", "runner exec -u nobody -w /tmp my-container id"],
);

/// What was typed.
#[derive(Debug, Default)]
struct Flags {
    interactive: bool,
    tty: bool,
    env: Vec<String>,
    env_file: Vec<String>,
    user: Option<String>,
    workdir: Option<String>,
    privileged: bool,
    detach: bool,
    process: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    cwd: Option<String>,
    cap: Vec<String>,
    additional_gids: Vec<u32>,
    apparmor: Option<String>,
    process_label: Option<String>,
    no_new_privs: bool,
    preserve_fds: u32,
    ignore_paused: bool,
    cgroup: Vec<String>,
    container: String,
}

impl Flags {
    fn of(typed: &Typed) -> Result<Self> {
        let said = |flag: &str| typed.get(flag).is_some();
        let text = |flag: &str| typed.get(flag).map(str::to_owned);
        let path = |flag: &str| typed.get(flag).map(PathBuf::from);
        let gid = |text: &String| {
            text.parse().map_err(|_| Error::flag(format!("--additional-gids {text:?}: it is a number")))
        };
        Ok(Self {
            interactive: said("--interactive"),
            tty: said("--tty"),
            env: typed.all("--env"),
            env_file: typed.all("--env-file"),
            user: text("--user"),
            workdir: text("--workdir"),
            privileged: said("--privileged"),
            detach: said("--detach"),
            process: path("--process"),
            pid_file: path("--pid-file"),
            console_socket: path("--console-socket"),
            pidfd_socket: path("--pidfd-socket"),
            cwd: text("--cwd"),
            cap: typed.all("--cap"),
            additional_gids: typed.all("--additional-gids").iter().map(gid).collect::<Result<_>>()?,
            apparmor: text("--apparmor"),
            process_label: text("--process-label"),
            no_new_privs: said("--no-new-privs"),
            preserve_fds: typed.number("--preserve-fds")?.unwrap_or(0),
            ignore_paused: said("--ignore-paused"),
            cgroup: typed.all("--cgroup"),
            container: typed.words.first().cloned().unwrap_or_default(),
        })
    }

    /// Is something said that only OCI clients say?
    fn is_oci(&self) -> bool {
        self.process.is_some()
            || self.pid_file.is_some()
            || self.console_socket.is_some()
            || self.pidfd_socket.is_some()
            || self.cwd.is_some()
            || !self.cap.is_empty()
            || !self.additional_gids.is_empty()
            || self.apparmor.is_some()
            || self.process_label.is_some()
            || self.no_new_privs
            || self.preserve_fds > 0
            || self.ignore_paused
            || !self.cgroup.is_empty()
    }
}

/// Run it. The exit code is the command's.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let typed = Typed::before(&TABLE, words, Tail::After(1))?;
    let Some((typed, tail)) = typed else { return Ok(0) };
    let flags = &Flags::of(&typed)?;
    let text =
        |word: OsString| word.into_string().map_err(|word| Error::usage(format!("{word:?} is not UTF-8")));
    let command = &tail.into_iter().map(text).collect::<Result<Vec<_>>>()?[..];
    if flags.container.is_empty() {
        return Err(Error::usage("exec needs a container and a command"));
    }
    if let Some(container) = Container::if_meant(global, &flags.container, flags.is_oci())? {
        if !flags.env_file.is_empty() {
            return Err(Error::unsupported("exec --env-file: it is for containers of images"));
        }
        return oci::run(container, flags, command);
    }
    // Without keys there is nothing to refuse.
    if typed.get("--detach-keys").is_some_and(|keys| !keys.is_empty()) {
        return Err(Error::unsupported(
            "exec --detach-keys: the command ends with who looks at it (exec -d leaves it alone from the beginning)",
        ));
    }
    image::run(global, flags, command)
}

/// The error of an exec. Where the container has ended meanwhile, whatever failed has failed for that reason.
fn or_gone(e: Error, init: &Identity, container: &str) -> Error {
    let about_it =
        !matches!(e.kind(), Kind::Usage | Kind::Flag | Kind::CannotExecute | Kind::CommandNotFound);
    match about_it && init.is_ending() {
        true => Error::new(Kind::Invalid, format!("cannot exec in a stopped container: {container} is gone")),
        false => e,
    }
}
