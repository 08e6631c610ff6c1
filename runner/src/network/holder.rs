//! Having a port of the host: it is bound, and not listened on. And who has one that cannot be had, which is looked for
//! only when somebody else wants it: it takes a look at everything.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Error, Kind, Result, file};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket, sockopt,
};

use super::ports::{Port, Protocol};

/// Docker's clients look for these words.
pub(crate) fn not_free(port: &Port, who: &str) -> Error {
    Error::new(
        Kind::Busy,
        format!("Bind for {} failed: port is already allocated (by the {who})", port.address()),
    )
}

/// Bind it. Which it is, where any was asked for.
pub(crate) fn take(port: &Port) -> Result<(OwnedFd, u16)> {
    match bound(port, false) {
        // What lingers of a connection that is over listens to nobody.
        Err(Errno::EADDRINUSE) if port.protocol == Protocol::Tcp => bound(port, true),
        other => other,
    }
    .map_err(|errno| match errno {
        Errno::EADDRINUSE => not_free(port, &of(port)),
        errno => Error::syscall(format!("bind({})", port.address()), errno).wrap(format!(
            "publish {}/{}",
            port.address(),
            port.protocol.name()
        )),
    })
}

fn bound(port: &Port, again: bool) -> Result<(OwnedFd, u16), Errno> {
    let family = if port.host_ip.is_v6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let kind = if port.protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if again {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if port.host_ip.is_v6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(port.address()))?;
    let found: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let number = match (found.as_sockaddr_in(), found.as_sockaddr_in6()) {
        (Some(four), _) => four.port(),
        (_, Some(six)) => six.port(),
        _ => port.host,
    };
    Ok((socket, number))
}

/// In words, for an error.
fn of(port: &Port) -> String {
    let unknown = || "host".to_owned();
    let name = match (port.protocol, port.host_ip.is_v6()) {
        (Protocol::Tcp, false) => ["tcp", "tcp6"],
        (Protocol::Tcp, true) => ["tcp6", "tcp"],
        (Protocol::Udp, false) => ["udp", "udp6"],
        (Protocol::Udp, true) => ["udp6", "udp"],
    };
    let inode = name.iter().find_map(|name| {
        let table = fs::read_to_string(format!("/proc/net/{name}")).ok()?;
        inode(&table, port.host)
    });
    inode.and_then(|inode| process_with(&inode)).unwrap_or_else(unknown)
}

/// Of the socket that has a port, in a table of the kernel's such as /proc/net/tcp.
fn inode(table: &str, port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    let mut lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|words| {
        // Connections (01) and what lingers of them (06) are not in the way.
        words.get(1).is_some_and(|local| local.ends_with(&wanted))
            && words.get(3).is_some_and(|state| !matches!(*state, "01" | "06"))
    })?;
    found.get(9).filter(|inode| **inode != "0").map(|inode| (*inode).to_owned())
}

fn process_with(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let has = |pid: &String| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        open.is_ok_and(|fds| {
            fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&wanted)))
        })
    };
    let pid = pids.filter(|p| p.bytes().all(|b| b.is_ascii_digit())).find(has)?;
    let name = file::read(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
    Some(format!("process {pid}, {}", String::from_utf8_lossy(&name).trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_port_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 0100007F:0001 01 0:0 00:0 00 0 0 7 1\n   1: 0100007F:1F90 00000000:0000 0A 0:0 00:0 00 0 0 4711 1\n";
        assert_eq!(inode(table, 8080).as_deref(), Some("4711"));
        assert_eq!(inode(table, 8081), None);
        assert_eq!((inode("", 1), inode("x\n1: :0001", 1)), (None, None));
    }
}
