//! As much of D-Bus as systemd's manager needs: one connection, calls one after the other, and the signal that a job is
//! done. By the D-Bus specification, in little-endian, over a bus' socket: systemd's own private one is not for others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use coracle_sys::{Context, Error, Kind, Result};

use super::address;
use super::value::Value;
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

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection to systemd.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connect to the system's manager, or to the calling user's.
    pub(crate) fn connect(user: bool) -> Result<Self> {
        let here = "systemd does not run here";
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Error::unsupported(format!("{here}: there is no /run/systemd/system")));
        }
        let mut last = Error::not_found(if user {
            "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where its bus is"
        } else {
            "DBUS_SYSTEM_BUS_ADDRESS names no socket"
        });
        for socket in address::sockets(user) {
            match socket.connect().and_then(Self::greet) {
                Ok(bus) => return Ok(bus),
                Err(e) => last = e,
            }
        }
        Err(last.wrap(if user { "connect to the user's systemd" } else { "connect to systemd" }))
    }

    /// Be let in. Who we are the other side asks the kernel: what we would say of it is wrong in a user namespace.
    pub(super) fn greet(socket: UnixStream) -> Result<Self> {
        socket.set_read_timeout(Some(PATIENCE)).context(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut bus = Self { socket, serial: 0 };
        bus.send(b"\0AUTH EXTERNAL\r\n")?;
        let mut line = bus.line()?;
        if line.starts_with("DATA") {
            bus.send(b"DATA\r\n")?;
            line = bus.line()?;
        }
        if !line.starts_with("OK") {
            return Err(Error::new(Kind::Denied, format!("its bus does not let us in: {}", line.trim())));
        }
        bus.send(b"BEGIN\r\n")?;
        bus.call(DAEMON, "Hello", "", &Body::default())?;
        Ok(bus)
    }

    /// A line of the greeting.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).context(|| "read(systemd's bus)")?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// A property of the manager's that is a text.
    pub(super) fn property(&mut self, name: &str) -> Result<String> {
        let mut body = Body::default();
        body.text(MANAGER[2]);
        body.text(name);
        let answer = self.call([MANAGER[0], MANAGER[1], PROPERTIES], "Get", "ss", &body)?;
        let mut read = Reader::of(&answer.body);
        match read.signature()?.as_str() {
            "s" => read.text(),
            other => Err(Error::invalid(format!("systemd's {name} is of the type {other:?}"))),
        }
    }

    /// `StartTransientUnit`, and wait until it is started.
    pub(super) fn start(&mut self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        self.hear_of_jobs()?;
        let mut body = Body::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties.iter());
        // No units beside it.
        body.number(0);
        body.align(8);
        let mut start = || self.job("StartTransientUnit", "ssa(sv)a(sa(sv))", &body);
        let started = match start() {
            // One that has failed is there until it is forgotten.
            Err(e) if e.kind() == Kind::Exists => {
                self.forget(unit);
                self.job("StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
            }
            other => other,
        };
        started.context(|| format!("start the unit {unit}"))
    }

    /// Have the manager tell of the ends of jobs.
    fn hear_of_jobs(&mut self) -> Result<()> {
        let mut rule = Body::default();
        rule.text("type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.call(DAEMON, "AddMatch", "s", &rule)?;
        self.call(MANAGER, "Subscribe", "", &Body::default()).map(drop)
    }

    /// `ResetFailedUnit`. There is nothing to forget of one that did not fail.
    fn forget(&mut self, unit: &str) {
        let mut name = Body::default();
        name.text(unit);
        let _ = self.call(MANAGER, "ResetFailedUnit", "s", &name);
    }

    /// `StopUnit`, and wait until it is stopped; what failed in it is forgotten. One that is not there is stopped.
    pub(super) fn stop(&mut self, unit: &str) -> Result<()> {
        self.hear_of_jobs()?;
        let mut body = Body::default();
        body.text(unit);
        body.text("replace");
        let stopped = self.job("StopUnit", "ss", &body);
        self.forget(unit);
        match stopped {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            other => other.context(|| format!("stop the unit {unit}")),
        }
    }

    /// `SetUnitProperties`, until the machine is started anew.
    pub(super) fn set(&mut self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.number(1);
        body.properties(properties.iter());
        let set = self.call(MANAGER, "SetUnitProperties", "sba(sv)", &body);
        set.map(drop).context(|| format!("set the properties of the unit {unit}"))
    }

    /// A call whose answer is a job, and the end of that.
    fn job(&mut self, member: &str, signature: &str, body: &Body) -> Result<()> {
        let answer = self.call(MANAGER, member, signature, body)?;
        let job = Reader::of(&answer.body).text()?;
        loop {
            let message = self.next()?;
            // Anybody may send signals; the manager is who has answered.
            if message.member != "JobRemoved" || message.sender != answer.sender {
                continue;
            }
            let mut read = Reader::of(&message.body);
            let (_, path, _, result) = (read.number()?, read.text()?, read.text()?, read.text()?);
            if path == job {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Error::new(Kind::System, format!("systemd's job for it ended: {other}"))),
                };
            }
        }
    }

    fn call(&mut self, to: [&str; 3], member: &str, signature: &str, body: &Body) -> Result<Message> {
        self.serial += 1;
        let [name, path, interface] = to;
        let header =
            [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", name), (8, "g", signature)];
        self.send(&message(CALL, self.serial, 0, &header, body))?;
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
        self.socket.write_all(bytes).context(|| "write(systemd's bus)")
    }
}

#[cfg(test)]
mod tests;
