//! `init` as PID 1 and beside it: what other inits get wrong, line by line, each a test.
//!
//! `actor.c` is the program that starts init in odd states, and that init runs. With
//! CORACLE_INIT_UNDER="qemu-aarch64-static dist/aarch64/init" another machine's init is driven by the
//! same tests; what a system call emulator itself cannot do is listed as skipped there.

mod beyond;
mod ending;
mod idle;
mod inheritance;
mod reaping;
mod signals;
mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use coracle_tests::command::Running;
use coracle_tests::{Cmd, Output, Privilege, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

/// Where init runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// As an ordinary process of this machine.
    Beside,
    /// As PID 1 of a namespace.
    Pid1,
}

/// Both places, or the first alone where no namespace can be made.
fn places() -> &'static [Place] {
    if need(Privilege::Containers) { &[Place::Beside, Place::Pid1] } else { &[Place::Beside] }
}

/// The command line of init: an emulator in front of it, if one was asked for.
fn command_line() -> Vec<OsString> {
    match std::env::var("CORACLE_INIT_UNDER") {
        Ok(line) => {
            let from_root = |word: &str| {
                let path = coracle_tests::workspace().join(word);
                let path = if path.exists() { Some(path) } else { coracle_tests::peer(word) };
                path.map_or(word.into(), PathBuf::into_os_string)
            };
            line.split_whitespace().map(from_root).collect()
        }
        Err(_) => vec![coracle_tests::binaries::init().into_os_string()],
    }
}

/// Whether this test cannot be made under a system call emulator; says so if so.
fn emulated(what: &str) -> bool {
    let is = std::env::var_os("CORACLE_INIT_UNDER").is_some();
    if is {
        println!("skipped: the emulator does not {what}");
    }
    is
}

/// Whether init is linked to glibc, which alone is larger than all of it; says so if so.
fn has_glibc() -> bool {
    let program = std::fs::read(&command_line()[0]).expect("read init");
    let has = program.windows(13).any(|bytes| bytes == b"GLIBC_TUNABLE");
    if has {
        println!("skipped: glibc alone is larger");
    }
    has
}

/// The program of actor.c, compiled once.
fn actor() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        // Of the run's own when it is an ordinary user's: the build's folders are another's then.
        let dir = match std::env::var_os("CORACLE_WORKSPACE") {
            Some(_) => std::env::temp_dir(),
            None => Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf(),
        };
        std::fs::create_dir_all(&dir).expect("make the folder");
        let (made, kept) = (dir.join(format!("actor-{}", std::process::id())), dir.join("actor"));
        coracle_tests::rootfs::compile(include_str!("actor.c"), &made).expect("a C compiler");
        std::fs::rename(&made, &kept).expect("keep the program");
        kept.into_os_string().into_string().expect("a path in UTF-8")
    })
}

/// init with its words, in a state that the actor's words `before` describe.
fn init_after(place: Place, before: &[&str], words: &[&str]) -> Cmd {
    let place: &[&str] = if place == Place::Pid1 { &["pid1"] } else { &[] };
    Cmd::new(actor()).args(place).args(before).args(command_line()).args(words).env_remove("LISTEN_PID")
}

/// init with its words.
fn init(words: &[&str]) -> Cmd {
    init_after(Place::Beside, &[], words)
}

/// An init that runs.
struct Started {
    running: Running,
    /// Its pid, as this machine numbers it.
    pid: i32,
}

impl Started {
    /// Start init and wait until its command has printed `ready`.
    #[track_caller]
    fn new(place: Place, before: &[&str], words: &[&str], ready: &str) -> Self {
        Self::with(init_after(place, before, words), place, before, ready)
    }

    /// The same for a command line from `init_after`.
    #[track_caller]
    fn with(command: Cmd, place: Place, before: &[&str], ready: &str) -> Self {
        let forks =
            before.iter().filter(|word| ["full-stderr", "background", "child"].contains(word)).count();
        let running = command.spawn();
        running.wait_for(ready);
        let mut pid = running.pid() as i32;
        for _ in 0..forks + usize::from(place == Place::Pid1) {
            pid = child_of(pid);
        }
        Self { running, pid }
    }

    /// The pid of its command.
    #[track_caller]
    fn command(&self) -> i32 {
        child_of(self.pid)
    }

    /// Send it a signal by number.
    fn send(&self, signal: i32) {
        Cmd::new(actor()).args(["send", &self.pid.to_string(), &signal.to_string()]).ok();
    }

    /// Let it come to its end.
    #[track_caller]
    fn end(self) -> Output {
        self.running.wait(LIMIT).unwrap_or_else(|sofar| panic!("init does not end\n{sofar}"))
    }

    /// Kill its command, and init with it.
    #[track_caller]
    fn kill(self) -> Output {
        kill(Pid::from_raw(self.command()), Signal::SIGKILL).expect("kill the command");
        self.end()
    }

    /// Poll until it has printed `text`.
    #[track_caller]
    fn prints(&self, text: &str) {
        self.running.wait_for(text);
    }
}

/// Start `watch` under init.
#[track_caller]
fn watching(place: Place, before: &[&str], options: &[&str]) -> Started {
    let words: Vec<&str> = options.iter().copied().chain(["--", actor(), "watch"]).collect();
    Started::new(place, before, &words, "ready")
}

/// The children of a process.
fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The one child of a process, once it has one.
#[track_caller]
fn child_of(pid: i32) -> i32 {
    let mut found = None;
    eventually("a process has a child", || {
        found = children(pid).first().copied();
        found.is_some()
    });
    found.expect("a child")
}

/// One field of /proc/PID/status; empty when there is no such process.
fn status(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether a process is alive: neither gone nor a zombie.
fn lives(pid: i32) -> bool {
    let state = status(pid, "State");
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// A file of this test alone, which does not exist.
fn fresh(scratch: &coracle_tests::Scratch, name: &str) -> (PathBuf, String) {
    let path = scratch.join(name);
    let text = path.to_str().expect("a path in UTF-8").to_owned();
    (path, text)
}
