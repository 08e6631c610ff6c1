//! Network devices, addresses and routes by ioctl(2), as netdevice(7) has them; and local sockets.

use core::ffi::{CStr, c_int, c_long};

use super::super::{Errno, close};
use crate::bytes::copy;

/// An IPv4 address, as it is written: the first byte first.
pub(crate) type Address = [u8; 4];

/// struct sockaddr_in: family, port, address, padding.
type SocketAddress = [u8; 16];

fn socket_address([a, b, c, d]: Address) -> SocketAddress {
    let [low, high] = (libc::AF_INET as u16).to_ne_bytes();
    [low, high, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// struct ifreq: a name and something of 24 bytes.
#[repr(C, align(8))]
struct Request([u8; 40]);

impl Request {
    fn new(name: &[u8]) -> Self {
        let mut request = Self([0; 40]);
        // The last byte of a name is its NUL.
        let (place, _) = request.0.split_at_mut(15);
        copy(place, name);
        request
    }

    fn set(&mut self, value: &[u8]) {
        let (_, union) = self.0.split_at_mut(16);
        copy(union, value);
    }

    fn ask(&mut self, socket: c_int, number: c_long) -> Result<(), Errno> {
        done!(SYS_ioctl, socket, number, self.0.as_mut_ptr())
    }
}

/// A socket to configure IPv4 by.
pub(crate) struct Configuration(c_int);

impl Drop for Configuration {
    fn drop(&mut self) {
        close(self.0);
    }
}

impl Configuration {
    /// Open it.
    pub(crate) fn open() -> Result<Self, Errno> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        call!(SYS_socket, libc::AF_INET, kind, 0).map(|fd| Self(fd as c_int))
    }

    /// Switch a device on.
    pub(crate) fn up(&self, name: &[u8]) -> Result<(), Errno> {
        const SIOCGIFFLAGS: c_long = 0x8913;
        const SIOCSIFFLAGS: c_long = 0x8914;
        let mut request = Request::new(name);
        request.ask(self.0, SIOCGIFFLAGS)?;
        let [low, high] = [request.0[16], request.0[17]];
        let flags = u16::from_ne_bytes([low, high]) | libc::IFF_UP as u16;
        request.set(&flags.to_ne_bytes());
        request.ask(self.0, SIOCSIFFLAGS)
    }

    /// Give a device its address, with so many bits for the network.
    pub(crate) fn address(&self, name: &[u8], address: Address, prefix: u8) -> Result<(), Errno> {
        const SIOCSIFADDR: c_long = 0x8916;
        const SIOCSIFNETMASK: c_long = 0x891c;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        for (number, value) in [(SIOCSIFADDR, address), (SIOCSIFNETMASK, mask.to_be_bytes())] {
            let mut request = Request::new(name);
            request.set(&socket_address(value));
            request.ask(self.0, number)?;
        }
        Ok(())
    }

    /// Send what is for nobody near through this gateway.
    pub(crate) fn gateway(&self, gateway: Address) -> Result<(), Errno> {
        const SIOCADDRT: c_long = 0x890B;
        const UP: u16 = 1;
        const GATEWAY: u16 = 2;
        #[repr(C)]
        struct Route {
            padding: c_long,
            destination: SocketAddress,
            gateway: SocketAddress,
            mask: SocketAddress,
            flags: u16,
            rest: [c_long; 8],
        }
        let any = socket_address([0; 4]);
        let route = Route {
            padding: 0,
            destination: any,
            gateway: socket_address(gateway),
            mask: any,
            flags: UP | GATEWAY,
            rest: [0; 8],
        };
        done!(SYS_ioctl, self.0, SIOCADDRT, &raw const route)
    }
}

/// A local socket for datagrams at this path, which was free.
pub(crate) fn bind_datagrams(path: &CStr) -> Result<c_int, Errno> {
    // struct sockaddr_un: family and a path of 108 bytes.
    let mut address = [0u8; 110];
    let (family, place) = address.split_at_mut(2);
    copy(family, &(libc::AF_UNIX as u16).to_ne_bytes());
    copy(place, path.to_bytes());
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = call!(SYS_socket, libc::AF_UNIX, kind, 0)? as c_int;
    match call!(SYS_bind, fd, address.as_ptr(), address.len()) {
        Ok(_) => Ok(fd),
        Err(errno) => {
            close(fd);
            Err(errno)
        }
    }
}
