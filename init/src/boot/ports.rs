//! Ports to whoever emulates the machine: virtio-serial ports by name.

use core::ffi::CStr;

use crate::directory::{each_name, read_small};
use crate::sys::{self, machine};
use crate::text::decimal;
use crate::text::{Path, position};

/// How long the ports of a device may take to appear, in milliseconds: the driver asks for them one by one.
const APPEAR: u64 = 300;
/// How long no further port may appear once one has.
const SETTLED: u64 = 4;
/// How long whoever listens may take to be there.
const LISTEN: u64 = 500;

/// The ports that are there: CMD's streams, and where the end is told.
#[derive(Clone, Copy)]
pub(crate) struct Ports([Option<i32>; 4]);

impl Ports {
    /// None.
    pub(crate) const NONE: Self = Self([None; 4]);

    /// CMD's streams.
    pub(crate) fn streams(&self) -> [Option<i32>; 3] {
        let [input, output, error, _] = self.0;
        [input, output, error]
    }

    /// Where the end is told.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.0[3]
    }

    /// Find and open them; the driver is loaded.
    pub(crate) fn find() -> Self {
        if has_device() {
            settle();
        }
        let mut ports = Self::NONE;
        each_name(c"/sys/class/virtio-ports", &mut |port| ports.open(port));
        ports
    }

    fn open(&mut self, port: &CStr) {
        let mut buffer = [0; 64];
        let name = read_small(port_file(port).c(), &mut buffer);
        let known =
            name.strip_prefix(b"coracle.").and_then(|name| position(name, b"stdin stdout stderr exit"));
        let Some(slot) = known.and_then(|at| self.0.get_mut(at)) else { return };
        let (flags, event) = match known {
            Some(0) => (libc::O_RDONLY, libc::POLLIN),
            _ => (libc::O_WRONLY, libc::POLLOUT),
        };
        let opened = sys::open(Path::new(b"/dev/").text(port.to_bytes()).c(), flags | libc::O_NONBLOCK);
        let Ok(fd) = opened else { return };
        // Without a listener a write would wait for one, and a read would say that all is over.
        let mut waited = 0;
        while machine::poll_one(fd, event, 0) & libc::POLLHUP != 0 {
            if waited == LISTEN {
                return sys::close(fd);
            }
            machine::sleep(1);
            waited += 1;
        }
        machine::set_blocking(fd, true);
        *slot = Some(fd);
    }

    /// Tell that CMD is about to be started.
    pub(crate) fn tell_up(&self) {
        self.tell(b"up\n");
    }

    /// Tell the exit code.
    pub(crate) fn tell_code(&self, code: u8) {
        let mut digits = [0; 20];
        self.tell(Path::new(decimal(u64::from(code), &mut digits)).text(b"\n").bytes());
    }

    /// Tell what went wrong: a line that ends.
    pub(crate) fn tell_error(&self, line: &[u8]) {
        self.tell(Path::new(b"error ").text(line.get(..240).unwrap_or(line)).bytes());
    }

    fn tell(&self, text: &[u8]) {
        if let Some(fd) = self.exit() {
            let _ = machine::write_all(fd, text);
        }
    }
}

fn port_file(port: &CStr) -> Path {
    let mut path = Path::new(b"/sys/class/virtio-ports/");
    path.text(port.to_bytes()).text(b"/name");
    path
}

/// Whether there is a device that could have ports.
fn has_device() -> bool {
    let mut has = false;
    each_name(c"/sys/bus/virtio/drivers/virtio_console", &mut |name| {
        has |= name.to_bytes().starts_with(b"virtio")
    });
    has
}

/// Wait until all ports are there, as far as that can be told.
fn settle() {
    let (mut last, mut since) = (0, 0);
    for waited in 0..APPEAR {
        let mut named = 0;
        each_name(c"/sys/class/virtio-ports", &mut |port| {
            named += u32::from(!read_small(port_file(port).c(), &mut [0; 64]).is_empty());
        });
        if named != last {
            (last, since) = (named, waited);
        } else if last > 0 && waited - since >= SETTLED {
            return;
        }
        machine::sleep(1);
    }
}
