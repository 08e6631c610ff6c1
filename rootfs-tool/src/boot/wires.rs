//! The channels between the emulator and this program: each is a pair of sockets, one end of which the emulator
//! inherits; and the threads that carry bytes from one to the other and tell what they see.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use coracle_sys::print::harmless;
use coracle_sys::process::Status;
use coracle_sys::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::qemu::Wires;

/// What is kept of what the console said.
const KEPT: usize = 8 << 10;
/// The most that a line of the exit port has.
const MAX_LINE: u64 = 4096;

/// What happens to a machine.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// The console has said its first byte.
    Heard,
    /// The command is about to be started.
    Up,
    /// It has ended with this code.
    Code(u8),
    /// init could not do it.
    Failed(String),
    /// Whoever reads the output is gone.
    Unread,
    /// Output could not be written, and why.
    Lost(String),
    /// The key that ends the machine was typed.
    Left,
    /// This program was sent a signal.
    Signal(i32),
    /// The emulator has ended.
    Ended(Status),
}

/// Tells what happens to the machine of one try, by its number.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(crate) to: Sender<(u32, Event)>,
    pub(crate) number: u32,
}

impl Teller {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more once all is decided.
        let _ = self.to.send((self.number, event));
    }
}

/// Our ends of the channels.
pub(crate) struct Ours {
    pub(crate) console: UnixStream,
    pub(crate) qmp: UnixStream,
    pub(crate) exit: UnixStream,
    pub(crate) streams: Option<[UnixStream; 3]>,
}

/// The emulator's ends.
pub(crate) struct Theirs(Vec<OwnedFd>);

impl Theirs {
    /// To be inherited.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }

    /// Let the emulator wait for us where it writes. It would rather keep what does not fit, and forget it when the
    /// machine is switched off. The flag is of the open socket, which is one for both (fcntl(2), F_SETFL).
    pub(crate) fn let_wait(&self) -> Result<()> {
        for fd in [Some(&self.0[0]), self.0.get(4), self.0.get(5)].into_iter().flatten() {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::empty())).context(|| "fcntl(F_SETFL)")?;
        }
        Ok(())
    }

    /// Their numbers, and those of further wires.
    pub(crate) fn wires(&self, shares: &[OwnedFd]) -> Wires {
        let number = |n: usize| self.0.get(n).map_or(-1, AsRawFd::as_raw_fd);
        let streams = (self.0.len() > 3).then(|| [number(3), number(4), number(5)]);
        let shares = shares.iter().map(AsRawFd::as_raw_fd).collect();
        Wires { console: number(0), qmp: number(1), exit: number(2), streams, shares }
    }
}

/// Make them. With a terminal the command has no streams beside the console.
pub(crate) fn pairs(tty: bool) -> Result<(Ours, Theirs)> {
    let mut theirs = Vec::new();
    let mut pair = || -> Result<UnixStream> {
        let (ours, other) = UnixStream::pair().context(|| "socketpair()")?;
        theirs.push(other.into());
        Ok(ours)
    };
    let (console, qmp, exit) = (pair()?, pair()?, pair()?);
    let streams = if tty { None } else { Some([pair()?, pair()?, pair()?]) };
    Ok((Ours { console, qmp, exit, streams }, Theirs(theirs)))
}

/// The last that the console has said.
#[derive(Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

impl Tail {
    pub(crate) fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let more = kept.len().saturating_sub(KEPT);
        kept.drain(..more);
    }

    /// What the kernel panicked about, if it did.
    pub(crate) fn panic(&self) -> Option<String> {
        let lines = self.lines(usize::MAX);
        lines.iter().rev().find_map(|l| Some(l.split_once("Kernel panic - ")?.1.to_owned()))
    }

    /// Its last lines that are not empty, `count` at most.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let all: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        all[all.len().saturating_sub(count)..].iter().map(|l| (*l).to_owned()).collect()
    }
}

/// One way to begin a thread, whatever it does.
pub(crate) fn spawn(work: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    thread::spawn(work)
}

/// Carry what the console says: into the tail, and to `out` where it is shown.
pub(crate) fn console(
    mut from: UnixStream,
    mut out: Option<File>,
    tail: Tail,
    teller: Teller,
) -> JoinHandle<()> {
    spawn(Box::new(move || {
        let (mut part, mut heard, mut lines) = ([0; 4096], false, Lines::default());
        while let Ok(n @ 1..) = from.read(&mut part) {
            tail.add(&part[..n]);
            if !heard {
                heard = true;
                teller.tell(Event::Heard);
            }
            match &mut out {
                Some(to) => {
                    if let Err(e) = write_all(to, &part[..n]) {
                        out = None;
                        teller.tell(unwritten(e));
                    }
                }
                None => lines.add(&part[..n], &tail),
            }
        }
    }))
}

/// Lines of a console that nobody sees: what init says of services until the command has ended is passed on all the same.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    const OF_SERVICES: &str = "init: service ";

    fn add(&mut self, bytes: &[u8], tail: &Tail) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.0);
                    if line.starts_with(Self::OF_SERVICES) && !tail.1.load(Ordering::Relaxed) {
                        coracle_sys::warn!("{}", harmless(line.trim_end()));
                    }
                    self.0.clear();
                }
                byte if (self.0.len() as u64) < MAX_LINE => self.0.push(*byte),
                _ => {}
            }
        }
    }
}

/// What a write that failed is.
fn unwritten(e: io::Error) -> Event {
    match e.kind() {
        io::ErrorKind::BrokenPipe => Event::Unread,
        _ => Event::Lost(e.to_string()),
    }
}

/// Others may have made the pipe or terminal one that does not wait (fcntl(2), O_NONBLOCK): so this waits for it.
fn await_fd(file: &File, what: PollFlags) {
    let _ = poll(&mut [PollFd::new(file.as_fd(), what)], PollTimeout::NONE);
}

fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => await_fd(to, PollFlags::POLLOUT),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn read(from: &mut File, part: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(part) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => await_fd(from, PollFlags::POLLIN),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Carry the command's output, byte by byte as it is.
pub(crate) fn output(mut from: UnixStream, mut to: File, teller: Teller) -> JoinHandle<()> {
    spawn(Box::new(move || {
        let mut part = vec![0; 64 << 10];
        let mut gone = false;
        while let Ok(n @ 1..) = from.read(&mut part) {
            // The rest is taken all the same: a machine that waits for a reader cannot end.
            if !gone && let Err(e) = write_all(&mut to, &part[..n]) {
                gone = true;
                teller.tell(unwritten(e));
            }
        }
    }))
}

/// Carry what is typed, up to its end, which the machine sees as such. On a terminal three `Ctrl-]` within a second end
/// the machine.
pub(crate) fn input(mut from: File, mut to: UnixStream, tty: bool, teller: Teller) {
    let _carrier = spawn(Box::new(move || {
        let mut part = vec![0; 64 << 10];
        let mut escape = Escape::default();
        while let Ok(n @ 1..) = read(&mut from, &mut part) {
            if tty && escape.typed(&part[..n], Instant::now()) {
                teller.tell(Event::Left);
            }
            if to.write_all(&part[..n]).is_err() {
                return;
            }
        }
        if !tty {
            let _ = to.shutdown(std::net::Shutdown::Write);
        }
        // Closed altogether it would take along what the machine has not read yet.
        std::mem::forget(to);
    }));
}

#[derive(Default)]
struct Escape {
    count: u32,
    first: Option<Instant>,
}

impl Escape {
    const KEY: u8 = 0x1d;

    /// Was it typed for the third time within a second?
    fn typed(&mut self, bytes: &[u8], now: Instant) -> bool {
        for byte in bytes {
            let late = self.first.is_some_and(|first| now.duration_since(first) > Duration::from_secs(1));
            if *byte != Self::KEY || late {
                self.count = 0;
            }
            if *byte == Self::KEY {
                if self.count == 0 {
                    self.first = Some(now);
                }
                self.count += 1;
            }
        }
        self.count >= 3
    }
}

/// Hear what init tells.
pub(crate) fn exit(from: UnixStream, tail: Tail, teller: Teller) -> JoinHandle<()> {
    spawn(Box::new(move || {
        let mut left = from;
        let mut line = Vec::new();
        let mut byte = [0];
        while let Ok(1) = left.read(&mut byte) {
            match byte[0] {
                b'\n' => {
                    if let Some(event) = told(&line) {
                        tail.1.fetch_or(matches!(event, Event::Code(_)), Ordering::Relaxed);
                        teller.tell(event);
                    }
                    line.clear();
                }
                other if (line.len() as u64) < MAX_LINE => line.push(other),
                _ => {}
            }
        }
    }))
}

/// A line of the exit port.
fn told(line: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(line);
    match text.trim() {
        "up" => Some(Event::Up),
        line => match line.strip_prefix("error ") {
            Some(why) => Some(Event::Failed(why.to_owned())),
            None => line.parse().ok().map(Event::Code),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_tells_is_understood_and_nothing_else() {
        for (line, event) in [
            ("up", Some(Event::Up)),
            ("0", Some(Event::Code(0))),
            ("137", Some(Event::Code(137))),
            (
                "error mount the root: no such device",
                Some(Event::Failed("mount the root: no such device".to_owned())),
            ),
            ("256", None),
            ("", None),
            ("upper", None),
            ("-1", None),
        ] {
            assert_eq!(told(line.as_bytes()), event, "{line}");
        }
    }

    #[test]
    fn the_last_lines_of_a_console_are_kept() {
        let tail = Tail::default();
        tail.add(&vec![b'x'; 2 * KEPT]);
        tail.add(b"\r\none\r\n\r\n\xfftwo\r\nthree");
        assert_eq!(tail.lines(3), ["one", "\u{fffd}two", "three"]);
        assert_eq!(tail.lines(100).len(), 4);
    }

    #[test]
    fn a_key_typed_three_times_in_a_second_ends_the_machine() {
        let start = Instant::now();
        let later = |ms: u64| start + Duration::from_millis(ms);
        let key = [Escape::KEY];
        let mut escape = Escape::default();
        assert!(!escape.typed(&key, start) && !escape.typed(&key, later(300)));
        assert!(escape.typed(&key, later(900)));
        let mut slow = Escape::default();
        assert!(!slow.typed(&key, start) && !slow.typed(&key, later(900)) && !slow.typed(&key, later(1100)));
        let mut mixed = Escape::default();
        assert!(!mixed.typed(b"\x1d\x1dx\x1d", start) && mixed.typed(b"\x1d\x1d", later(1)));
    }
}
