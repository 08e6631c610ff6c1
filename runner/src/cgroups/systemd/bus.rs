//! As much of D-Bus as systemd's manager needs: one connection, calls one after the other, and the signal that a job is
//! done. By the D-Bus specification, in little-endian, over a socket of the host's.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_sys::{Context, Error, Kind, Result};

/// How long systemd may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// No message of the manager's is near this many bytes.
const MOST: usize = 1 << 20;

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

/// What a property of a unit can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
}

/// A message that has come.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) serial: u32,
    /// Which call it answers.
    pub(super) answers: u32,
    pub(super) member: String,
    error: String,
    body: Vec<u8>,
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
        let job = Reader { bytes: &answer.body, at: 0 }.text()?;
        loop {
            let message = self.next()?;
            if message.member != "JobRemoved" {
                continue;
            }
            let mut read = Reader { bytes: &message.body, at: 0 };
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
                    let said = Reader { bytes: &message.body, at: 0 }.text().unwrap_or_default();
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

/// A whole message. `to` is where a call goes.
pub(super) fn message(
    kind: u8,
    serial: u32,
    answers: u32,
    to: Option<[&str; 3]>,
    member: &str,
    signature: &str,
    body: &Body,
) -> Vec<u8> {
    let mut all = Body(vec![b'l', kind, 0, 1]);
    all.number(body.0.len() as u32);
    all.number(serial);
    let mut fields = Body::default();
    let mut field = |code: u8, kind: &str, text: &str| {
        fields.align(8);
        fields.0.push(code);
        fields.signature(kind);
        match kind {
            "g" => fields.signature(text),
            _ => fields.text(text),
        }
    };
    if let Some([name, path, interface]) = to {
        field(1, "o", path);
        field(2, "s", interface);
        field(6, "s", name);
    }
    if !member.is_empty() {
        field(3, "s", member);
    }
    if !signature.is_empty() {
        field(8, "g", signature);
    }
    if answers != 0 {
        fields.align(8);
        fields.0.push(5);
        fields.signature("u");
        fields.number(answers);
    }
    all.number(fields.0.len() as u32);
    // The header is 16 bytes long here: what is aligned within the fields stays so.
    all.0.extend(&fields.0);
    all.align(8);
    all.0.extend(&body.0);
    all.0
}

/// What a message holds, as it is written.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// `a(sv)`
    fn properties(&mut self, list: &[(&str, Value)]) {
        let length = self.length();
        self.align(8);
        let start = self.0.len();
        for (name, value) in list {
            self.align(8);
            self.text(name);
            match value {
                Value::Text(text) => {
                    self.signature("s");
                    self.text(text);
                }
                Value::Flag(on) => {
                    self.signature("b");
                    self.number(u32::from(*on));
                }
                Value::Number(n) => {
                    self.signature("t");
                    self.align(8);
                    self.0.extend(n.to_le_bytes());
                }
                Value::Numbers(list) => {
                    self.signature("au");
                    self.number(4 * list.len() as u32);
                    list.iter().for_each(|n| self.number(*n));
                }
            }
        }
        self.fill(length, start);
    }

    /// The place of an array's length, which is known later.
    fn length(&mut self) -> usize {
        self.number(0);
        self.0.len() - 4
    }

    fn fill(&mut self, at: usize, start: usize) {
        let length = (self.0.len() - start) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

impl Message {
    pub(super) fn read(from: &mut impl Read) -> Result<Self> {
        let mut head = [0; 16];
        let mut take = |bytes: &mut [u8]| from.read_exact(bytes).context(|| "read(systemd's socket)");
        take(&mut head)?;
        if head[0] != b'l' {
            return Err(Error::invalid("systemd's bus speaks in another order of bytes"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (body, fields) = (number(4) as usize, number(12) as usize);
        if body > MOST || fields > MOST {
            return Err(Error::invalid("a message of systemd's bus is too long"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        take(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        let mut message = Self { kind: head[1], serial: number(8), body, ..Self::default() };
        let mut read = Reader { bytes: &rest[..fields], at: 0 };
        while read.at < fields {
            read.align(8);
            let code = read.byte()?;
            match (code, read.signature()?.as_str()) {
                (3, "s") => message.member = read.text()?,
                (4, "s") => message.error = read.text()?,
                (5, "u") => message.answers = read.number()?,
                (_, "s" | "o") => drop(read.text()?),
                (_, "u") => drop(read.number()?),
                (_, "g") => drop(read.signature()?),
                _ => return Err(Error::invalid("a message of systemd's bus has an unknown field")),
            }
        }
        Ok(message)
    }
}

/// A message's bytes, as they are read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.saturating_add(length);
        let part = self.bytes.get(self.at..end);
        self.at = end;
        part.ok_or_else(|| Error::invalid("a message of systemd's bus ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|b| b[0])
    }

    fn number(&mut self) -> Result<u32> {
        self.align(4);
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte().map(|_| text)
    }
}

#[cfg(test)]
mod tests;
