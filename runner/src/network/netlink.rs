//! netlink(7): messages of attributes, and a socket that sends many by one call. What they say is the callers' business.

use std::os::fd::{AsRawFd, OwnedFd};

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

/// Make what is not there.
pub(crate) const CREATE: u16 = 0x400;
/// ... and nothing else.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Put it last.
pub(crate) const APPEND: u16 = 0x800;
/// All there are.
pub(crate) const DUMP: u16 = 0x300;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const HEAD: usize = 16;
/// The length of an attribute has 16 bits, of which some kernels take the top one for their own.
const LONGEST: usize = 32 << 10;

/// Messages that go together.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    names: Vec<&'static str>,
}

impl Batch {
    /// One more, called `name` in errors.
    pub(crate) fn add(&mut self, name: &'static str, kind: u16, flags: u16, body: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend(((HEAD + body.len()) as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend((self.names.len() as u32).to_ne_bytes());
        self.bytes.resize(begin + HEAD, 0);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.names.push(name);
    }

    /// As they are sent.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// What was refused of a batch: the message's place in it, its name, and why.
pub(crate) type Refused = (usize, &'static str, Errno);

/// A socket. It stays in the network namespace that it was made in.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// rtnetlink(7): devices, addresses, routes.
    pub(crate) fn route() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, "NETLINK_ROUTE")
    }

    /// Packet filters.
    pub(crate) fn netfilter() -> Result<Self> {
        let made = Self::open(SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER")?;
        // A batch comes in one piece.
        let _ = setsockopt(&made.0, sockopt::SndBufForce, &(4 << 20));
        Ok(made)
    }

    fn open(protocol: SockProtocol, name: &str) -> Result<Self> {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map(Self)
            .context(|| format!("socket(AF_NETLINK, {name})"))
    }

    /// Its number.
    pub(crate) fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Send them. The kernel has done all, or refused, when this returns: errors lie in the socket then.
    pub(crate) fn refused(&self, batch: &Batch) -> Result<Vec<Refused>> {
        let socket = self.0.as_raw_fd();
        send(socket, &batch.bytes, MsgFlags::empty()).context(|| "send(AF_NETLINK)")?;
        let (mut bytes, mut refused) = (vec![0; LONGEST], Vec::new());
        loop {
            let length = match recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(refused),
                other => other.context(|| "recv(AF_NETLINK)")?,
            };
            for answer in answers(&bytes[..length]) {
                if let (2, Some(errno)) = (answer.kind, number(answer.body, 0))
                    && errno != 0
                {
                    let at = answer.sequence as usize;
                    let name = batch.names.get(at).copied().unwrap_or("message");
                    refused.push((at, name, Errno::from_raw((errno as i32).wrapping_neg())));
                }
            }
        }
    }

    /// Send them; the first that is refused is the error.
    pub(crate) fn run(&self, batch: &Batch) -> Result<()> {
        match self.refused(batch)?.first() {
            Some((_, name, errno)) => Err(Error::syscall(format!("netlink({name})"), *errno)),
            None => Ok(()),
        }
    }

    /// Ask, and hear all that is answered.
    pub(crate) fn ask(&self, name: &'static str, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        self.each(name, kind, flags, body, |answer| all.push(answer.to_vec()))?;
        Ok(all)
    }

    /// Ask, and hear one answer after the other.
    pub(crate) fn each(
        &self,
        name: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut hear: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut batch = Batch::default();
        batch.add(name, kind, flags | ACK, body);
        let socket = self.0.as_raw_fd();
        let call = || format!("netlink({name})");
        send(socket, &batch.bytes, MsgFlags::empty()).context(call)?;
        let mut bytes = vec![0; LONGEST];
        loop {
            let length = recv(socket, &mut bytes, MsgFlags::empty()).context(call)?;
            if length == 0 {
                return Err(Error::new(Kind::System, "the kernel ends the talk").wrap(call()));
            }
            for answer in answers(&bytes[..length]) {
                match (answer.kind, number(answer.body, 0)) {
                    // NLMSG_ERROR, of which 0 is none, and NLMSG_DONE.
                    (2, Some(0)) | (3, _) => return Ok(()),
                    (2, Some(errno)) => {
                        return Err(Errno::from_raw((errno as i32).wrapping_neg())).context(call);
                    }
                    _ => hear(answer.body),
                }
            }
        }
    }
}

struct Answer<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages in what was received; none behind one that is cut off.
fn answers(mut rest: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let (length, kind, sequence) = (number(rest, 0)?, word(rest, 4)?, number(rest, 8)?);
        let body = rest.get(HEAD..length as usize)?;
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}

/// What the messages say in what was received.
pub(crate) fn bodies(bytes: &[u8]) -> Vec<&[u8]> {
    answers(bytes).map(|answer| answer.body).collect()
}

/// Add an attribute.
pub(crate) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((value.len() + 4) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Add an attribute that is made of others.
pub(crate) fn nested(body: &mut Vec<u8>, kind: u16, inner: &[u8]) {
    const NESTED: u16 = 0x8000;
    attribute(body, kind | NESTED, inner);
}

/// The attributes in a message, from behind its own header; none behind one that is cut off.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (word(rest, 0)?, word(rest, 2)?);
        let value = rest.get(4..usize::from(length))?;
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// The attribute of a kind.
pub(crate) fn find(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A name in an attribute, without the NUL at its end.
pub(crate) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// Two bytes at a place.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes at a place.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A name as attributes have them.
pub(crate) fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_one_behind_the_other() {
        let mut body = vec![1, 2, 3, 4];
        attribute(&mut body, 3, b"eth0\0");
        nested(&mut body, 18, &[9, 9, 9, 9]);
        assert_eq!(body[4..], [9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, 8, 0, 18, 0x80, 9, 9, 9, 9]);
        let mut batch = Batch::default();
        batch.add("first", 16, CREATE, &[5]);
        batch.add("second", 20, 0, &[6, 7]);
        assert_eq!((batch.len(), batch.bytes.len()), (2, 40));
        let all: Vec<_> = answers(&batch.bytes).map(|a| (a.kind, a.sequence, a.body.to_vec())).collect();
        assert_eq!(all, [(16, 0, vec![5]), (20, 1, vec![6, 7])]);
        assert_eq!(word(&batch.bytes, 6), Some(CREATE | REQUEST));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_read_as_far_as_it_goes() {
        let mut body = Vec::new();
        attribute(&mut body, 1, &[1, 2, 3]);
        nested(&mut body, 2, &[4]);
        for end in 0..body.len() {
            assert!(attributes(&body[..end]).count() <= 2, "{end}");
        }
        assert_eq!(find(&body, 2), Some(&[4][..]));
        // A length that leads nowhere, or back.
        for wrong in [[0, 0, 1, 0], [3, 0, 1, 0], [255, 255, 1, 0]] {
            assert_eq!(attributes(&wrong).count(), 0);
        }
        let mut batch = Batch::default();
        batch.add("one", 16, 0, &[1, 2, 3, 4]);
        for end in 0..batch.bytes.len() {
            assert_eq!(answers(&batch.bytes[..end]).count(), 0, "{end}");
        }
        for length in [0u32, 15, u32::MAX] {
            let mut wrong = batch.bytes.clone();
            wrong[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(answers(&wrong).count(), 0, "{length}");
        }
        assert_eq!(text(b"a\0b"), "a");
    }
}
