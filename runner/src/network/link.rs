//! Devices, their addresses and routes: a bridge on the host, and for each container a pair of devices of which one end
//! is a port of the bridge and the other one the container's. The pair is made, put in both places and brought up by
//! one message; the addresses and routes inside are another call.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use super::address::{Ip, Subnet};
use super::netlink::{Batch, CREATE, DUMP, EXCLUSIVE, Socket, attribute, c_name, find, nested, number};

pub(super) const NEWLINK: u16 = 16;
pub(super) const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const ADDRESS: u16 = 1;
pub(super) const IFNAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const AF_SPEC: u16 = 26;
const NET_NS_FD: u16 = 28;

/// One end inside a container, and how it gets there.
pub(crate) struct Pair<'a> {
    /// The device on the host, and the bridge that it is a port of.
    pub(crate) outside: &'a str,
    pub(crate) bridge: u32,
    /// The device inside.
    pub(crate) inside: &'a str,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: Option<u32>,
    /// What it sends may come back to it: by a port of the host that is its own.
    pub(crate) hairpin: bool,
    /// Its addresses, each with the gateway of its family, where there is one.
    pub(crate) addresses: &'a [(Ip, u8, Option<Ip>)],
}

/// rtnetlink(7).
pub(super) const DELLINK: u16 = 17;

/// `struct ifinfomsg`, of a device that is to be up.
pub(crate) fn head(index: u32, up: bool) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        body[8] = libc::IFF_UP as u8;
        body[12] = libc::IFF_UP as u8;
    }
    body
}

/// The number of a device, where there is one of this name.
pub(crate) fn index(socket: &Socket, name: &str) -> Result<Option<u32>> {
    let mut body = head(0, false);
    attribute(&mut body, IFNAME, &c_name(name));
    match socket.ask("RTM_GETLINK", GETLINK, 0, &body) {
        Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(e) => Err(e),
        Ok(found) => Ok(found.first().and_then(|body| number(body, 4))),
    }
}

/// Make a bridge, up and with its addresses, or find it so. Its number.
pub(crate) fn bridge(
    socket: &Socket,
    name: &str,
    mac: [u8; 6],
    mtu: Option<u32>,
    addresses: &[(Ip, u8)],
) -> Result<u32> {
    let mut batch = Batch::default();
    batch.add("RTM_NEWLINK", NEWLINK, CREATE | EXCLUSIVE, &bridge_body(name, mac, mtu));
    for (at, _, errno) in socket.refused(&batch)? {
        if errno != Errno::EEXIST {
            return Err(Error::syscall(format!("netlink(RTM_NEWLINK {name}, {at})"), errno))
                .context(|| format!("make the bridge {name}"));
        }
    }
    let gone = || Error::not_found(format!("the bridge {name} is gone again"));
    let index = index(socket, name)?.ok_or_else(gone)?;
    let mut batch = Batch::default();
    batch.add("RTM_NEWLINK", NEWLINK, 0, &head(index, true));
    for (ip, prefix) in addresses {
        batch.add("RTM_NEWADDR", NEWADDR, CREATE | EXCLUSIVE, &address_body(index, *ip, *prefix));
    }
    for (_, name, errno) in socket.refused(&batch)? {
        if errno != Errno::EEXIST {
            return Err(Error::syscall(format!("netlink({name})"), errno));
        }
    }
    Ok(index)
}

fn bridge_body(name: &str, mac: [u8; 6], mtu: Option<u32>) -> Vec<u8> {
    let mut body = head(0, true);
    attribute(&mut body, IFNAME, &c_name(name));
    attribute(&mut body, ADDRESS, &mac);
    if let Some(mtu) = mtu {
        attribute(&mut body, MTU, &mtu.to_ne_bytes());
    }
    nested(&mut body, LINKINFO, &kind("bridge", &[]));
    body
}

/// What a device is, and, for one that needs it, how.
fn kind(name: &str, data: &[u8]) -> Vec<u8> {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    let mut info = Vec::new();
    attribute(&mut info, KIND, &c_name(name));
    if !data.is_empty() {
        nested(&mut info, DATA, data);
    }
    info
}

/// `struct ifaddrmsg`. Nobody else has it: it need not be asked for, which takes a second for IPv6.
fn address_body(index: u32, ip: Ip, prefix: u8) -> Vec<u8> {
    const LOCAL: u16 = 2;
    const BROADCAST: u16 = 4;
    const FLAGS: u16 = 8;
    const NODAD: u32 = 2;
    let mut body = vec![family(ip), prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    let bytes = ip.bytes();
    attribute(&mut body, LOCAL, &bytes);
    attribute(&mut body, ADDRESS, &bytes);
    match ip.is_v6() {
        true => attribute(&mut body, FLAGS, &NODAD.to_ne_bytes()),
        false => {
            let subnet = Subnet::around(ip, prefix);
            if let Some(last) = subnet.last().filter(|_| prefix < 31) {
                attribute(&mut body, BROADCAST, &last.bytes());
            }
        }
    }
    body
}

/// `struct rtmsg` of the way to everywhere.
fn route_body(index: u32, gateway: Ip) -> Vec<u8> {
    const TABLE_MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const OIF: u16 = 4;
    const GATEWAY: u16 = 5;
    let mut body = vec![family(gateway), 0, 0, 0, TABLE_MAIN, BOOT, 0, UNICAST, 0, 0, 0, 0];
    attribute(&mut body, GATEWAY, &gateway.bytes());
    attribute(&mut body, OIF, &index.to_ne_bytes());
    body
}

fn family(ip: Ip) -> u8 {
    (if ip.is_v6() { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

fn pair_body(pair: &Pair<'_>, namespace: i32) -> Vec<u8> {
    const PEER: u16 = 1;
    // It has no other end yet to come up with.
    let mut peer = head(0, false);
    attribute(&mut peer, IFNAME, &c_name(pair.inside));
    attribute(&mut peer, ADDRESS, &pair.mac);
    attribute(&mut peer, NET_NS_FD, &namespace.to_ne_bytes());
    let mut body = head(0, true);
    attribute(&mut body, IFNAME, &c_name(pair.outside));
    attribute(&mut body, MASTER, &pair.bridge.to_ne_bytes());
    if let Some(mtu) = pair.mtu {
        attribute(&mut peer, MTU, &mtu.to_ne_bytes());
        attribute(&mut body, MTU, &mtu.to_ne_bytes());
    }
    let mut data = Vec::new();
    nested(&mut data, PEER, &peer);
    nested(&mut body, LINKINFO, &kind("veth", &data));
    // A port has no address of its own, not even one that is made up (IFLA_INET6_ADDR_GEN_MODE none).
    let (mut mode, mut spec) = (Vec::new(), Vec::new());
    attribute(&mut mode, 8, &[1]);
    nested(&mut spec, libc::AF_INET6 as u16, &mode);
    nested(&mut body, AF_SPEC, &spec);
    body
}

/// Of a port of a bridge (IFLA_BRPORT_MODE).
fn hairpin_body(name: &str) -> Vec<u8> {
    const SLAVE_KIND: u16 = 4;
    const SLAVE_DATA: u16 = 5;
    const MODE: u16 = 4;
    let (mut body, mut info, mut data) = (head(0, false), Vec::new(), Vec::new());
    attribute(&mut data, MODE, &[1]);
    attribute(&mut info, SLAVE_KIND, &c_name("bridge"));
    nested(&mut info, SLAVE_DATA, &data);
    attribute(&mut body, IFNAME, &c_name(name));
    nested(&mut body, LINKINFO, &info);
    body
}

/// Join a container's namespace to a bridge. This process has one thread, and is back in its own after.
pub(crate) fn join(socket: &Socket, namespace: BorrowedFd<'_>, pair: &Pair<'_>) -> Result<()> {
    match make(socket, namespace, pair) {
        // The kernel takes its time to take away what the container had before it was started again.
        Err(e) if e.errno() == Some(Errno::EEXIST) => {
            if let Some(old) = index(socket, pair.outside)? {
                let mut batch = Batch::default();
                batch.add("RTM_DELLINK", DELLINK, 0, &head(old, false));
                // One that has gone meanwhile is refused, which is as good.
                socket.refused(&batch)?;
            }
            make(socket, namespace, pair)
        }
        other => other,
    }
}

fn make(socket: &Socket, namespace: BorrowedFd<'_>, pair: &Pair<'_>) -> Result<()> {
    let (create, namespace_fd) = (CREATE | EXCLUSIVE, namespace.as_raw_fd());
    let mut batch = Batch::default();
    batch.add("RTM_NEWLINK veth", NEWLINK, create, &pair_body(pair, namespace_fd));
    if pair.hairpin {
        batch.add("RTM_NEWLINK hairpin", NEWLINK, 0, &hairpin_body(pair.outside));
    }
    match socket.refused(&batch)?.first() {
        None => {}
        // A kernel without IPv6 has no way to say so.
        Some((_, _, Errno::EAFNOSUPPORT)) => {
            let mut body = pair_body(pair, namespace_fd);
            let without = body.len() - 16;
            body.truncate(without);
            let mut batch = Batch::default();
            batch.add("RTM_NEWLINK veth", NEWLINK, create, &body);
            if pair.hairpin {
                batch.add("RTM_NEWLINK hairpin", NEWLINK, 0, &hairpin_body(pair.outside));
            }
            socket.run(&batch)?;
        }
        Some((_, name, errno)) => return Err(Error::syscall(format!("netlink({name})"), *errno)),
    }
    let inside = within(namespace)?;
    let gone = || Error::not_found(format!("there is no {} inside", pair.inside));
    let index = index(&inside, pair.inside)?.ok_or_else(gone)?;
    let mut batch = Batch::default();
    batch.add("RTM_NEWLINK", NEWLINK, 0, &head(index, true));
    let mut six = Vec::new();
    let mut note = |batch: &Batch, ip: Ip| {
        if ip.is_v6() {
            six.push(batch.len())
        }
    };
    for (ip, prefix, _) in pair.addresses {
        note(&batch, *ip);
        batch.add("RTM_NEWADDR", NEWADDR, create, &address_body(index, *ip, *prefix));
    }
    for gateway in pair.addresses.iter().filter_map(|a| a.2) {
        note(&batch, gateway);
        batch.add("RTM_NEWROUTE", NEWROUTE, create, &route_body(index, gateway));
    }
    for (at, name, errno) in inside.refused(&batch)? {
        // A container may have IPv6 switched off for itself.
        if !(at > 0 && six.contains(&at) && matches!(errno, Errno::EACCES | Errno::EHOSTUNREACH)) {
            return Err(Error::syscall(format!("netlink({name})"), errno));
        }
    }
    Ok(())
}

/// A socket in another network namespace.
fn within(namespace: BorrowedFd<'_>) -> Result<Socket> {
    let path = Path::new("/proc/self/ns/net");
    let own = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({path:?})"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context(|| "setns(CLONE_NEWNET)")?;
    let socket = Socket::route();
    setns(&own, CloneFlags::CLONE_NEWNET).context(|| "setns(CLONE_NEWNET)")?;
    socket
}

/// Where the host's routes lead that do not lead everywhere.
pub(crate) fn routes(socket: &Socket) -> Result<Vec<Subnet>> {
    let all = socket.ask("RTM_GETROUTE", GETROUTE, DUMP, &[0; 12])?;
    Ok(all.iter().filter_map(|route| destination(route)).collect())
}

pub(crate) fn destination(route: &[u8]) -> Option<Subnet> {
    const DESTINATION: u16 = 1;
    let (family, prefix) = (i32::from(*route.first()?), *route.get(1)?);
    let value = find(route.get(12..)?, DESTINATION)?;
    let ip = match family {
        libc::AF_INET => Ip(<[u8; 4]>::try_from(value).ok()?.into()),
        libc::AF_INET6 => Ip(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => return None,
    };
    // What is meant for many is nobody's.
    let local = ip.is_v6() && (value[0] == 0xff || value[..2] == [0xfe, 0x80]);
    (prefix > 0 && prefix <= value.len() as u8 * 8 && !local).then(|| Subnet::around(ip, prefix))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::text;
    use super::*;

    fn ip(text: &str) -> Ip {
        Ip::parse(text).unwrap()
    }

    #[test]
    fn a_pair_is_one_message_with_the_other_end_inside() {
        let pair = Pair {
            outside: "vc1",
            bridge: 7,
            inside: "eth0",
            mac: [2, 66, 10, 0, 0, 2],
            mtu: Some(1400),
            hairpin: false,
            addresses: &[],
        };
        let body = pair_body(&pair, 5);
        let all = &body[16..];
        assert_eq!(text(find(all, IFNAME).unwrap()), "vc1");
        assert_eq!(number(find(all, MASTER).unwrap(), 0), Some(7));
        let info = find(all, LINKINFO).unwrap();
        assert_eq!(text(find(info, 1).unwrap()), "veth");
        let peer = find(find(info, 2).unwrap(), 1).unwrap();
        assert_eq!((body[8], peer[8]), (1, 0));
        let peer = &peer[16..];
        assert_eq!(text(find(peer, IFNAME).unwrap()), "eth0");
        assert_eq!(number(find(peer, NET_NS_FD).unwrap(), 0), Some(5));
        assert_eq!(find(peer, ADDRESS).unwrap(), [2, 66, 10, 0, 0, 2]);
        // What is left out where the kernel has no IPv6 is the last of it.
        let mut spec = Vec::new();
        nested(&mut spec, AF_SPEC, &[0; 12]);
        assert_eq!(spec.len(), 16);
        assert_eq!(find(all, AF_SPEC).unwrap().len() + 4, 16);
    }

    #[test]
    fn an_address_of_ipv4_tells_the_one_for_all_and_one_of_ipv6_is_not_asked_for() {
        let body = address_body(3, ip("10.1.2.3"), 16);
        assert_eq!(body[..8], [2, 16, 0, 0, 3, 0, 0, 0]);
        assert_eq!(find(&body[8..], 4).unwrap(), [10, 1, 255, 255]);
        let body = address_body(3, ip("fd00::1"), 64);
        assert_eq!(number(find(&body[8..], 8).unwrap(), 0), Some(2));
        assert_eq!(find(&address_body(3, ip("10.1.2.3"), 31)[8..], 4), None);
    }

    #[test]
    fn routes_of_subnets_are_read_and_nothing_else() {
        let route = |family: u8, prefix: u8, to: &[u8]| {
            let mut body = vec![family, prefix, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0];
            attribute(&mut body, 1, to);
            destination(&body).map(|s| s.to_string())
        };
        assert_eq!(route(2, 8, &[10, 0, 0, 0]).unwrap(), "10.0.0.0/8");
        let mut six = [0; 16];
        six[..2].copy_from_slice(&[0xfd, 0]);
        assert_eq!(route(10, 64, &six).unwrap(), "fd00::/64");
        for (family, prefix, to) in
            [(2, 33, &[10, 0, 0, 0][..]), (2, 8, &six), (10, 64, &[1, 2, 3]), (7, 8, &[1]), (2, 0, &[0; 4])]
        {
            assert_eq!(route(family, prefix, to), None, "{family} {prefix} {to:?}");
        }
        assert_eq!((destination(&[]), destination(&[2, 8])), (None, None));
    }
}
