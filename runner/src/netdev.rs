//! `linux.netDevices`: the host's network devices that become the container's, with the addresses that they
//! were given for good. They are not brought back: the kernel does that where it can.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::Mode;
use serde::Serialize;

use crate::namespaces::{Kind as Ns, Plan};
use crate::spec::Linux;

/// A device to move: its name here, and inside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    from: String,
    to: String,
}

/// Decide. Names are what the kernel takes for one.
pub(crate) fn plan(linux: &Linux, namespaces: &Plan) -> Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    for (from, device) in &linux.net_devices {
        let wrong = |why: &str| Err(Error::invalid(format!("linux.netDevices: {from:?} {why}")));
        let to = device.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(from);
        let is_name = |name: &str| {
            (1..16).contains(&name.len())
                && !matches!(name, "." | "..")
                && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c))
        };
        if !namespaces.is_own(Ns::Network) {
            return wrong("cannot be moved: the container has no network namespace of its own");
        }
        if !is_name(from) || !is_name(to) {
            return wrong("or its new name is no name of a device");
        }
        if devices.iter().any(|d| d.to == *to) {
            return wrong("has the new name of another");
        }
        devices.push(Device { from: from.clone(), to: to.to_owned() });
    }
    Ok(devices)
}

/// Move them into the namespace of this path. This process has one thread, and is back in its own after.
pub(crate) fn move_all(devices: &[Device], into: &Path) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let look = |path: &Path| {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).context(|| format!("open({path:?})"))
    };
    let (own, into) = (look(Path::new("/proc/self/ns/net"))?, look(into)?);
    let enter = |ns: &OwnedFd| setns(ns, CloneFlags::CLONE_NEWNET).context(|| "setns(CLONE_NEWNET)");
    // A socket stays in the namespace that it was made in.
    let here = route()?;
    enter(&into)?;
    let there = route();
    enter(&own)?;
    let there = there?;
    devices.iter().try_for_each(|device| {
        device
            .move_one(&here, &there, into.as_raw_fd())
            .context(|| format!("move the network device {} into the container", device.from))
    })
}

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x600;
const IFNAME: u16 = 3;
const NET_NS_FD: u16 = 28;

impl Device {
    fn move_one(&self, here: &OwnedFd, there: &OwnedFd, into: i32) -> Result<()> {
        let index = index(here, &self.from)?;
        let addresses = ask(here, GETADDR, DUMP, &[0; 8])?;
        let mut body = link(index, false);
        attribute(&mut body, NET_NS_FD, &into.to_ne_bytes());
        attribute(&mut body, IFNAME, &c_name(&self.to));
        ask(here, NEWLINK, 0, &body)?;
        let inside = self::index(there, &self.to)?;
        for address in addresses {
            if let Some(body) = kept(&address, index, inside) {
                ask(there, NEWADDR, CREATE, &body).context(|| "give it its address again")?;
            }
        }
        ask(there, NEWLINK, 0, &link(inside, true)).map(drop).context(|| "bring it up")
    }
}

/// `struct ifinfomsg`: the device, and whether it is to be up.
fn link(index: u32, up: bool) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        body[8] = libc::IFF_UP as u8;
        body[12] = libc::IFF_UP as u8;
    }
    body
}

/// An address of the device that is there for good and known everywhere, for the device inside.
fn kept(address: &[u8], of: u32, inside: u32) -> Option<Vec<u8>> {
    const PERMANENT: u8 = 0x80;
    let (head, mut rest) = address.split_at_checked(8)?;
    if head[2] & PERMANENT == 0 || head[3] != 0 || head[4..8] != of.to_ne_bytes() {
        return None;
    }
    let mut body = head[..4].to_vec();
    body.extend(inside.to_ne_bytes());
    while let Some((length, kind)) = word(rest, 0).zip(word(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        // The address, that of this end, and the one for all; its label was the device's name here.
        if matches!(kind, 1 | 2 | 4) {
            attribute(&mut body, kind, value);
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(body)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((value.len() + 4) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn route() -> Result<OwnedFd> {
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .context(|| "socket(AF_NETLINK, NETLINK_ROUTE)")
}

/// The device of this name.
fn index(socket: &OwnedFd, name: &str) -> Result<u32> {
    let mut body = link(0, false);
    attribute(&mut body, IFNAME, &c_name(name));
    let found = ask(socket, GETLINK, 0, &body).map_err(|e| match e.errno() {
        Some(Errno::ENODEV) => Error::not_found(format!("there is no network device {name}")),
        _ => e,
    })?;
    let found = found.first().and_then(|body| number(body, 4));
    found.ok_or_else(|| Error::new(Kind::System, "the kernel does not tell its number"))
}

/// rtnetlink(7): ask, and hear all that is answered.
fn ask(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
    const REQUEST_ACK: u16 = 5;
    const HEAD: usize = 16;
    let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST_ACK).to_ne_bytes());
    message.resize(HEAD, 0);
    message.extend(body);
    let socket = socket.as_fd().as_raw_fd();
    let call = || format!("netlink(message {kind})");
    send(socket, &message, MsgFlags::empty()).context(call)?;
    let mut answers = Vec::new();
    let mut bytes = vec![0; 32 << 10];
    loop {
        let length = recv(socket, &mut bytes, MsgFlags::empty()).context(call)?;
        let mut rest = &bytes[..length];
        while let Some((length, kind)) = number(rest, 0).zip(word(rest, 4)) {
            let Some(body) = rest.get(HEAD..length as usize) else { break };
            match (kind, number(body, 0)) {
                // NLMSG_ERROR, of which 0 is none, and NLMSG_DONE.
                (2, Some(0)) | (3, _) => return Ok(answers),
                (2, Some(errno)) => {
                    return Err(Errno::from_raw((errno as i32).wrapping_neg())).context(call);
                }
                _ => answers.push(body.to_vec()),
            }
            rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(value: serde_json::Value) -> Result<Vec<Device>> {
        let linux: Linux = coracle_sys::json::from_value(serde_json::json!({"netDevices": value})).unwrap();
        plan(&linux, &Plan { new: vec![Ns::Network], join: vec![] })
    }

    #[test]
    fn devices_are_moved_under_names_that_the_kernel_takes() {
        let both = planned(serde_json::json!({"eth0": {"name": "in0"}, "eth1": {}})).unwrap();
        assert_eq!((both[0].to.as_str(), both[1].to.as_str()), ("in0", "eth1"));
        for bad in [
            serde_json::json!({"eth0": {"name": "a/b"}}),
            serde_json::json!({"eth0": {"name": "sixteen-letters-"}}),
            serde_json::json!({"eth0": {"name": "eth%d"}}),
            serde_json::json!({"..": {}}),
            serde_json::json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}}),
        ] {
            assert!(planned(bad.clone()).is_err(), "{bad}");
        }
        let linux: Linux =
            coracle_sys::json::from_value(serde_json::json!({"netDevices": {"eth0": {}}})).unwrap();
        assert!(plan(&linux, &Plan::default()).is_err());
    }

    #[test]
    fn an_address_is_kept_when_it_is_permanent_and_the_devices_own() {
        let mut address = vec![2, 24, 0x80, 0, 3, 0, 0, 0];
        attribute(&mut address, 2, &[10, 0, 0, 1]);
        attribute(&mut address, 3, b"eth0\0");
        let body = kept(&address, 3, 9).unwrap();
        assert_eq!(body, [&[2, 24, 0x80, 0, 9, 0, 0, 0, 8, 0, 2, 0][..], &[10, 0, 0, 1]].concat());
        assert!(kept(&address, 4, 9).is_none());
        for (at, value) in [(2, 0), (3, 253)] {
            let mut other = address.clone();
            other[at] = value;
            assert!(kept(&other, 3, 9).is_none());
        }
        // What is cut off is no address.
        assert!(kept(&address[..10], 3, 9).is_some_and(|body| body.len() == 8));
        assert!(kept(&address[..6], 3, 9).is_none());
    }
}
