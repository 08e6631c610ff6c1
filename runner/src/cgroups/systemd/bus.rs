//! As much of D-Bus as systemd's manager needs: one connection, calls one after the other, and the signal that a job is
//! done. By the D-Bus specification, in little-endian, over a socket of the host's.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_sys::{Context, Error, Kind, Result};

pub use super::wire::Value;
use super::wire::{Body, Message, Reader, message};

/// How long systemd may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;

/// systemd's manager: name, path, interface.
const MANAGER: [&str; 3] =
    ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
const DAEMON: [&str; 3] = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];

/// A connection to systemd.
#[derive(Debug)]
pub struct Bus {
    socket: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connect to the system's manager, or to the calling user's.
    pub fn connect(rootless: bool) -> Result<Self> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Error::unsupported(
                "systemd cgroup flag passed, but systemd support for managing cgroups is not available",
            ));
        }
        let mut last = None;
        for (path, private) in sockets(rootless) {
            match Self::open(&path, private) {
                Ok(bus) => return Ok(bus),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::not_found("no socket")).wrap("connect to systemd"))
    }

    /// Connect to a socket: systemd's own, or a bus with it and others.
    pub fn open(path: &Path, private: bool) -> Result<Self> {
        let socket = UnixStream::connect(path).context(|| format!("connect({path:?})"))?;
        socket.set_read_timeout(Some(PATIENCE)).context(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut bus = Self { socket, serial: 0 };
        let uid: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        bus.send(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            bus.receive(&mut byte)?;
            line.extend(byte);
        }
        if !line.starts_with(b"OK") {
            let said = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(Error::new(Kind::Denied, format!("systemd's bus does not let us in: {said}")));
        }
        bus.send(b"BEGIN\r\n")?;
        if !private {
            bus.call(DAEMON, "Hello", "", &Body::default())?;
            let mut rule = Body::default();
            rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
            bus.call(DAEMON, "AddMatch", "s", &rule)?;
            bus.call(MANAGER, "Subscribe", "", &Body::default())?;
        }
        Ok(bus)
    }

    /// `StartTransientUnit`, and wait until it is started.
    pub fn start(&mut self, unit: &str, properties: &[(&str, Value)]) -> Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        // No units beside it.
        body.number(0);
        body.align(8);
        self.job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
            .context(|| format!("start the unit {unit}"))
    }

    /// `StopUnit`, and wait until it is stopped; what failed in it is forgotten. One that is not there is stopped.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.text("replace");
        let stopped = self.job(unit, "StopUnit", "ss", &body);
        let mut name = Body::default();
        name.text(unit);
        // There is nothing to forget of one that did not fail.
        let _ = self.call(MANAGER, "ResetFailedUnit", "s", &name);
        match stopped {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            other => other.context(|| format!("stop the unit {unit}")),
        }
    }

    /// `SetUnitProperties`, until the machine is started anew.
    pub fn set(&mut self, unit: &str, properties: &[(&str, Value)]) -> Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.number(1);
        body.properties(properties);
        let set = self.call(MANAGER, "SetUnitProperties", "sba(sv)", &body);
        set.map(drop).context(|| format!("set the properties of the unit {unit}"))
    }

    /// A call whose answer is a job, and the end of that.
    fn job(&mut self, unit: &str, member: &str, signature: &str, body: &Body) -> Result<()> {
        let answer = self.call(MANAGER, member, signature, body)?;
        let job = Reader::of(&answer.body).text()?;
        loop {
            let message = self.next()?;
            if message.member != "JobRemoved" {
                continue;
            }
            let mut read = Reader::of(&message.body);
            let (_, path, _, result) = (read.number()?, read.text()?, read.text()?, read.text()?);
            if path == job {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => {
                        Err(Error::new(Kind::System, format!("systemd's job for {unit} ended: {other}")))
                    }
                };
            }
        }
    }

    fn call(&mut self, to: [&str; 3], member: &str, signature: &str, body: &Body) -> Result<Message> {
        self.serial += 1;
        self.send(&message(CALL, self.serial, 0, Some(to), member, signature, body))?;
        loop {
            let message = self.next()?;
            match message.kind {
                // What comes before the answer is no answer to anything of ours: jobs are asked for one by one.
                RETURN | ERROR if message.answers != self.serial => {}
                RETURN => return Ok(message),
                ERROR => {
                    let said = Reader::of(&message.body).text().unwrap_or_default();
                    let kind = match message.error.as_str() {
                        "org.freedesktop.systemd1.NoSuchUnit" => Kind::NotFound,
                        "org.freedesktop.systemd1.UnitExists" => Kind::Exists,
                        "org.freedesktop.DBus.Error.AccessDenied" => Kind::Denied,
                        _ => Kind::System,
                    };
                    return Err(Error::new(kind, format!("{member}(): {}: {said}", message.error)));
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<Message> {
        Message::read(&mut self.socket)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).context(|| "write(systemd's socket)")
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.socket.read_exact(bytes).context(|| "read(systemd's socket)")
    }
}

/// Where systemd may be spoken to, and whether alone.
fn sockets(rootless: bool) -> Vec<(PathBuf, bool)> {
    if !rootless {
        return vec![("/run/systemd/private".into(), true), ("/run/dbus/system_bus_socket".into(), false)];
    }
    let run =
        std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", nix::unistd::getuid()));
    let run = PathBuf::from(run);
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address.split(';').find_map(|a| a.strip_prefix("unix:path=")?.split(',').next());
    let bus = named.map_or_else(|| run.join("bus"), PathBuf::from);
    vec![(run.join("systemd/private"), true), (bus, false)]
}

#[cfg(test)]
mod tests;
