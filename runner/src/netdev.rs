//! `linux.netDevices`: the host's network devices that become the container's, with the addresses that they
//! were given for good. They are not brought back: the kernel does that where it can.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Context, Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use serde::Serialize;

use crate::namespaces::{Kind as Ns, Plan};
use crate::network::link;
use crate::network::netlink::{CREATE, DUMP, EXCLUSIVE, Socket, attribute, attributes, c_name};
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
    let here = Socket::route()?;
    enter(&into)?;
    let there = Socket::route();
    enter(&own)?;
    let there = there?;
    devices.iter().try_for_each(|device| {
        device
            .move_one(&here, &there, into.as_raw_fd())
            .context(|| format!("move the network device {} into the container", device.from))
    })
}

const NEWLINK: u16 = 16;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const IFNAME: u16 = 3;
const NET_NS_FD: u16 = 28;

impl Device {
    fn move_one(&self, here: &Socket, there: &Socket, into: i32) -> Result<()> {
        let index = index(here, &self.from)?;
        let addresses = here.ask("RTM_GETADDR", GETADDR, DUMP, &[0; 8])?;
        let mut body = link::head(index, false);
        attribute(&mut body, NET_NS_FD, &into.to_ne_bytes());
        attribute(&mut body, IFNAME, &c_name(&self.to));
        here.ask("RTM_NEWLINK", NEWLINK, 0, &body)?;
        let inside = self::index(there, &self.to)?;
        for address in addresses {
            if let Some(body) = kept(&address, index, inside) {
                there
                    .ask("RTM_NEWADDR", NEWADDR, CREATE | EXCLUSIVE, &body)
                    .context(|| "give it its address again")?;
            }
        }
        there.ask("RTM_NEWLINK", NEWLINK, 0, &link::head(inside, true)).map(drop).context(|| "bring it up")
    }
}

/// An address of the device that is there for good and known everywhere, for the device inside.
fn kept(address: &[u8], of: u32, inside: u32) -> Option<Vec<u8>> {
    const PERMANENT: u8 = 0x80;
    let (head, rest) = address.split_at_checked(8)?;
    if head[2] & PERMANENT == 0 || head[3] != 0 || head[4..8] != of.to_ne_bytes() {
        return None;
    }
    let mut body = head[..4].to_vec();
    body.extend(inside.to_ne_bytes());
    for (kind, value) in attributes(rest) {
        // The address, that of this end, and the one for all; its label was the device's name here.
        if matches!(kind, 1 | 2 | 4) {
            attribute(&mut body, kind, value);
        }
    }
    Some(body)
}

/// The device of this name.
fn index(socket: &Socket, name: &str) -> Result<u32> {
    link::index(socket, name)?.ok_or_else(|| Error::not_found(format!("there is no network device {name}")))
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
