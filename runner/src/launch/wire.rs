//! Messages between the parent and what it starts, over a socket pair that keeps their bounds. The
//! end of the stream is the good news: the command runs. What arrives may come from a process that
//! the container controls, so nothing in it is trusted to be more than a message.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, send, socketpair,
};

use crate::scm_rights;

/// One end.
pub(crate) struct Channel {
    fd: OwnedFd,
    /// What was heard before its turn.
    early: RefCell<VecDeque<Message>>,
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Message {
    /// Child to parent: it could not be done.
    Failed(Error),
    /// Child to parent: it is not quite as it was asked for.
    Warning(String),
    /// Init to parent: the command's execve gave this errno.
    ExecFailed(Errno),
    /// Helper to parent: the container's pid, and its pidfd with it.
    Pid(i32, OwnedFd),
    /// Child to parent: the terminal's other side.
    Console(OwnedFd),
    /// Child to parent: its root is whole, and not entered yet.
    Built,
    /// Parent to child: enter the root.
    Pivot,
    /// Child to parent: what the filter's questions are heard by. It waits for [`Message::Go`].
    Listener(OwnedFd),
    /// Child to parent: it is in the container's root.
    Ready,
    /// Parent to child: the ids are mapped and the cgroups entered; the layers, where they had to be
    /// mounted from outside.
    Mapped(Option<OwnedFd>),
    /// Child to parent: the layers are to be mounted by a program, which is not to be in the container. The answer is
    /// [`Message::Mapped`].
    Unstacked,
    /// Child to parent: all is done that can be before the command runs, which a start is waited for.
    Waiting,
    /// Parent to child: execute the command.
    Go,
    /// The other end is gone.
    End,
}

/// Longer errors are cut; a start does not pay for a buffer that only they need.
const LONGEST: usize = 4096;

/// Both ends, close-on-exec.
pub(crate) fn pair() -> Result<(Channel, Channel)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
    Ok((Channel::of(a), Channel::of(b)))
}

impl Channel {
    /// Over a socket that keeps the bounds of messages.
    pub(super) fn of(fd: OwnedFd) -> Self {
        Self { fd, early: RefCell::default() }
    }

    /// Go on over another one, under the number of this.
    pub(super) fn replace_by(&self, other: Self) -> Result<()> {
        super::sys::put_in_place(&other.fd, self.fd.as_raw_fd())
    }

    /// The same end once more.
    pub(super) fn duplicate(&self) -> Result<Self> {
        self.fd.try_clone().map(Self::of).context(|| "dup(channel)")
    }

    /// Its descriptor, to be kept while all others are closed.
    pub(super) fn number(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }

    /// Say something.
    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        let with_fd = |tag: &[u8], fd: &OwnedFd| scm_rights::send(&self.fd, tag, fd);
        let plain = |bytes: &[u8]| send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
        match message {
            // The one that may have to come through the command's filter, which rather knows this call.
            Message::Failed(error) => nix::unistd::write(&self.fd, &encode(error)),
            Message::Warning(text) => plain(&words(b"W", text)),
            Message::Pid(pid, fd) => {
                let mut bytes = vec![b'P'];
                bytes.extend(pid.to_ne_bytes());
                with_fd(&bytes, fd)
            }
            Message::Console(fd) => with_fd(b"C", fd),
            Message::Listener(fd) => with_fd(b"L", fd),
            Message::Ready => plain(b"R"),
            Message::Mapped(Some(fd)) => with_fd(b"M", fd),
            Message::Mapped(None) => plain(b"M"),
            Message::Unstacked => plain(b"U"),
            Message::Built => plain(b"B"),
            Message::Pivot => plain(b"V"),
            Message::Waiting => plain(b"w"),
            Message::Go => plain(b"G"),
            // Only init says the one, and closing says the other.
            Message::ExecFailed(_) | Message::End => Ok(0),
        }
        .context(|| "sendmsg(channel)")?;
        Ok(())
    }

    /// Wait for the other end to say something.
    pub(crate) fn receive(&self) -> Result<Message> {
        if let Some(message) = self.early.borrow_mut().pop_front() {
            return Ok(message);
        }
        self.hear(MsgFlags::empty())
    }

    /// Wait for a [`Message::Mapped`]; what else is said meanwhile keeps its turn.
    pub(super) fn receive_mapped(&self) -> Result<Option<OwnedFd>> {
        loop {
            match self.hear(MsgFlags::empty())? {
                Message::Mapped(stack) => return Ok(stack),
                Message::End => return Err(Error::new(Kind::System, "the runner is gone")),
                other => self.early.borrow_mut().push_back(other),
            }
        }
    }

    /// Of what was said already the one message that is wanted; the others keep their turns.
    pub(super) fn pick<T>(
        &self,
        wanted: impl Fn(Message) -> std::result::Result<T, Message>,
    ) -> Result<Option<T>> {
        loop {
            match self.hear(MsgFlags::MSG_DONTWAIT) {
                Err(e) if e.errno() == Some(Errno::EAGAIN) => return Ok(None),
                Err(e) => return Err(e),
                Ok(Message::End) => return Ok(None),
                Ok(message) => match wanted(message) {
                    Ok(found) => return Ok(Some(found)),
                    Err(other) => self.early.borrow_mut().push_back(other),
                },
            }
        }
    }

    fn hear(&self, wait: MsgFlags) -> Result<Message> {
        let mut bytes = vec![0u8; LONGEST];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let (length, fd) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | wait;
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                // Who leaves what we said unread resets the connection; that is told before what it said itself.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(e) => return Err(e).context(|| "recvmsg(channel)"),
                Ok(m) => {
                    let fd = m.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|c| match c {
                            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                            _ => None,
                        })
                    });
                    break (m.bytes, fd.map(crate::unix::adopt));
                }
            }
        };
        Ok(decode(&bytes[..length], fd))
    }

    /// Whether the other end still exists.
    pub(super) fn is_open(&self) -> bool {
        let mut byte = [0u8];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        !matches!(nix::sys::socket::recv(self.fd.as_raw_fd(), &mut byte, flags), Ok(0))
    }

    /// Its descriptor, which init is told of.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Message {
    let nonsense = || Message::Failed(Error::invalid("the container's process sent nonsense"));
    match (bytes, fd) {
        ([], None) => Message::End,
        (b"R", None) => Message::Ready,
        (b"M", stack) => Message::Mapped(stack),
        (b"U", None) => Message::Unstacked,
        (b"B", None) => Message::Built,
        (b"V", None) => Message::Pivot,
        (b"w", None) => Message::Waiting,
        (b"G", None) => Message::Go,
        (b"L", Some(fd)) => Message::Listener(fd),
        (b"C", Some(fd)) => Message::Console(fd),
        ([b'P', pid @ ..], Some(fd)) => match pid.try_into() {
            Ok(pid) => Message::Pid(i32::from_ne_bytes(pid), fd),
            Err(_) => nonsense(),
        },
        // Longer than any errno: an error of ours has a kind and words.
        ([b'E', kind, text @ ..], None) if bytes.len() != 4 => {
            Message::Failed(Error::new(kind_of(*kind), shown(text)))
        }
        ([b'W', text @ ..], None) if bytes.len() != 4 => Message::Warning(shown(text)),
        (errno, None) => match errno.try_into() {
            Ok(errno) => Message::ExecFailed(Errno::from_raw(i32::from_ne_bytes(errno))),
            Err(_) => nonsense(),
        },
        _ => nonsense(),
    }
}

/// What may have come from the container, on one line.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, "?")
}

const KINDS: [Kind; 11] = [
    Kind::System,
    Kind::Usage,
    Kind::Flag,
    Kind::Invalid,
    Kind::NotFound,
    Kind::Exists,
    Kind::Busy,
    Kind::Denied,
    Kind::Unsupported,
    Kind::CannotExecute,
    Kind::CommandNotFound,
];

fn encode(error: &Error) -> Vec<u8> {
    let kind = KINDS.iter().position(|k| *k == error.kind()).unwrap_or(0);
    words(&[b'E', kind as u8], &error.to_string())
}

fn words(tag: &[u8], text: &str) -> Vec<u8> {
    let mut bytes = tag.to_vec();
    bytes.extend(&text.as_bytes()[..text.len().min(LONGEST - 8)]);
    // Four bytes are an errno of init's.
    if bytes.len() == 4 {
        bytes.push(b' ');
    }
    bytes
}

fn kind_of(byte: u8) -> Kind {
    KINDS.get(byte as usize).copied().unwrap_or(Kind::System)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_with_its_kind_and_words() {
        let (a, b) = pair().unwrap();
        for text in ["x", "ab", "a longer one"] {
            a.send(&Message::Failed(Error::new(Kind::Denied, text))).unwrap();
            let Message::Failed(e) = b.receive().unwrap() else { panic!("not an error") };
            assert_eq!((e.kind(), e.to_string().trim()), (Kind::Denied, text));
        }
        for text in ["", "abc", "a longer one"] {
            a.send(&Message::Warning(text.into())).unwrap();
            let Message::Warning(w) = b.receive().unwrap() else { panic!("not a warning") };
            assert_eq!(w.trim(), text);
        }
        drop(a);
        assert!(matches!(b.receive().unwrap(), Message::End));
    }

    #[test]
    fn what_was_said_last_is_heard_from_who_did_not_listen() {
        let (a, b) = pair().unwrap();
        b.send(&Message::Go).unwrap();
        a.send(&Message::Failed(Error::invalid("no"))).unwrap();
        drop(a);
        assert!(matches!(b.receive().unwrap(), Message::Failed(_)));
        assert!(matches!(b.receive().unwrap(), Message::End));
    }

    #[test]
    fn a_descriptor_crosses_with_its_message() {
        let (a, b) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&Message::Pid(70_000, file.into())).unwrap();
        assert!(matches!(b.receive().unwrap(), Message::Pid(70_000, _)));
    }

    #[test]
    fn who_picks_one_message_leaves_the_others_their_turns() {
        let (a, b) = pair().unwrap();
        let pid = |m| match m {
            Message::Pid(pid, _) => Ok(pid),
            other => Err(other),
        };
        assert!(matches!(b.pick(pid), Ok(None)));
        a.send(&Message::Ready).unwrap();
        a.send(&Message::Pid(7, std::fs::File::open("/dev/null").unwrap().into())).unwrap();
        a.send(&Message::Waiting).unwrap();
        assert_eq!(b.pick(pid).unwrap(), Some(7));
        assert!(matches!(b.receive().unwrap(), Message::Ready));
        assert!(matches!(b.receive().unwrap(), Message::Waiting));
    }

    #[test]
    fn whatever_the_container_sends_is_only_a_message() {
        for bytes in [&b"P"[..], b"C", b"PPPPPP", b"Z", b"EE", &[0xff; 4000]] {
            assert!(matches!(decode(bytes, None), Message::Failed(_)), "{bytes:?}");
        }
        let enoent = 2i32.to_ne_bytes();
        assert!(matches!(decode(&enoent, None), Message::ExecFailed(Errno::ENOENT)));
        let Message::Failed(e) = decode(b"E\x01a\nrunner: b", None) else { panic!() };
        assert!(!e.to_string().contains('\n'));
    }
}
