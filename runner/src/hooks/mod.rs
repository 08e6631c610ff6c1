//! Hooks: programs of the caller's that are run at a container's turning points. [`plan`] decides whether they can
//! be, [`run`] runs those of one kind in their order. Where a kind has its turn, and what its failure means, is the
//! life cycle's.
//!
//! [`run`] serves the runner and the container's set-up child alike: what the hook's own process does between clone
//! and exec is a few system calls on what was made before.

mod sys;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::process::{self, Cloned, Status};
use coracle_sys::{Context, Error, Kind as ErrorKind, Result, pidfd};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{pread, pwrite};
use serde::Serialize;

use crate::spec;

/// What of a hook's output an error shows, in bytes.
const SHOWN: usize = 4096;

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// In the runner's namespaces, before `pivot_root`; the older name of the next.
    Prestart,
    /// In the runner's namespaces, before `pivot_root`.
    CreateRuntime,
    /// In the container's namespaces, before `pivot_root`.
    CreateContainer,
    /// In the container, before its command.
    StartContainer,
    /// In the runner's namespaces, after the command was started.
    Poststart,
    /// In the runner's namespaces, after the container is gone.
    Poststop,
}

impl Kind {
    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// One program to run, fully decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// When.
    pub kind: Kind,
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its argv, with argv[0].
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// Seconds until it is killed.
    pub timeout: Option<u32>,
}

/// Where hooks are run, and what they are told.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The container's state as JSON, for their standard input.
    pub state: &'a str,
    /// Their working directory.
    pub cwd: &'a Path,
    /// What a hook's process does last before it executes the program: take the container's rights. Only of a caller
    /// that has one thread.
    pub become_it: Option<&'a dyn Fn() -> Result<()>>,
}

/// Every hook of a config.json, kind after kind.
pub fn plan(hooks: Option<&spec::Hooks>) -> Result<Vec<Hook>> {
    let Some(hooks) = hooks else { return Ok(Vec::new()) };
    let mut plan = Vec::new();
    for (kind, list) in [
        (Kind::Prestart, &hooks.prestart),
        (Kind::CreateRuntime, &hooks.create_runtime),
        (Kind::CreateContainer, &hooks.create_container),
        (Kind::StartContainer, &hooks.start_container),
        (Kind::Poststart, &hooks.poststart),
        (Kind::Poststop, &hooks.poststop),
    ] {
        for (n, hook) in list.iter().enumerate() {
            plan.push(decide(kind, hook).context(|| format!("read hooks.{}[{n}]", kind.name()))?);
        }
    }
    Ok(plan)
}

fn decide(kind: Kind, hook: &spec::Hook) -> Result<Hook> {
    let path = &hook.path;
    if !path.is_absolute() {
        return Err(Error::invalid(format!("the path {path:?} is not absolute")));
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds @ 1..) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        Some(seconds) => return Err(Error::invalid(format!("the timeout of {seconds} s is not above 0"))),
    };
    let args = match hook.args.is_empty() {
        true => vec![path.to_string_lossy().into_owned()],
        false => hook.args.clone(),
    };
    let hook = Hook { kind, path: path.clone(), args, env: hook.env.clone(), timeout };
    hook.program().map(|_| hook)
}

/// Are there any of one kind?
pub fn any(hooks: &[Hook], kind: Kind) -> bool {
    hooks.iter().any(|h| h.kind == kind)
}

/// Run those of one kind, in their order, up to the first that fails.
pub fn run(hooks: &[Hook], kind: Kind, scene: Scene<'_>) -> Result<()> {
    each(hooks, kind, scene).find_map(Result::err).map_or(Ok(()), Err)
}

/// Run those of one kind, in their order, each as it is asked for its end: none keeps the next from its turn.
pub fn each<'a>(hooks: &'a [Hook], kind: Kind, scene: Scene<'a>) -> impl Iterator<Item = Result<()>> + 'a {
    hooks.iter().filter(move |h| h.kind == kind).enumerate().map(move |(n, hook)| {
        let ended = hook.run(scene).context(|| format!("error running hook #{n}"));
        ended.context(|| format!("run the {} hooks", kind.name()))
    })
}

impl Hook {
    fn program(&self) -> Result<sys::Program> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| {
                Error::invalid(format!("{:?} holds a NUL byte", bytes.escape_ascii().to_string()))
            })
        };
        let texts = |list: &[String]| list.iter().map(|s| text(s.as_bytes())).collect::<Result<Vec<_>>>();
        Ok(sys::Program::new(text(self.path.as_os_str().as_bytes())?, texts(&self.args)?, texts(&self.env)?))
    }

    fn run(&self, scene: Scene<'_>) -> Result<()> {
        let program = self.program()?;
        let cwd =
            CString::new(scene.cwd.as_os_str().as_bytes()).map_err(|e| Error::invalid(e.to_string()))?;
        let (state, out, err, told) = (file()?, file()?, file()?, file()?);
        // A file has an end and never a reader that is gone: who does not read it does not hurt us.
        let written = pwrite(&state, scene.state.as_bytes(), 0).context(|| "pwrite(memfd)")?;
        if written != scene.state.len() {
            return Err(Error::new(ErrorKind::System, "pwrite(memfd): it is full"));
        }
        let streams = [&state, &out, &err].map(AsRawFd::as_raw_fd);
        let (pid, pidfd) = match process::clone(0, None)? {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => {
                let (step, errno) = sys::become_program(&program, &cwd, streams, scene.become_it);
                let mut failed = [step; 5];
                failed[1..].copy_from_slice(&(errno as i32).to_ne_bytes());
                let _ = pwrite(&told, &failed, 0);
                process::exit_now(127)
            }
        };
        let in_time = wait_for(&pidfd, self.timeout);
        if !matches!(in_time, Ok(true)) {
            // It has not been waited for, so the number is its own, and its group's where it got that far.
            sys::kill_group(pid);
            let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
        }
        let ended = process::wait(pid)?;
        if !in_time? {
            let seconds = self.timeout.unwrap_or_default();
            return Err(Error::new(
                ErrorKind::System,
                format!("hook ran past specified timeout of {seconds}.0s"),
            ));
        }
        let mut failed = [0u8; 5];
        if let Ok(5) = pread(&told, &mut failed, 0) {
            let [step, errno @ ..] = failed;
            let call = match step {
                sys::CHDIR => format!("chdir({:?})", scene.cwd),
                sys::EXECVE => format!("execve({:?})", self.path),
                sys::BECOME => "take the container's capabilities".to_owned(),
                _ => "set up its process".to_owned(),
            };
            return Err(Error::syscall(call, Errno::from_raw(i32::from_ne_bytes(errno))));
        }
        let how = match ended.status {
            Status::Exited(0) => return Ok(()),
            Status::Exited(code) => format!("exit status {code}"),
            Status::Signaled(libc::SIGSYS) => {
                "bad system call: the filter of system calls forbids it".to_owned()
            }
            Status::Signaled(signal) => format!("killed by signal {signal}"),
        };
        let text = |fd| said(fd).unwrap_or_else(|e| e.to_string());
        Err(Error::new(ErrorKind::System, format!("{how}, stdout: {}, stderr: {}", text(&out), text(&err))))
    }
}

/// A file in memory that no standard stream can be taken for.
fn file() -> Result<OwnedFd> {
    let fd = memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).context(|| "memfd_create(\"hook\")")?;
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let above = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3)).context(|| "fcntl(memfd, F_DUPFD_CLOEXEC, 3)")?;
    Ok(sys::adopt(above))
}

/// Whether it ended within its time.
fn wait_for(pidfd: &OwnedFd, seconds: Option<u32>) -> Result<bool> {
    let end = seconds.map(|s| std::time::Instant::now() + std::time::Duration::from_secs(u64::from(s)));
    loop {
        let left = match end {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(std::time::Instant::now()).as_millis();
                PollTimeout::try_from(left.saturating_add(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(1..) => return Ok(true),
            Ok(_) if end.is_some_and(|end| std::time::Instant::now() >= end) => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| "poll(pidfd)"),
        }
    }
}

/// The beginning of what it wrote.
fn said(fd: &OwnedFd) -> Result<String> {
    let mut bytes = [0; SHOWN];
    let length = pread(fd, &mut bytes, 0).context(|| "pread(memfd)")?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

#[cfg(test)]
mod tests;
