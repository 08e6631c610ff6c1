//! Whether this is the machine's PID 1, not a container's.

use crate::sys::{self, Errno, machine};

/// How the first pid namespace of a machine is called: the kernel's PROC_PID_INIT_INO, the same on every machine.
const FIRST: &[u8] = b"pid:[4026531836]";

/// Asked of PID 1 alone. Where /proc is not mounted yet, it is afterwards if this is the machine's.
pub(crate) fn is_the_machines() -> bool {
    let mut link = [0; 32];
    match sys::readlink(c"/proc/self/ns/pid", &mut link) {
        Ok(link) => link == FIRST,
        // A /proc of another namespace than this process is in.
        Err(_) if sys::exists(c"/proc/version") => false,
        Err(_) => mount_proc_if_first(),
    }
}

/// A container must find nothing changed: so it is mounted where nobody sees it, and looked at first.
fn mount_proc_if_first() -> bool {
    let mut link = [0; 32];
    let mount = match machine::mount_detached(c"proc") {
        Ok(mount) => mount,
        Err(Errno(libc::ENOSYS)) => return mount_and_look(),
        Err(_) => return false,
    };
    let first = machine::readlink_at(mount, c"self/ns/pid", &mut link) == Ok(FIRST);
    if first {
        let _ = machine::mkdir(c"/proc", 0o555);
        let _ = machine::attach(mount, c"/proc");
    }
    sys::close(mount);
    first
}

/// Before Linux 5.2.
fn mount_and_look() -> bool {
    let mut link = [0; 32];
    let _ = machine::mkdir(c"/proc", 0o555);
    if machine::mount(c"proc", c"/proc", c"proc", 0, c"").is_err() {
        return false;
    }
    let first = sys::readlink(c"/proc/self/ns/pid", &mut link) == Ok(FIRST);
    if !first {
        let _ = machine::umount(c"/proc", 0);
    }
    first
}
