//! Those who are attached to a container: each is a connection to a socket in the container's directory, over which
//! packets go both ways. The first byte says what a packet is, see [`Said`]. Who does not read keeps the container from
//! writing, as a terminal would; who is gone keeps nobody.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send};

use super::screen::Screen;
use crate::relay::Stream;
use crate::unix;

/// The socket's name in the container's directory.
pub(crate) const SOCKET: &str = "attach";

/// The longest packet.
pub(crate) const LONGEST: usize = 16 * 1024 + 1;

/// How long the last words wait for who does not read, once the container has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A packet.
#[derive(Debug, PartialEq)]
pub(crate) enum Said<'a> {
    /// To the monitor: what was typed.
    Keys(&'a [u8]),
    /// To the monitor: nothing more will be typed.
    NoMoreKeys,
    /// To the monitor: what the container writes is not wanted, its end is.
    Wait,
    /// To the monitor: the container goes on without me.
    Leave,
    /// To the monitor: rows and columns of the caller's terminal.
    Size(u16, u16),
    /// From the monitor: what the container has written.
    Written(Stream, &'a [u8]),
    /// From the monitor: the container has ended with this code, and a report of it as JSON.
    Ended(i32, &'a [u8]),
}

impl<'a> Said<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let with = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        match self {
            Self::Keys(bytes) => with(b'k', bytes),
            Self::NoMoreKeys => with(b'e', b""),
            Self::Wait => with(b'w', b""),
            Self::Leave => with(b'l', b""),
            Self::Size(rows, columns) => with(b's', &[rows.to_ne_bytes(), columns.to_ne_bytes()].concat()),
            Self::Written(Stream::Output, bytes) => with(b'o', bytes),
            Self::Written(Stream::Error, bytes) => with(b'r', bytes),
            Self::Ended(code, report) => with(b'x', &[&code.to_ne_bytes(), *report].concat()),
        }
    }

    /// None where it is no packet.
    pub(crate) fn decode(packet: &'a [u8]) -> Option<Self> {
        Some(match packet.split_first()? {
            (b'k', bytes) => Self::Keys(bytes),
            (b'e', []) => Self::NoMoreKeys,
            (b'w', []) => Self::Wait,
            (b'l', []) => Self::Leave,
            (b's', &[a, b, c, d]) => Self::Size(u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])),
            (b'o', bytes) => Self::Written(Stream::Output, bytes),
            (b'r', bytes) => Self::Written(Stream::Error, bytes),
            (b'x', rest) => {
                let (code, report) = rest.split_first_chunk()?;
                Self::Ended(i32::from_ne_bytes(*code), report)
            }
            _ => return None,
        })
    }
}

struct Client {
    fd: OwnedFd,
    /// How many of the last packets it has yet to take.
    owed: usize,
    /// It waits for the end alone.
    waits: bool,
    /// The container is not to outlive it.
    owns: bool,
}

impl Client {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, owed: 0, waits: false, owns: false }
    }
}

/// Who is attached before the container is there.
pub(crate) struct First {
    /// One end of a pair of sockets.
    pub(crate) socket: OwnedFd,
    /// For the last word alone, which is not to wait behind what nobody reads: the container is not to outlive who has the
    /// other end of both.
    pub(crate) owner: Option<OwnedFd>,
}

/// All of them.
pub(super) struct Attached {
    listening: OwnedFd,
    clients: Vec<Client>,
    /// Packets that some have yet to take: one of each stream at most, since nothing is read as long as there are any.
    packets: VecDeque<Vec<u8>>,
    input_once: bool,
    /// Who owned the container is gone without a word.
    orphaned: bool,
    /// How its owner hears of its end.
    owner: Option<OwnedFd>,
}

impl Attached {
    /// With one who was there before the container.
    pub(super) fn new(listening: OwnedFd, first: Option<First>, input_once: bool) -> Self {
        let mut all = Self {
            listening,
            clients: Vec::new(),
            packets: VecDeque::new(),
            input_once,
            orphaned: false,
            owner: None,
        };
        if let Some(First { socket, owner }) = first {
            all.clients.push(Client { owns: owner.is_some(), ..Client::new(socket) });
            all.owner = owner;
        }
        all
    }

    /// Whether the container is to end since who owned it is gone. Said once.
    pub(super) fn is_orphaned(&mut self) -> bool {
        std::mem::take(&mut self.orphaned)
    }

    /// Whether all have what was shown so far.
    pub(super) fn is_ready_for_more(&self) -> bool {
        self.clients.iter().all(|c| c.owed == 0)
    }

    /// What to wait for. [`Attached::act`] wants the answers in this order.
    pub(super) fn poll_set<'a>(&'a self, set: &mut Vec<PollFd<'a>>, keys: bool) {
        set.push(PollFd::new(self.listening.as_fd(), PollFlags::POLLIN));
        set.extend(self.clients.iter().map(|c| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, keys);
            flags.set(PollFlags::POLLOUT, c.owed > 0);
            PollFd::new(c.fd.as_fd(), flags)
        }));
    }

    /// Do what they are ready for.
    pub(super) fn act(&mut self, ready: &[bool], screen: &mut Screen) -> Result<()> {
        let Some((new, clients)) = ready.split_first() else { return Ok(()) };
        let mut buffer = [0; LONGEST];
        let mut at = 0;
        for ready in clients {
            let client = &mut self.clients[at];
            let alive = !ready || {
                client.take(&self.packets);
                client.hear(&mut buffer, screen, self.input_once)
            };
            match alive {
                true => at += 1,
                false => self.orphaned |= self.clients.remove(at).owns,
            }
        }
        self.forget_taken();
        if *new {
            match accept4(self.listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                Ok(fd) => self.clients.push(Client::new(unix::adopt(fd))),
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EAGAIN) => {}
                Err(e) => return Err(e).context(|| "accept4(attach)"),
            }
        }
        Ok(())
    }

    /// What the container has written goes to all.
    pub(super) fn show(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.clients.is_empty() {
            self.say(&Said::Written(stream, bytes));
        }
    }

    /// As [`Attached::show`], once the container has ended: who does not read is waited for, but not for ever.
    pub(super) fn finish(&mut self, stream: Stream, bytes: &[u8]) {
        self.flush(true);
        self.show(stream, bytes);
    }

    /// The last word. What there is of the container's is waited for, unless its time was over.
    pub(super) fn end(&mut self, code: i32, report: &[u8], patient: bool) {
        if let Some(owner) = &self.owner {
            let _ = send(owner.as_raw_fd(), &Said::Ended(code, report).encode(), MsgFlags::MSG_NOSIGNAL);
        }
        self.flush(patient);
        // Those who have just come wait for it too.
        while let Ok(fd) =
            accept4(self.listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
        {
            self.clients.push(Client::new(unix::adopt(fd)));
        }
        self.say(&Said::Ended(code, report));
        self.flush(patient);
    }

    fn say(&mut self, said: &Said<'_>) {
        self.packets.push_back(said.encode());
        let last = matches!(said, Said::Ended(..));
        for client in self.clients.iter_mut().filter(|c| last || !c.waits) {
            client.owed += 1;
            client.take(&self.packets);
        }
        self.forget_taken();
    }

    fn forget_taken(&mut self) {
        let owed = self.clients.iter().map(|c| c.owed).max().unwrap_or(0);
        while self.packets.len() > owed {
            self.packets.pop_front();
        }
    }

    /// Wait until all have taken what there is. Those who have not when the patience is over are let go; the container's
    /// owner is waited for as long as it is there.
    fn flush(&mut self, patient: bool) {
        let end = Instant::now() + if patient { PATIENCE } else { Duration::ZERO };
        loop {
            self.clients.iter_mut().for_each(|c| c.take(&self.packets));
            let left = end.saturating_duration_since(Instant::now());
            self.clients.retain(|c| c.owed == 0 || !c.is_gone() && (!left.is_zero() || patient && c.owns));
            let owed = self.clients.iter().filter(|c| c.owed > 0);
            let mut set: Vec<PollFd<'_>> =
                owed.map(|c| PollFd::new(c.fd.as_fd(), PollFlags::POLLOUT)).collect();
            if set.is_empty() {
                return self.forget_taken();
            }
            let timeout = match left.is_zero() {
                true => PollTimeout::NONE,
                false => PollTimeout::try_from(left).unwrap_or(PollTimeout::NONE),
            };
            let _ = poll(&mut set, timeout);
        }
    }
}

impl Client {
    fn take(&mut self, packets: &VecDeque<Vec<u8>>) {
        while self.owed > 0 {
            let Some(packet) = packets.get(packets.len() - self.owed) else { return };
            match send(self.fd.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => return,
                // One that is gone is found when it is heard.
                _ => self.owed -= 1,
            }
        }
    }

    fn is_gone(&self) -> bool {
        let mut set = [PollFd::new(self.fd.as_fd(), PollFlags::empty())];
        poll(&mut set, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    /// What it says. Whether it is still there.
    fn hear(&mut self, buffer: &mut [u8], screen: &mut Screen, input_once: bool) -> bool {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => false,
            Ok(n) => match Said::decode(&buffer[..n]) {
                Some(Said::Keys(keys)) => {
                    screen.type_in(keys);
                    true
                }
                Some(Said::NoMoreKeys) => {
                    if input_once {
                        screen.close_input();
                    }
                    true
                }
                Some(Said::Leave) => {
                    self.owns = false;
                    true
                }
                Some(Said::Wait) => {
                    self.waits = true;
                    true
                }
                Some(Said::Size(rows, columns)) => {
                    screen.resize(rows, columns);
                    true
                }
                // Who says anything else is none of ours.
                _ => false,
            },
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_were_said() {
        for said in [
            Said::Keys(b"ls\n"),
            Said::NoMoreKeys,
            Said::Wait,
            Said::Size(24, 80),
            Said::Written(Stream::Output, b""),
            Said::Written(Stream::Error, b"\xff"),
            Said::Leave,
            Said::Ended(137, b"{}"),
        ] {
            assert_eq!(Said::decode(&said.encode()), Some(said));
        }
        for wrong in [&b""[..], b"?", b"s123", b"x1", b"e1"] {
            assert_eq!(Said::decode(wrong), None);
        }
    }
}
