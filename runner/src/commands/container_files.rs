//! `cp`, `diff`, `export` and `commit`: rootfs-tool has archives and layers. What the runner adds is whether the container
//! runs, the way to its root, and a pause while it is read.

use std::ffi::OsString;
use std::os::fd::IntoRawFd;

use argh::{CommandInfoWithArgs, FlagInfoKind};
use coracle_sys::process::{Cloned, Status, clone, exit_now, wait};
use coracle_sys::program::Program;
use coracle_sys::{Context, Error, Kind, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{pipe, read, setsid};

use super::typed::{self, Typed};
use super::{Global, container, image_verb};
use crate::cgroups::Cgroup;
use crate::namespaces::Kind as Ns;
use crate::state::{Face, State, States};

pub(crate) static CP: CommandInfoWithArgs = typed::table(
    "cp",
    "Copy files between a container and the host: one of the two is CONTAINER:PATH, the other a path, or - for a tar.",
    typed::FROM_TO,
    &[
        typed::switch(
            "--archive",
            Some('a'),
            "keep owners; else files are root's inside, and the caller's outside",
        ),
        typed::switch("--follow-link", Some('L'), "copy what the source leads to where it is a link"),
        typed::switch("--quiet", Some('q'), "say nothing of it"),
    ],
    &["runner cp my-container:/etc/hosts .", "tar -c src | runner cp - my-container:/tmp"],
);

pub(crate) static DIFF: CommandInfoWithArgs = typed::table(
    "diff",
    "Tell what a container has changed of its image's files: A was added, C changed, D deleted.",
    typed::CONTAINER,
    &[],
    &["runner diff my-container"],
);

pub(crate) static EXPORT: CommandInfoWithArgs = typed::table(
    "export",
    "Write what a container sees as one tar, mounts left out.",
    typed::CONTAINER,
    &[typed::option("--output", Some('o'), "file", "the file, instead of standard output")],
    &["runner export -o my.tar my-container"],
);

pub(crate) static COMMIT: CommandInfoWithArgs = typed::table(
    "commit",
    "Make an image of a container: what it has written becomes a layer on its image's.",
    typed::CONTAINER_AND_IMAGE,
    &[
        typed::option("--author", Some('a'), "author", "who made it"),
        typed::list("--change", Some('c'), "change", "an instruction of a Dockerfile for the config"),
        typed::option("--message", Some('m'), "text", "a remark for the history"),
        typed::switch(
            "--pause",
            Some('p'),
            "pause the container meanwhile, or fail; without a word where it can be",
        ),
        typed::switch("--no-pause", None, "do not pause it, as --pause=false"),
    ],
    &["runner commit -c 'CMD [\"/bin/sh\"]' my-container my/image:1"],
);

/// Do one of them.
pub(crate) fn run(global: &Global, table: &'static CommandInfoWithArgs, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(table, words)? else { return Ok(0) };
    let named = match table.name {
        "cp" => copied(&typed.words)?,
        "commit" if typed.words.len() == 2 => &typed.words[0],
        verb => typed.one(verb, "the container's name or id")?,
    };
    let store = container::store(global)?;
    let dir = container::find(&store, named)?;
    let state = States::of(Face::Image, None)?.read(&dir.id).ok().filter(|s| s.init.is_alive());
    if state.is_none() && container::ending::has_ended(&dir.path) {
        // Its monitor lets go of it a moment after those who were attached have heard of its end.
        drop(container::ending::await_end(&dir, None)?);
    }
    let mut command = image_verb::rootfs_tool(global)?;
    command.word(format!("container-{}", table.name));
    for (flag, value) in typed.flags.iter().filter(|(flag, _)| !flag.ends_with("-pause")) {
        let switch = table.flags.iter().any(|f| f.long == flag && matches!(f.kind, FlagInfoKind::Switch));
        command.word(flag);
        if !switch {
            command.word(value);
        }
    }
    match &state {
        Some(state) if table.name == "cp" => lead_to(&mut command, state)?,
        Some(state) => {
            ["--pid".to_owned(), state.init.pid.to_string()].into_iter().for_each(|w| command.word(w))
        }
        None => {}
    }
    command.word("--");
    typed.words.iter().for_each(|word| command.word(word));
    match state {
        Some(state) if table.name == "commit" && typed.get("--no-pause").is_none() => {
            paused(&state, typed.get("--pause").is_some(), &command)
        }
        _ => Err(command.exec()),
    }
}

/// The container of a copy, as docker tells it from a path: `./a:b` is a path.
fn copied(words: &[String]) -> Result<&str> {
    let [from, to] = words else {
        return Err(Error::usage(
            "cp needs exactly 2 arguments: CONTAINER:PATH PATH|-, or PATH|- CONTAINER:PATH",
        ));
    };
    if from.is_empty() || to.is_empty() {
        let which = if from.is_empty() { "source" } else { "destination" };
        return Err(Error::usage(format!("{which} can not be empty")));
    }
    fn of(arg: &str) -> Option<&str> {
        arg.split_once(':').map(|(name, _)| name).filter(|name| !name.starts_with(['/', '.']))
    }
    match (of(from), of(to)) {
        (Some(_), Some(_)) => Err(Error::usage("copying between containers is not supported")),
        (None, None) => Err(Error::usage("must specify at least one container source")),
        (from, to) => Ok(from.or(to).unwrap_or_default()),
    }
}

/// Hand over its root, and its user namespace: by descriptors, which no other process with its pid can take the place
/// of.
fn lead_to(command: &mut Program, state: &State) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let pid = state.init.pid;
    let open = |what: &str, flags| {
        let path = format!("/proc/{pid}/{what}");
        open(path.as_str(), flags, Mode::empty()).context(|| format!("open({path:?})"))
    };
    let root = open("root", flags)?;
    let user = state.namespaces.contains(&Ns::User).then(|| open("ns/user", OFlag::O_RDONLY)).transpose()?;
    if !state.init.is_alive() {
        return Err(Error::new(Kind::Busy, format!("container {} has just ended", state.id)));
    }
    for (flag, fd) in [("--root-fd", Some(root)), ("--user-fd", user)] {
        if let Some(fd) = fd {
            command.word(flag);
            command.word(fd.into_raw_fd().to_string());
        }
    }
    Ok(())
}

/// Run it while the container is paused. One that was so before stays so.
fn paused(state: &State, must: bool, command: &Program) -> Result<u8> {
    let cgroup = Cgroup::open(state.cgroups.clone())?;
    let thaw = if cgroup.is_frozen()? { None } else { Some(Thaw::begin(&cgroup)?) };
    match thaw.as_ref().map_or(Ok(()), |_| cgroup.freeze()) {
        Err(e) if e.kind() == Kind::Unsupported && !must => {
            coracle_sys::warn!("runner: it is not paused meanwhile: {e}");
        }
        other => other?,
    }
    match command.run([None; 3])? {
        Status::Exited(code) => Ok(u8::try_from(code).unwrap_or(125)),
        Status::Signaled(_) => Ok(125),
    }
}

/// A process that lets the container go on when this one is done, or killed.
struct Thaw {
    pid: i32,
    /// Its end is what the process waits for.
    until: Option<std::os::fd::OwnedFd>,
}

impl Thaw {
    fn begin(cgroup: &Cgroup) -> Result<Self> {
        let (ended, until) = pipe().context(|| "pipe()")?;
        match clone(0, None)? {
            Cloned::Child => {
                drop(until);
                // Neither a key nor a kill of the runner's group reaches it.
                let _ = setsid();
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
                let _ = read(&ended, &mut [0]);
                let _ = cgroup.thaw();
                exit_now(0)
            }
            Cloned::Parent { pid, .. } => {
                coracle_sys::process::close_on_exec_from(3)?;
                Ok(Self { pid, until: Some(until) })
            }
        }
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        self.until = None;
        let _ = wait(self.pid);
    }
}
