//! Which program of the host has a port. Looked for only when somebody else wants it: it takes a look at everything.

use std::fs;
use std::path::Path;

use coracle_sys::file;

use super::ports::{Port, Protocol};

/// In words, for an error.
pub(crate) fn of(port: &Port) -> String {
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
