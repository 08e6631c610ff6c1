//! Where the buses are, by the D-Bus specification: addresses in the environment, else the usual places.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Result};

/// The system's bus where nothing else is said.
const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket";

/// A socket of a bus.
#[derive(Debug, PartialEq)]
pub(super) enum Socket {
    /// In the file system.
    Path(PathBuf),
    /// Of the kernel's own names.
    Abstract(Vec<u8>),
}

impl Socket {
    /// Connect to it.
    pub(super) fn connect(&self) -> Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path).context(|| format!("connect({path:?})")),
            Self::Abstract(name) => {
                let shown = String::from_utf8_lossy(name);
                let address = SocketAddr::from_abstract_name(name);
                let stream = address.and_then(|address| UnixStream::connect_addr(&address));
                stream.context(|| format!("connect(@{shown})"))
            }
        }
    }
}

/// The sockets of the system's bus, or of the calling user's, in the order in which they are to be tried.
pub(super) fn sockets(user: bool) -> Vec<Socket> {
    let said = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let addresses = match user {
        true => said("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| "unix:runtime=yes".into()),
        false => said("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| SYSTEM.into()),
    };
    parse(&addresses, runtime.as_deref())
}

/// Those of a list of addresses that are sockets of this machine.
fn parse(addresses: &str, runtime: Option<&Path>) -> Vec<Socket> {
    let read = |address: &str| {
        let keys = address.strip_prefix("unix:")?.split(',');
        keys.filter_map(|key| key.split_once('=')).find_map(|(key, value)| match key {
            "path" => Some(Socket::Path(OsString::from_vec(unescape(value)?).into())),
            "abstract" => unescape(value).map(Socket::Abstract),
            "runtime" if value == "yes" => Some(Socket::Path(runtime?.join("bus"))),
            _ => None,
        })
    };
    addresses.split(';').filter_map(read).collect()
}

/// `%2f` is a slash.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut parts = value.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part[2..].bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_specification_has_them() {
        let path = |p: &str| Socket::Path(p.into());
        let run = Some(Path::new("/run/user/5"));
        for (text, sockets) in [
            ("unix:path=/a,guid=12", vec![path("/a")]),
            ("unix:guid=12,path=/a%20b%2fc", vec![path("/a b/c")]),
            ("tcp:host=x;unix:abstract=/tmp/x", vec![Socket::Abstract(b"/tmp/x".to_vec())]),
            ("unix:path=/a;unix:runtime=yes", vec![path("/a"), path("/run/user/5/bus")]),
            ("unix:runtime=no", vec![]),
            ("unix:path=%zz;autolaunch:", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(text, run), sockets, "{text}");
        }
        assert_eq!(parse("unix:runtime=yes", None), []);
    }
}
