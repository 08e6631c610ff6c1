//! What the kernel remembers of connections (ctnetlink). A client that keeps its source port, as those of DNS and of games do,
//! is led for as long as the kernel remembers it to where it was led before: to a container that is gone, or to the host, if
//! it asked while nobody had the port. So what is remembered of UDP is forgotten when a container comes, and when it goes.
//! Connections of TCP end by themselves: whoever answers next knows nothing of them.

use std::net::{IpAddr, UdpSocket};

use super::address::Ip;
use super::lease::Attachment;
use super::netlink::{Batch, DUMP, Socket, attribute, find, nested};
use super::nft::{IPV4, IPV6};
use super::ports::{Port, Protocol};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;

/// Attributes: both directions of a connection, and what else tells it from others.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// Forget what UDP there is of a container with published ports: what was led to it or came from it, and what was sent to its
/// ports of the host and led elsewhere. A kernel that does not tell forgets by itself, half a minute or two later.
pub(super) fn forget(own: &Attachment) {
    let ports: Vec<&Port> = own.ports.iter().filter(|p| p.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return;
    }
    let Ok(socket) = Socket::netfilter() else { return };
    for (family, v6) in [(IPV4, false), (IPV6, true)] {
        let (Some(ip), mut batch) = (own.ip(v6).map(|a| a.ip), Batch::default()) else { continue };
        let about = |flow: &Flow| {
            let mut published = ports.iter().filter(|port| port.host_ip.is_v6() == v6);
            flow.is_of(ip) || published.any(|port| flow.asks(port)) && is_the_hosts(flow.to)
        };
        let told = socket.each("IPCTNL_MSG_CT_GET", SUBSYSTEM | GET, DUMP, &[family, 0, 0, 0], |body| {
            if let Some((flow, attributes)) = Flow::read(body)
                && about(&flow)
            {
                batch.add("IPCTNL_MSG_CT_DELETE", SUBSYSTEM | DELETE, 0, &forgotten(family, attributes));
            }
        });
        // One that has gone by itself meanwhile is refused, and need not be told.
        if told.is_ok() && batch.len() > 0 {
            let _ = socket.refused(&batch);
        }
    }
}

/// Whether an address is one of this machine's, and nobody's whom it only carries packets for.
fn is_the_hosts(ip: Ip) -> bool {
    UdpSocket::bind((ip.0, 0)).is_ok()
}

/// The message's body that names one connection.
fn forgotten(family: u8, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    if let Some(tuple) = find(attributes, ORIGINAL) {
        nested(&mut body, ORIGINAL, tuple);
    }
    for kind in [ID, ZONE] {
        if let Some(value) = find(attributes, kind) {
            attribute(&mut body, kind, value);
        }
    }
    body
}

/// A connection by UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Who began it, and whom it was sent to.
    from: Ip,
    to: Ip,
    port: u16,
    /// Who answers.
    answers: Ip,
}

impl Flow {
    /// Of what the kernel tells of a connection: it, where it is by UDP, and all its attributes.
    pub(crate) fn read(body: &[u8]) -> Option<(Self, &[u8])> {
        const UDP: u8 = 17;
        let attributes = body.get(4..)?;
        let (original, reply) = (find(attributes, ORIGINAL)?, find(attributes, REPLY)?);
        let protocol = find(original, 2)?;
        if find(protocol, 1)? != [UDP] {
            return None;
        }
        let port = u16::from_be_bytes(find(protocol, 3)?.try_into().ok()?);
        let (from, to) = ends(original)?;
        let (answers, _) = ends(reply)?;
        Some((Self { from, to, port, answers }, attributes))
    }

    fn is_of(&self, ip: Ip) -> bool {
        self.from == ip || self.answers == ip
    }

    /// It was sent to a published port.
    fn asks(&self, port: &Port) -> bool {
        self.port == port.host && (port.host_ip.is_any() || port.host_ip == self.to)
    }
}

/// Source and destination of one direction.
fn ends(tuple: &[u8]) -> Option<(Ip, Ip)> {
    let addresses = find(tuple, 1)?;
    let four = |kind| Some(Ip(IpAddr::from(<[u8; 4]>::try_from(find(addresses, kind)?).ok()?)));
    let six = |kind| Some(Ip(IpAddr::from(<[u8; 16]>::try_from(find(addresses, kind)?).ok()?)));
    four(1).zip(four(2)).or_else(|| six(3).zip(six(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(from: [u8; 4], to: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let (mut ip, mut carried, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
        attribute(&mut ip, 1, &from);
        attribute(&mut ip, 2, &to);
        attribute(&mut carried, 1, &[protocol]);
        attribute(&mut carried, 2, &4000u16.to_be_bytes());
        attribute(&mut carried, 3, &port.to_be_bytes());
        nested(&mut tuple, 1, &ip);
        nested(&mut tuple, 2, &carried);
        tuple
    }

    fn told(protocol: u8) -> Vec<u8> {
        let mut body = vec![IPV4, 0, 0, 0];
        nested(&mut body, ORIGINAL, &tuple([192, 0, 2, 7], [192, 0, 2, 1], protocol, 5353));
        nested(&mut body, REPLY, &tuple([10, 83, 0, 2], [192, 0, 2, 7], protocol, 4000));
        attribute(&mut body, ID, &[1, 2, 3, 4]);
        body
    }

    #[test]
    fn a_connection_is_known_by_its_ends_and_named_as_it_was_told() {
        let body = told(17);
        let (flow, attributes) = Flow::read(&body).unwrap();
        let ip = |text: &str| Ip::parse(text).unwrap();
        assert!(flow.is_of(ip("10.83.0.2")) && flow.is_of(ip("192.0.2.7")) && !flow.is_of(ip("192.0.2.1")));
        let port = |host_ip: &str, host| Port { host_ip: ip(host_ip), host, ..Port::default() };
        assert!(flow.asks(&port("0.0.0.0", 5353)) && flow.asks(&port("192.0.2.1", 5353)));
        assert!(!flow.asks(&port("0.0.0.0", 53)) && !flow.asks(&port("192.0.2.2", 5353)));
        let named = forgotten(IPV4, attributes);
        assert_eq!(find(&named[4..], ORIGINAL), find(attributes, ORIGINAL));
        assert_eq!((find(&named[4..], ID), find(&named[4..], REPLY)), (Some(&[1, 2, 3, 4][..]), None));
        assert_eq!(Flow::read(&told(6)), None, "TCP");
        for end in 0..body.len() - 8 {
            assert_eq!(Flow::read(&body[..end]), None, "{end}");
        }
    }
}
