//! The other side of [`crate::monitor`]'s socket: what a container writes is shown, what is typed goes to it, until it ends
//! or the keys are typed that leave it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Result, terminal as sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{read, write};

use crate::foreground::Signals;
use crate::monitor::{First, LONGEST, SOCKET, Said};
use crate::relay::Stream;
use crate::report;
use crate::unix;
use coracle_sys::raw::{Raw, stop_here};

/// One who is attached.
pub(crate) struct Client {
    socket: OwnedFd,
    /// Where the owner of a container hears of its end.
    end: Option<OwnedFd>,
}

/// How it went.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The container has ended with this code, and what its monitor reports.
    Ended(i32, Vec<u8>),
    /// It was left, and goes on.
    Detached,
    /// The same, by a signal.
    Left(i32),
    /// The pipe that its output goes to has no reader any more. One whose owner this is ends with it.
    Unheard,
}

impl Outcome {
    /// The exit code: the container's own, or 0 where it was left; where nobody reads it that of others in a pipe, which
    /// SIGPIPE ends.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Ended(code, _) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Detached => 0,
            Self::Left(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Unheard => 128 + libc::SIGPIPE as u8,
        }
    }
}

/// What one who is attached does.
pub(crate) struct Manner<'a> {
    /// The caller's terminal, raw, where keys are passed on.
    pub(crate) raw: Option<Raw>,
    /// Whether standard input is passed on.
    pub(crate) input: bool,
    /// What is shown of what the container writes.
    pub(crate) shows: Shows,
    /// The keys that leave it; none where empty.
    pub(crate) leave: &'a [u8],
    /// Sends a signal of the caller's on. False where it leaves the container instead.
    pub(crate) forward: &'a dyn Fn(i32) -> Result<bool>,
}

/// Whether standard output and standard error are shown.
#[derive(Clone, Copy)]
pub(crate) struct Shows {
    pub(crate) output: bool,
    pub(crate) error: bool,
}

impl Shows {
    pub(crate) const ALL: Self = Self { output: true, error: true };

    fn has(self, stream: Stream) -> bool {
        match stream {
            Stream::Output => self.output,
            Stream::Error => self.error,
        }
    }
}

impl Client {
    /// Of the container whose directory this is; none where it has no monitor.
    pub(crate) fn connect(dir: &Path) -> Result<Option<Self>> {
        Ok(unix::connect_to(dir, SOCKET)?.map(|socket| Self { socket, end: None }))
    }

    /// One who is there before the container, and what its monitor gets. It owns the container where that is not to outlive
    /// it.
    pub(crate) fn pair(owns: bool) -> Result<(Self, First)> {
        let pair = || {
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")
        };
        let (socket, theirs) = pair()?;
        let (end, owner) = owns.then(pair).transpose()?.unzip();
        Ok((Self { socket, end }, First { socket: theirs, owner }))
    }

    /// Whether the container ends with this one.
    pub(crate) fn owns(&self) -> bool {
        self.end.is_some()
    }

    /// Wait for its end, and look at nothing else. None where its monitor is gone.
    pub(crate) fn wait(&self) -> Result<Option<i32>> {
        self.say(&Said::Wait);
        loop {
            match hear(&self.socket, &mut [0; LONGEST], MsgFlags::empty())? {
                Heard::Packet(Said::Ended(code, _)) => return Ok(Some(code)),
                Heard::Packet(_) | Heard::Nothing => {}
                Heard::End => return Ok(None),
            }
        }
    }

    /// Stay with it.
    pub(crate) fn attend(&self, signals: &Signals, mut manner: Manner<'_>) -> Result<Outcome> {
        let mut shown: Vec<(Stream, Vec<u8>)> = Vec::new();
        let mut ended: Option<(i32, Vec<u8>)> = None;
        let (mut over, mut typed) = (false, 0);
        if manner.raw.is_some() {
            self.tell_size();
        }
        loop {
            if over
                && shown.is_empty()
                && let Some((code, report)) = ended
            {
                return Ok(Outcome::Ended(code, report));
            }
            let (mut signal, mut said, mut keys, mut room, mut last) = (false, false, false, false, false);
            let mut fds = vec![(PollFd::new(signals.as_fd(), PollFlags::POLLIN), &mut signal)];
            if let (Some(end), None) = (&self.end, &ended) {
                fds.push((PollFd::new(end.as_fd(), PollFlags::POLLIN), &mut last));
            }
            match shown.first() {
                Some((stream, _)) => fds.push((PollFd::new(stream.fd(), PollFlags::POLLOUT), &mut room)),
                None => fds.push((PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), &mut said)),
            }
            if manner.input {
                fds.push((PollFd::new(sys::standard_input(), PollFlags::POLLIN), &mut keys));
            }
            let (mut set, flags): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
            match poll(&mut set, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context(|| "poll()"),
            }
            set.iter().zip(flags).for_each(|(fd, flag)| *flag = fd.any().unwrap_or(false));
            if signal && let Some(signal) = self.pass_signals(signals, &manner)? {
                self.say(&Said::Leave);
                return Ok(Outcome::Left(signal));
            }
            if room && show(&mut shown) == Err(Errno::EPIPE) {
                return Ok(Outcome::Unheard);
            }
            if said {
                match hear(&self.socket, &mut [0; LONGEST], MsgFlags::MSG_DONTWAIT)? {
                    Heard::Packet(Said::Written(stream, bytes)) if manner.shows.has(stream) => {
                        shown.push((stream, bytes.to_vec()));
                    }
                    Heard::Packet(Said::Ended(code, report)) => {
                        (ended, over) = (Some((code, report.to_vec())), true);
                    }
                    Heard::Packet(_) | Heard::Nothing => {}
                    Heard::End => match &ended {
                        Some(_) => over = true,
                        None => return Err(Error::invalid("the container's monitor is gone")),
                    },
                }
            }
            if let (true, Some(end)) = (last, &self.end)
                && let Heard::Packet(Said::Ended(code, report)) =
                    hear(end, &mut [0; LONGEST], MsgFlags::MSG_DONTWAIT)?
            {
                // What nobody has read in time is not waited for.
                if report::is_of_a_timeout(report) {
                    return Ok(Outcome::Ended(code, report.to_vec()));
                }
                ended = Some((code, report.to_vec()));
            }
            if keys && self.type_in(&mut manner, &mut typed) {
                self.say(&Said::Leave);
                return Ok(Outcome::Detached);
            }
        }
    }

    /// Pass them on. One that leaves the container comes back.
    fn pass_signals(&self, signals: &Signals, manner: &Manner<'_>) -> Result<Option<i32>> {
        while let Some(signal) = signals.next()? {
            match signal {
                libc::SIGTSTP => {
                    manner.raw.as_ref().map_or(Ok(()), Raw::suspend)?;
                    stop_here()?;
                    manner.raw.as_ref().map_or(Ok(()), Raw::resume)?;
                    self.tell_size();
                }
                libc::SIGCONT | libc::SIGWINCH if manner.raw.is_some() => {
                    let _ = manner.raw.as_ref().map_or(Ok(()), Raw::resume);
                    self.tell_size();
                }
                libc::SIGWINCH | libc::SIGCONT => {}
                _ if (manner.forward)(signal)? => {}
                _ => return Ok(Some(signal)),
            }
        }
        Ok(None)
    }

    /// Pass keys on. Whether they were those that leave the container, of which `typed` have come so far.
    fn type_in(&self, manner: &mut Manner<'_>, typed: &mut usize) -> bool {
        let mut buffer = [0; 4096];
        let keys = match read(sys::standard_input(), &mut buffer) {
            Ok(n) if n > 0 => &buffer[..n],
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            _ => {
                manner.input = false;
                self.say(&Said::NoMoreKeys);
                return false;
            }
        };
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            if manner.leave.get(*typed) == Some(key) {
                *typed += 1;
                if *typed == manner.leave.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&manner.leave[..*typed]);
            *typed = usize::from(manner.leave.first() == Some(key));
            if *typed == 0 {
                out.push(*key);
            }
        }
        if !out.is_empty() {
            self.say(&Said::Keys(&out));
        }
        false
    }

    /// The container's terminal gets the size of ours.
    fn tell_size(&self) {
        if let Ok((rows, columns)) = sys::window_size(sys::standard_input()) {
            self.say(&Said::Size(rows, columns));
        }
    }

    /// A monitor that is gone is found when it is heard.
    fn say(&self, said: &Said<'_>) {
        while send(self.socket.as_raw_fd(), &said.encode(), MsgFlags::MSG_NOSIGNAL) == Err(Errno::EINTR) {}
    }
}

fn hear<'a>(socket: &OwnedFd, buffer: &'a mut [u8], flags: MsgFlags) -> Result<Heard<'a>> {
    let mut hear = || recv(socket.as_raw_fd(), buffer, flags);
    // A monitor that ends without having read all that was typed is told of by this error, once, and before what it has said.
    let heard = hear().or_else(|e| if e == Errno::ECONNRESET { hear() } else { Err(e) });
    match heard {
        Ok(0) | Err(Errno::ECONNRESET) => Ok(Heard::End),
        Ok(n) => Ok(Said::decode(&buffer[..n]).map_or(Heard::Nothing, Heard::Packet)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Heard::Nothing),
        Err(e) => Err(e).context(|| "recv(attach)"),
    }
}

enum Heard<'a> {
    Packet(Said<'a>),
    Nothing,
    End,
}

/// Write a piece of what is to be shown. Where that cannot be, what is left of it is lost.
fn show(shown: &mut Vec<(Stream, Vec<u8>)>) -> nix::Result<()> {
    /// What a pipe takes at once when it takes anything: PIPE_BUF.
    const PIECE: usize = 4096;
    let Some((stream, bytes)) = shown.first_mut() else { return Ok(()) };
    let written = write(stream.fd(), &bytes[..bytes.len().min(PIECE)]);
    match written {
        Ok(n) => drop(bytes.drain(..n)),
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
        Err(_) => bytes.clear(),
    }
    if bytes.is_empty() {
        shown.remove(0);
    }
    written.map(drop)
}

/// `--detach-keys`: letters, and `ctrl-` before one, between commas.
pub(crate) fn keys(text: Option<&str>) -> Result<Vec<u8>> {
    let text = text.unwrap_or("ctrl-p,ctrl-q");
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |word: &str| {
        Error::usage(format!(
            "--detach-keys {text:?}: {word:?} is no key: it is a character, or ctrl- and one of a-z@[\\]^_"
        ))
    };
    let mut keys = Vec::new();
    for word in text.split(',') {
        keys.push(match word.strip_prefix("ctrl-").map(str::as_bytes) {
            Some(&[key @ (b'a'..=b'z' | b'@' | b'['..=b'_')]) => key.to_ascii_uppercase() & 0x1f,
            None if word.len() == 1 => word.as_bytes()[0],
            _ => return Err(wrong(word)),
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn the_last_word_is_heard_of_a_monitor_that_has_not_read_all_that_was_typed() {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (ours, monitors) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC).unwrap();
        for (socket, said) in [(&ours, Said::NoMoreKeys), (&monitors, Said::Ended(3, b"{}"))] {
            send(socket.as_raw_fd(), &said.encode(), MsgFlags::empty()).unwrap();
        }
        drop(monitors);
        let mut buffer = [0; 64];
        let heard = hear(&ours, &mut buffer, MsgFlags::empty()).unwrap();
        assert!(matches!(heard, Heard::Packet(Said::Ended(3, b"{}"))));
        assert!(matches!(hear(&ours, &mut buffer, MsgFlags::empty()).unwrap(), Heard::End));
    }

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        for (text, bytes) in [
            (None, &[16, 17][..]),
            (Some(""), &[]),
            (Some("a"), b"a"),
            (Some("ctrl-a,x,ctrl-@,ctrl-_"), &[1, b'x', 0, 31]),
        ] {
            assert_eq!(keys(text).unwrap(), bytes, "{text:?}");
        }
        for wrong in ["ctrl-", "ctrl-A", "ctrl-1", "ab", "a,", "ctrl-ab"] {
            assert!(keys(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
