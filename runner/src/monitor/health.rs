//! A container's health: a command inside it that is run again and again by `runner exec`. What came of it is kept in the
//! file `health` of the container's directory, in docker's form.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_store::image::Healthcheck;
use coracle_sys::process::{Cloned, Status, clone, exit_now, wait};
use coracle_sys::{Context, Error, Result, file, pidfd, time};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{dup2_stderr, dup2_stdout, execv, pipe2, read};
use serde_json::{Value, json};

use super::code;
use crate::diary::{self, Event};

/// What of a probe's output is kept, as docker does.
const OUTPUT: usize = 4096;

/// How many results are kept.
const RESULTS: usize = 5;

/// How the health of a container is found out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    /// The runner's words before the command: what execs it in the container.
    pub(crate) exec: Vec<String>,
    /// The command inside.
    pub(crate) command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u64,
}

impl Probe {
    /// What an image or the flags say; none where they say none. `exec` runs a command in the container.
    pub(crate) fn of(said: &Healthcheck, shell: &[String], exec: Vec<String>) -> Result<Option<Self>> {
        let command = match said.test.as_deref().unwrap_or_default() {
            [] => return Ok(None),
            [word] if word == "NONE" => return Ok(None),
            [word, rest @ ..] if word == "CMD" && !rest.is_empty() => rest.to_vec(),
            [word, text] if word == "CMD-SHELL" => {
                let sh = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if shell.is_empty() { &sh[..] } else { shell };
                shell.iter().chain([text]).cloned().collect()
            }
            other => {
                return Err(Error::invalid(format!(
                    "the health check {other:?}: it is CMD and words, or CMD-SHELL and a text"
                )));
            }
        };
        let time = |said: Option<i64>, usual: u64| match said {
            None | Some(..=0) => Duration::from_secs(usual),
            Some(n) => Duration::from_nanos(n.cast_unsigned()),
        };
        Ok(Some(Self {
            exec,
            command,
            interval: time(said.interval, 30),
            timeout: time(said.timeout, 30),
            start_period: time(said.start_period, 0),
            start_interval: time(said.start_interval, 5),
            retries: said.retries.filter(|n| *n > 0).map_or(3, i64::cast_unsigned),
        }))
    }
}

/// A probe on its way.
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    output: OwnedFd,
    text: Vec<u8>,
    began: (Instant, String),
    timed_out: bool,
}

/// The health of one container.
pub(crate) struct Health {
    probe: Probe,
    path: PathBuf,
    born: Instant,
    status: &'static str,
    failing: u64,
    log: Vec<Value>,
    running: Option<Running>,
    next: Instant,
}

impl Health {
    /// Of one that has just started.
    pub(super) fn begin(probe: Probe, dir: &Path) -> Result<Self> {
        let mut health = Self {
            probe,
            path: dir.join("health"),
            born: Instant::now(),
            status: "starting",
            failing: 0,
            log: Vec::new(),
            running: None,
            next: Instant::now(),
        };
        health.next += health.pause();
        health.write()?;
        Ok(health)
    }

    /// What is known of a container's health; none where it is not looked after.
    pub(crate) fn read(dir: &Path) -> Option<Value> {
        serde_json::from_slice(&file::read(&dir.join("health")).ok()?).ok()
    }

    /// Where a probe on its way says something, and at last ends.
    pub(super) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|r| r.output.as_fd())
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Instant {
        match &self.running {
            Some(r) if r.timed_out => Instant::now() + Duration::from_secs(1),
            Some(r) => r.began.0 + self.probe.timeout,
            None => self.next,
        }
    }

    /// Do it. `said`: the probe on its way has said something, or ended.
    pub(super) fn act(&mut self, said: bool) -> Result<()> {
        let Some(running) = &mut self.running else {
            if Instant::now() >= self.next {
                self.running = Some(self.probe.run()?);
            }
            return Ok(());
        };
        if !running.timed_out && Instant::now() >= running.began.0 + self.probe.timeout {
            running.timed_out = true;
            let _ = pidfd::signal(running.pidfd.as_fd(), libc::SIGKILL);
        }
        if !said {
            return Ok(());
        }
        let mut buffer = [0; OUTPUT];
        match read(&running.output, &mut buffer) {
            Ok(n) if n > 0 => {
                let room = OUTPUT.saturating_sub(running.text.len());
                running.text.extend_from_slice(&buffer[..n.min(room)]);
                Ok(())
            }
            Err(nix::errno::Errno::EINTR) => Ok(()),
            _ => self.judge(),
        }
    }

    /// The container has ended.
    pub(super) fn end(mut self) {
        if let Some(running) = self.running.take() {
            let _ = pidfd::signal(running.pidfd.as_fd(), libc::SIGKILL);
            let _ = wait(running.pid);
        }
        self.status = "unhealthy";
        let _ = self.write();
    }

    fn judge(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let ended = wait(running.pid)?;
        let had = self.status;
        let (exit, text) = match (running.timed_out, ended.status) {
            (true, _) => (-1, format!("Health check exceeded timeout ({:?})", self.probe.timeout)),
            (false, Status::Exited(0)) => (0, String::from_utf8_lossy(&running.text).into_owned()),
            (false, status) => (code(status), String::from_utf8_lossy(&running.text).into_owned()),
        };
        if self.log.len() == RESULTS {
            self.log.remove(0);
        }
        let now = time::rfc3339_now();
        self.log.push(json!({ "Start": running.began.1, "End": now, "ExitCode": exit, "Output": text }));
        if exit == 0 {
            (self.status, self.failing) = ("healthy", 0);
        } else if self.status != "starting" || self.born.elapsed() >= self.probe.start_period {
            self.failing += 1;
            if self.failing >= self.probe.retries {
                self.status = "unhealthy";
            }
        }
        self.next = Instant::now() + self.pause();
        self.write()?;
        if self.status != had {
            let dir = self.path.parent().unwrap_or(&self.path);
            diary::tell_of(dir, &Event::plain(&format!("health_status: {}", self.status)));
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        let starting = self.status == "starting" && self.born.elapsed() < self.probe.start_period;
        if starting { self.probe.start_interval.min(self.probe.interval) } else { self.probe.interval }
    }

    fn write(&self) -> Result<()> {
        let text =
            json!({ "Status": self.status, "FailingStreak": self.failing, "Log": self.log }).to_string();
        let new = self.path.with_extension("new");
        // A full disk keeps what was known.
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        Ok(())
    }
}

impl Probe {
    fn run(&self) -> Result<Running> {
        let text = |word: &String| CString::new(word.as_str()).map_err(|_| Error::invalid("a NUL in a word"));
        let mut argv = Vec::new();
        for word in self.exec.iter().chain(&self.command) {
            argv.push(text(word)?);
        }
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC).context(|| "pipe2(O_CLOEXEC)")?;
        let began = (Instant::now(), time::rfc3339_now());
        match clone(0, None).context(|| "run the health check")? {
            Cloned::Child => {
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
                let _ = dup2_stdout(&theirs).and_then(|()| dup2_stderr(&theirs));
                let _ = execv(c"/proc/self/exe", &argv);
                exit_now(125)
            }
            Cloned::Parent { pid, pidfd } => {
                Ok(Running { pid, pidfd, output, text: Vec::new(), began, timed_out: false })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(test: &[&str]) -> Result<Option<Probe>> {
        let test = Some(test.iter().map(|w| (*w).to_owned()).collect());
        Probe::of(&Healthcheck { test, interval: Some(5), ..Healthcheck::default() }, &[], Vec::new())
    }

    #[test]
    fn a_health_check_is_read_as_docker_writes_it() {
        for none in [&[][..], &["NONE"]] {
            assert_eq!(of(none).unwrap(), None);
        }
        let probe = of(&["CMD", "true", "x"]).unwrap().unwrap();
        assert_eq!(probe.command, ["true", "x"]);
        assert_eq!((probe.interval, probe.timeout), (Duration::from_nanos(5), Duration::from_secs(30)));
        assert_eq!(of(&["CMD-SHELL", "a | b"]).unwrap().unwrap().command, ["/bin/sh", "-c", "a | b"]);
        for wrong in [&["CMD"][..], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["true"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
