//! A machine from its start to its end: the emulator is executed, its channels are attended, and what becomes of the
//! command is what is told. The emulator ends with this program, however that ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coracle_sys::print::harmless;
use coracle_sys::process::{self, Status};
use coracle_sys::program::{self, Program};
use coracle_sys::raw::Raw;
use coracle_sys::{Context, Error, Kind, Result, pidfd, terminal};
use nix::sys::signal::{SigSet, Signal};

use super::qemu::{Accel, Machine};
use super::share::Servers;
use super::verdict::{End, Seen, Tried};
use super::wires::{self, Event, Tail, Teller, Theirs};

/// How long an orderly end may take, init's own ten seconds and what the kernel needs: then the power is cut.
const ORDERLY: Duration = Duration::from_secs(15);
/// The same while services are still being started; and how long output may take that nobody seems to read, once it is given up.
const EARLY: Duration = Duration::from_secs(5);
/// How long the machine may take to switch itself off once the command has ended.
const OFF: Duration = Duration::from_secs(20);

/// When KVM is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kvm {
    /// Where it works.
    Auto,
    On,
    Off,
}

/// What is to be run.
pub(crate) struct Job<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) program: &'a Path,
    /// Descriptors of the kernel and of what is unpacked, which the machine names by number.
    pub(crate) files: &'a [OwnedFd],
    pub(crate) servers: &'a Servers,
    pub(crate) kvm: Kvm,
    /// The command has the console.
    pub(crate) tty: bool,
    /// There is a command, with whose end the machine ends.
    pub(crate) commanded: bool,
    /// Show the console on standard error.
    pub(crate) console: bool,
    /// Bytes that are unpacked before anything is heard.
    pub(crate) unpacked: u64,
    pub(crate) timeout: Option<Duration>,
}

/// Run it. The code is the command's.
pub(crate) fn run(job: &Job<'_>) -> Result<u8> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
    signals.thread_block().context(|| "pthread_sigmask(SIG_BLOCK)")?;
    let input = terminal::standard_input();
    // Before there is a second thread.
    let raw = match job.tty && nix::unistd::isatty(input) == Ok(true) {
        true => Some(Raw::take(input)?),
        false => None,
    };
    let (send, events) = channel();
    let to = send.clone();
    let _waiter = wires::spawn(Box::new(move || {
        while let Ok(signal) = signals.wait() {
            let _ = to.send((0, Event::Signal(signal as i32)));
        }
    }));
    let done = tries(job, &send, &events);
    drop(raw);
    done
}

fn tries(job: &Job<'_>, send: &Sender<(u32, Event)>, events: &Receiver<(u32, Event)>) -> Result<u8> {
    let kvm = match job.kvm {
        Kvm::Off => None,
        asked => match has_kvm() {
            Ok(()) => Some(asked),
            Err(e) if asked == Kvm::On => return Err(e.wrap("--kvm on")),
            Err(_) => None,
        },
    };
    let mut number = 1;
    let mut attempt = |accel| {
        number += 1;
        attempt(job, accel, &Teller { to: send.clone(), number }, events)
    };
    if let Some(asked) = kvm {
        match attempt(Accel::Kvm)? {
            Tried::Code(code) => return Ok(code),
            Tried::Silent(why) if asked == Kvm::On => {
                return Err(Error::new(Kind::System, format!("--kvm on: {why}")));
            }
            Tried::Silent(why) => {
                coracle_sys::warn!(
                    "rootfs-tool: warning: KVM does not work here, so the machine is emulated (--kvm off leaves this out): {why}"
                );
            }
        }
    }
    match attempt(Accel::Tcg)? {
        Tried::Code(code) => return Ok(code),
        // An emulator that hangs in its firmware once in some hundred times has run nothing of the image yet.
        Tried::Silent(why) => coracle_sys::warn!("rootfs-tool: warning: the machine is started again: {why}"),
    }
    match attempt(Accel::Tcg)? {
        Tried::Code(code) => Ok(code),
        Tried::Silent(why) => Err(Error::new(Kind::System, format!("run the machine: {why}"))),
    }
}

/// May this user use KVM?
fn has_kvm() -> Result<()> {
    let path = "/dev/kvm";
    File::options().read(true).write(true).open(path).map(drop).context(|| format!("open({path:?}, O_RDWR)"))
}

/// How long nothing may be heard before that is a machine that hangs.
fn patience(accel: Accel, job: &Job<'_>) -> Duration {
    let mib = job.unpacked >> 20;
    let time = Duration::from_secs(match accel {
        Accel::Kvm => 15 + mib / 32,
        Accel::Tcg => 60 + mib / 4,
    });
    // Of such a machine nothing is heard before the command is started.
    if job.machine.arch.mute { PATIENCE_OF_THE_HEARD * time } else { time }
}

/// So much longer may a machine take to start the command that has said something.
const PATIENCE_OF_THE_HEARD: u32 = 5;

/// One emulator.
struct Emulator {
    pidfd: OwnedFd,
    said: File,
}

impl Emulator {
    fn kill(&self) {
        let _ = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// What it said last.
    fn said(&self) -> String {
        let said = self.said.try_clone().map(program::heard);
        let text = String::from_utf8_lossy(&said.ok().and_then(Result::ok).unwrap_or_default()).into_owned();
        let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
        harmless(last).to_string()
    }
}

fn attempt(job: &Job<'_>, accel: Accel, teller: &Teller, events: &Receiver<(u32, Event)>) -> Result<Tried> {
    let (mut servers, shares) = job.servers.start()?;
    let (ours, theirs) = wires::pairs(job.tty)?;
    let mut program = Program::new(job.program);
    job.machine.words(accel, &theirs.wires(&shares)).into_iter().for_each(|word| program.word(word));
    program.bound();
    let null = File::open("/dev/null").context(|| "open(\"/dev/null\")")?;
    let said = program::memory()?;
    let given: Vec<BorrowedFd<'_>> =
        theirs.fds().into_iter().chain(job.files.iter().chain(&shares).map(AsFd::as_fd)).collect();
    let streams = [Some(null.as_fd()), Some(said.as_fd()), Some(said.as_fd())];
    let (pid, pidfd) = program.begin(streams, &given, &[])?;
    drop(given);
    // What serves folders is to see the emulator's end.
    drop(shares);
    let emulator = Emulator { pidfd, said };
    let ended = teller.clone();
    let _waiter = wires::spawn(Box::new(move || {
        if let Ok(end) = process::wait(pid) {
            ended.tell(Event::Ended(end.status));
        }
    }));
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from).context(|| "dup()");
    let shown = match (job.tty, job.console) {
        (true, _) => Some(copy(terminal::standard_output())?),
        (false, true) => Some(copy(terminal::standard_error())?),
        (false, false) => None,
    };
    let tail = Tail::default();
    let typed = ours.console.try_clone().context(|| "dup()")?;
    let mut threads = vec![
        wires::console(ours.console, shown, tail.clone(), teller.clone()),
        wires::exit(ours.exit, tail.clone(), teller.clone()),
    ];
    let mut to = typed;
    if let Some([stdin, stdout, stderr]) = ours.streams {
        threads.push(wires::output(stdout, copy(terminal::standard_output())?, teller.clone()));
        threads.push(wires::output(stderr, copy(terminal::standard_error())?, teller.clone()));
        to = stdin;
    }
    let mut watch = Watch {
        job,
        accel,
        emulator: &emulator,
        qmp: ours.qmp,
        input: Some((to, teller.clone())),
        theirs: Some(theirs),
        began: Instant::now(),
        cut: None,
        seen: Seen::default(),
    };
    let status = watch.until_it_ends(teller.number, events)?;
    let mut seen = std::mem::take(&mut watch.seen);
    drop(watch);
    await_output(&threads, teller.number, events, &mut seen);
    // What the ports told before they closed may stand behind the end.
    events.try_iter().filter(|(n, _)| *n == teller.number).for_each(|(_, event)| seen.note(event));
    let end = End {
        status,
        said: servers.end().unwrap_or_else(|| emulator.said()),
        patience: patience(accel, job),
        accel,
        timeout: job.timeout,
        commanded: job.commanded,
    };
    seen.amount(&end, job.machine.arch.program, &tail)
}

/// What was said last is still on its way, for as long as it takes who reads: unless the machine was ended from here, or somebody
/// asks for the end now.
fn await_output(threads: &[JoinHandle<()>], number: u32, events: &Receiver<(u32, Event)>, seen: &mut Seen) {
    let end = Instant::now() + EARLY;
    while threads.iter().any(|thread| !thread.is_finished()) {
        if (seen.timed_out || seen.told_to.is_some()) && Instant::now() > end {
            return;
        }
        match events.recv_timeout(Duration::from_millis(2)) {
            Ok((0, event @ Event::Signal(_))) => return seen.note(event),
            Ok((n, event)) if n == number => seen.note(event),
            _ => {}
        }
    }
}

/// Attends one machine.
struct Watch<'a> {
    job: &'a Job<'a>,
    accel: Accel,
    emulator: &'a Emulator,
    qmp: std::os::unix::net::UnixStream,
    /// Where what is typed goes, until it goes there.
    input: Option<(std::os::unix::net::UnixStream, Teller)>,
    /// The emulator's ends of the channels, until it is told to wait.
    theirs: Option<Theirs>,
    began: Instant,
    /// When the power is cut.
    cut: Option<Instant>,
    seen: Seen,
}

impl Watch<'_> {
    fn until_it_ends(&mut self, number: u32, events: &Receiver<(u32, Event)>) -> Result<Status> {
        loop {
            let left = self.next_deadline().saturating_duration_since(Instant::now());
            let event = match events.recv_timeout(left) {
                Ok((0, event)) => event,
                Ok((n, event)) if n == number => event,
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => {
                    self.late();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Kind::System, "the threads that attend the machine are gone"));
                }
            };
            match event {
                Event::Ended(status) => return Ok(status),
                Event::Heard if self.job.tty => self.let_type()?,
                Event::Up => {
                    self.let_type()?;
                    // As long as they are open here, no end is seen.
                    self.theirs.take().map_or(Ok(()), |theirs| theirs.let_wait())?;
                }
                Event::Code(_) | Event::Failed(_) => self.cut_in(OFF),
                Event::Left => self.emulator.kill(),
                Event::Unread | Event::Lost(_) | Event::Signal(_) => self.stop(),
                Event::Heard => {}
            }
            self.seen.note(event);
        }
    }

    /// What is typed belongs to the machine that is up; one that never was has taken nothing of it.
    fn let_type(&mut self) -> Result<()> {
        if let Some((to, teller)) = self.input.take() {
            let from = terminal::standard_input().try_clone_to_owned().context(|| "dup(0)")?;
            wires::input(from.into(), to, self.job.tty, teller);
        }
        Ok(())
    }

    fn cut_in(&mut self, time: Duration) {
        self.cut = Some(self.cut.unwrap_or(Instant::now() + time));
    }

    /// Once orderly, by the power button; whoever asks again, or before anything can run, does not wait. Services may run before
    /// all is up.
    fn stop(&mut self) {
        if self.seen.told_to.is_some() || !self.seen.heard {
            self.emulator.kill();
            return;
        }
        let press = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";
        if self.qmp.write_all(press).is_err() {
            self.emulator.kill();
        }
        self.cut_in(if self.seen.up { ORDERLY } else { EARLY });
    }

    /// When it is given up. On a terminal somebody sees what it does and may be asked.
    fn hangs_at(&self) -> Option<Instant> {
        let patience = patience(self.accel, self.job);
        let most = match (self.seen.heard, self.job.tty || !self.job.commanded) {
            (false, _) => patience,
            (true, false) if self.job.machine.arch.mute => patience,
            (true, false) => PATIENCE_OF_THE_HEARD * patience,
            (true, true) => return None,
        };
        (!self.seen.up && !self.seen.hung).then(|| self.began + most)
    }

    fn times_out_at(&self) -> Option<Instant> {
        self.job.timeout.filter(|_| !self.seen.timed_out).map(|t| self.began + t)
    }

    fn next_deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        [self.hangs_at(), self.times_out_at(), self.cut].into_iter().flatten().fold(far, Instant::min)
    }

    fn late(&mut self) {
        let now = Instant::now();
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if past(self.hangs_at()) {
            self.seen.hung = true;
            self.emulator.kill();
        }
        if past(self.times_out_at()) {
            self.seen.timed_out = true;
            self.emulator.kill();
        }
        if past(self.cut) {
            self.cut = None;
            self.emulator.kill();
        }
    }
}
