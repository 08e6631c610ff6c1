//! Run a program with a time limit and look at what it did. It gets its own session and no terminal;
//! when the limit passes, its process group is killed and the test fails with what it had printed.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{filters, privilege, sys};

/// A command line that is to be run.
pub struct Cmd {
    command: Command,
    shown: Vec<OsString>,
    stdin: Vec<u8>,
    limit: Duration,
    leaked: Vec<std::fs::File>,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The wait status.
    pub status: ExitStatus,
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    shown: String,
}

impl Cmd {
    /// A program, by path or by name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = vec![program.as_ref().to_owned()];
        let mut command = Command::new(program);
        sys::new_session(&mut command);
        Self { command, shown, stdin: Vec::new(), limit: Duration::from_secs(120), leaked: Vec::new() }
    }

    /// `runner`.
    #[track_caller]
    pub fn runner() -> Self {
        let mut runner = Self::new(crate::binaries::runner());
        filters::as_on_an_older_kernel(&mut runner.command);
        runner
    }

    /// `rootfs-tool`.
    #[track_caller]
    pub fn rootfs_tool() -> Self {
        Self::new(crate::binaries::rootfs_tool())
    }

    /// Add one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(arg.as_ref().to_owned());
        self.command.arg(arg);
        self
    }

    /// Add arguments.
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, |cmd, arg| cmd.arg(arg))
    }

    /// Add the words of one line, split at white space, as one types them when nothing is quoted.
    pub fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Set a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Unset a variable.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The folder to start in.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads from standard input; nothing otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Kill it after so long (two minutes otherwise): for what must come to an end, not for how fast.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Let it inherit the host's `dir` as every descriptor of `numbers`.
    pub fn leak(mut self, dir: impl AsRef<Path>, numbers: std::ops::Range<i32>) -> Self {
        let file = std::fs::File::open(&dir).expect("open the directory to leak");
        sys::leak(&mut self.command, file.as_raw_fd(), numbers);
        self.leaked.push(file);
        self
    }

    /// Have it begin under a filter of system calls. The caller is root, and says [`Cmd::as_user`] after this.
    pub fn under(mut self, filter: filters::Filter) -> Self {
        filter.install(&mut self.command);
        self
    }

    /// Run it as the ordinary test user when the tests are root, else as who runs the tests. The
    /// caller has asked `need(Privilege::OrdinaryUser)` before.
    pub fn as_user(mut self) -> Self {
        if nix::unistd::geteuid().is_root() {
            let user = privilege::ordinary_user().expect("need(Privilege::OrdinaryUser) comes first");
            sys::become_user(&mut self.command, user.uid, user.gid);
            let home = user.home.clone();
            self = self.env("HOME", &home).env("USER", &user.name).env("LOGNAME", &user.name);
            self = self.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME").dir(home);
        }
        self
    }

    /// As one would type it.
    pub fn shown(&self) -> String {
        self.shown.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Run it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        let shown = self.shown();
        let limit = self.limit;
        self.spawn().wait(limit).unwrap_or_else(|partial| {
            panic!("`{shown}` did not end in {limit:?}\n{}", partial);
        })
    }

    /// Run it; it has to succeed.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.run().ok()
    }

    /// Run it; it has to end with this code (128+n when killed by a signal).
    #[track_caller]
    pub fn fails(self, code: i32) -> Output {
        self.run().fails(code)
    }

    /// Start it and go on.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let shown = self.shown();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start `{shown}`: {e}"));
        let mut input = child.stdin.take().expect("stdin is a pipe");
        let bytes = std::mem::take(&mut self.stdin);
        std::thread::spawn(move || input.write_all(&bytes));
        let stdout = collect(child.stdout.take().expect("stdout is a pipe"));
        let stderr = collect(child.stderr.take().expect("stderr is a pipe"));
        Running { child, stdout, stderr, shown, waited: false }
    }
}

/// A program that was started and not yet waited for. Dropped, its process group is killed.
pub struct Running {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
    shown: String,
    waited: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Send a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// What it has printed on standard output until now.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// What it has printed on standard error until now.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// Poll until standard output holds `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        crate::eventually(&format!("`{}` prints {text:?}", self.shown), || {
            self.stdout_so_far().contains(text)
        });
    }

    /// Wait for its end and for the end of both its streams. The error is what it printed until the
    /// limit passed.
    pub fn wait(mut self, limit: Duration) -> Result<Output, String> {
        let end = Instant::now() + limit;
        let mut nap = Duration::from_micros(200);
        let status = loop {
            match self.child.try_wait().expect("wait for the child") {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(nap),
            }
            nap = (nap * 2).min(Duration::from_millis(10));
        };
        self.waited = status.is_some();
        let closed = status.is_some() && self.stdout.closed(end) && self.stderr.closed(end);
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        match status {
            Some(status) if closed => Ok(Output { status, stdout, stderr, shown: self.shown.clone() }),
            Some(_) => Err(format!(
                "it ended, but something holds its streams\nstdout:\n{stdout}\nstderr:\n{stderr}"
            )),
            None => Err(format!("stdout:\n{stdout}\nstderr:\n{stderr}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// One output stream, read by a thread until its last writer closes it.
struct Pipe {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

fn collect(mut from: impl Read + Send + 'static) -> Pipe {
    let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (sender, end) = channel();
    let sink = bytes.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16384];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            sink.lock().expect("no reader panics").extend_from_slice(&buffer[..n]);
        }
        let _ = sender.send(());
    });
    Pipe { bytes, end }
}

impl Pipe {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    fn closed(&self, end: Instant) -> bool {
        self.end.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }
}

impl Output {
    /// The exit code; 128+n when a signal killed it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(127))
    }

    /// It has to have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails(0)
    }

    /// It has to have ended with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert!(self.code() == code, "expected exit code {code}\n{self}");
        self
    }

    /// It has to have printed this somewhere on standard output.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "stdout does not contain {text:?}\n{self}");
        self
    }

    /// It has to have said this somewhere on standard error.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr does not contain {text:?}\n{self}");
        self
    }

    /// Standard output without white space at its ends.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON: {e}\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "`{}` ended with {}", self.shown, self.code())?;
        write!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_and_shown() {
        let running = Cmd::new("sh").args(["-c", "echo begun; sleep 1000"]).spawn();
        running.wait_for("begun");
        let partial = running.wait(Duration::from_millis(50)).unwrap_err();
        assert!(partial.contains("begun"), "{partial}");
    }

    #[test]
    fn a_descriptor_is_leaked_under_every_number() {
        let listing = Cmd::new("ls").arg("/proc/self/fd").leak("/", 5..9).ok();
        for n in ["5", "6", "7", "8"] {
            assert!(listing.stdout.lines().any(|l| l == n), "{listing}");
        }
    }
}
