//! The network: loopback, and one device with an address that is told or that a client of the root asks for.

use core::ffi::CStr;

use super::fault::{Doing, Fault, OrFault, Result};
use super::launch;
use super::waiting;
use crate::bytes;
use crate::directory::{each_name, read_small};
use crate::sys::machine::{self, Address, Configuration, Room};
use crate::text::{Path, cut, number, parts};

/// What `ip=` says.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    /// The first ethernet device where none is named.
    device: Option<&'static [u8]>,
    how: How,
}

#[derive(Debug, PartialEq)]
enum How {
    Dhcp,
    Fixed { address: Address, prefix: u8, gateway: Option<Address>, dns: Option<Address> },
}

/// Read `[DEVICE:]dhcp` or `[DEVICE:]ADDRESS/PREFIX[,GATEWAY[,DNS]]`.
pub(crate) fn read(text: &'static [u8]) -> Result<Wanted> {
    let (device, rest) = cut(text, b':').map_or((None, text), |(device, rest)| (Some(device), rest));
    let how = if rest == b"dhcp" { Some(How::Dhcp) } else { fixed(rest) };
    let how = how.or_refusal(b"ip", b"takes ADDRESS/PREFIX[,GATEWAY[,DNS]] of IPv4, or dhcp")?;
    Ok(Wanted { device, how })
}

fn fixed(text: &[u8]) -> Option<How> {
    let mut words = parts(text, b',');
    let (address, prefix) = cut(words.next()?, b'/')?;
    let prefix = number(prefix).filter(|prefix| *prefix <= 32)? as u8;
    let mut optional = || words.next().map_or(Some(None), |word| address_of(word).map(Some));
    let (gateway, dns) = (optional()?, optional()?);
    words.next().is_none().then_some(())?;
    Some(How::Fixed { address: address_of(address)?, prefix, gateway, dns })
}

fn address_of(text: &[u8]) -> Option<Address> {
    let mut address = [0; 4];
    let mut words = parts(text, b'.');
    for slot in &mut address {
        *slot = u8::try_from(number(words.next()?)?).ok()?;
    }
    words.next().is_none().then_some(address)
}

/// Switch loopback on; the kernel gives it its address.
pub(crate) fn loopback() {
    let up = Configuration::open().and_then(|network| network.up(b"lo"));
    if let Err(fault) = up.doing(b"switch on", b"lo") {
        fault.warn();
    }
}

/// Give the device what is wanted. It may take so many milliseconds to appear.
pub(crate) fn configure(wanted: &Wanted, wait: u32, room: &mut Room) -> Result<()> {
    let mut name = [0; 16];
    waiting::until(wait, &mut || {
        name = [0; 16];
        find(wanted.device, &mut name)
    })?;
    let called = wanted.device.unwrap_or(b"the first ethernet device");
    let found = crate::sys::text_of(&name);
    let device = room.keep(found.to_bytes()).doing(b"configure", called)?;
    if device.is_empty() {
        return Err(Fault::text(b"configure", called, b"there is no such network device"));
    }
    let network = Configuration::open().doing(b"configure", called)?;
    network.up(device.to_bytes()).doing(b"switch on", called)?;
    match &wanted.how {
        How::Dhcp => ask(device, wait),
        How::Fixed { address, prefix, gateway, dns } => {
            network.address(device.to_bytes(), *address, *prefix).doing(b"give an address to", called)?;
            if let Some(gateway) = gateway {
                network.gateway(*gateway).doing(b"set the gateway of", called)?;
            }
            dns.as_ref().map_or(Ok(()), resolve_by)
        }
    }
}

/// Write the device's name, if it is there.
fn find(named: Option<&[u8]>, name: &mut [u8; 16]) -> bool {
    let mut lowest = u64::MAX;
    each_name(c"/sys/class/net", &mut |device| {
        let device = device.to_bytes();
        let file = |name: &[u8]| {
            let mut path = Path::new(b"/sys/class/net/");
            path.text(device).text(name);
            path
        };
        let value = |name: &[u8]| number(read_small(file(name).c(), &mut [0; 32])).unwrap_or(0);
        // ARPHRD_ETHER, and a device that something real is behind.
        let is_it = match named {
            Some(named) => named == device,
            None => value(b"/type") == 1 && crate::sys::exists(file(b"/device").c()),
        };
        let index = value(b"/ifindex");
        if is_it && index < lowest {
            lowest = index;
            *name = [0; 16];
            let (place, _) = name.split_at_mut(15);
            bytes::copy(place, device);
        }
    });
    lowest != u64::MAX
}

/// Let the root's own client ask. Each of them goes to the background once it has an address.
fn ask(device: &'static CStr, wait: u32) -> Result<()> {
    /// WEXITSTATUS 127, as wait(2) has it.
    const NOT_FOUND: i32 = 127 << 8;
    const CLIENTS: [(&CStr, &[&CStr]); 3] =
        [(c"udhcpc", &[c"-q", c"-n", c"-i"]), (c"dhclient", &[c"-1"]), (c"dhcpcd", &[c"-q"])];
    for (client, words) in CLIENTS {
        match launch::run_to_end(client, words, device, wait) {
            Some(0) => return Ok(()),
            Some(NOT_FOUND) => {}
            Some(_) => return Err(Fault::text(b"get an address with", client.to_bytes(), b"it got none")),
            None => return Err(Fault::text(b"get an address with", client.to_bytes(), b"not within wait=")),
        }
    }
    Err(Fault::text(b"get an address", b"", b"the root has no udhcpc, dhclient or dhcpcd"))
}

/// Write /etc/resolv.conf; where that cannot be written, over it.
fn resolve_by(server: &Address) -> Result<()> {
    let mut text = Path::new(b"nameserver ");
    for (at, part) in server.iter().enumerate() {
        text.text(if at == 0 { b"" } else { b"." }).number(u64::from(*part));
    }
    text.text(b"\n");
    let write = |path| {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let fd = machine::open_at(libc::AT_FDCWD, path, flags, 0o644)?;
        let written = machine::write_all(fd, text.bytes());
        crate::sys::close(fd);
        written
    };
    if write(c"/etc/resolv.conf").is_ok() {
        return Ok(());
    }
    let aside = c"/run/resolv.conf";
    let bound =
        write(aside).and_then(|()| machine::mount(aside, c"/etc/resolv.conf", c"", libc::MS_BIND, c""));
    bound.doing(b"write", b"/etc/resolv.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_network_and_perhaps_more() {
        let fixed = |gateway, dns| How::Fixed { address: [10, 0, 2, 15], prefix: 24, gateway, dns };
        for (text, device, how) in [
            ("10.0.2.15/24", None, fixed(None, None)),
            ("10.0.2.15/24,10.0.2.2", None, fixed(Some([10, 0, 2, 2]), None)),
            (
                "eth1:10.0.2.15/24,10.0.2.2,8.8.4.4",
                Some("eth1"),
                fixed(Some([10, 0, 2, 2]), Some([8, 8, 4, 4])),
            ),
            ("dhcp", None, How::Dhcp),
            ("enp0s1:dhcp", Some("enp0s1"), How::Dhcp),
        ] {
            assert_eq!(
                read(text.as_bytes()),
                Ok(Wanted { device: device.map(str::as_bytes), how }),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "10.0.2.15",
            "10.0.2/24",
            "10.0.2.256/24",
            "10.0.2.1.5/24",
            "10.0.2.15/33",
            "1.2.3.4/8,",
            "1.2.3.4/8,1.1.1.1,2.2.2.2,3",
            "fe80::1/64",
            "DHCP",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
