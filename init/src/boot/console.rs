//! The console: where init's own lines go, and the terminal that is behind it.

use crate::directory::read_small;
use crate::sys::{self, machine};
use crate::text::{Path, parts};

/// Let descriptors 0 to 2 be the console; where there is none they must not become anything else.
pub(crate) fn open() {
    let console = machine::open_terminal(c"/dev/console");
    let Ok(console) = console.or_else(|_| machine::open_terminal(c"/dev/null")) else { return };
    for fd in 0..3 {
        let _ = machine::duplicate_to(console, fd);
    }
    if console > 2 {
        sys::close(console);
    }
}

/// The device behind /dev/console, which unlike that one can be a controlling terminal in every way. It is set to what
/// people expect. Its descriptor, and whether it is a screen of this machine's.
pub(crate) fn terminal() -> Option<(i32, bool)> {
    let mut buffer = [0; 128];
    let names = read_small(c"/sys/class/tty/console/active", &mut buffer);
    let mut name = parts(names, b' ').last()?;
    let mut buffer = [0; 32];
    if name == b"tty0" {
        // The screen that is shown.
        name = read_small(c"/sys/class/tty/tty0/active", &mut buffer);
    }
    let fd = machine::open_terminal(Path::new(b"/dev/").text(name).c()).ok();
    let fd = fd.or_else(|| machine::open_terminal(c"/dev/console").ok())?;
    machine::make_terminal_sane(fd);
    let screen = name.strip_prefix(b"tty").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    Some((fd, screen))
}
