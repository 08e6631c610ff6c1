//! The kernel's file systems: what every program expects to be mounted.

use core::ffi::{CStr, c_ulong};

use super::fault::Fault;
use crate::directory::read_small;
use crate::sys::{self, Errno, machine};
use crate::text::{Path, parts};

const SECURE: c_ulong = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;

/// One of them: kind, place, flags, data, and whether a kernel may lack it.
type Mount = (&'static CStr, &'static CStr, c_ulong, &'static CStr, bool);

/// What is needed to find out anything. /proc is there.
const FIRST: [Mount; 3] = [
    (c"sysfs", c"/sys", SECURE, c"", false),
    (c"devtmpfs", c"/dev", libc::MS_NOSUID, c"mode=755", false),
    (c"tmpfs", c"/run", libc::MS_NOSUID | libc::MS_NODEV, c"mode=755", false),
];

/// What commands need besides.
const SECOND: [Mount; 4] = [
    (c"devpts", c"/dev/pts", libc::MS_NOSUID | libc::MS_NOEXEC, c"gid=5,mode=620,ptmxmode=666", false),
    (c"tmpfs", c"/dev/shm", libc::MS_NOSUID | libc::MS_NODEV, c"mode=1777", false),
    (c"mqueue", c"/dev/mqueue", SECURE, c"", true),
    (c"cgroup2", c"/sys/fs/cgroup", SECURE, c"nsdelegate", true),
];

/// Links that programs look for in /dev.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
];

/// Mount the first. There may be no console to complain on yet: then the kernel's log has it.
pub(crate) fn mount_first() {
    FIRST.iter().for_each(mount);
}

/// Mount the others, and let the groups below the root's have every controller.
pub(crate) fn mount_second() {
    SECOND.iter().for_each(mount);
    for (to, path) in LINKS {
        let _ = machine::symlink(to, path);
    }
    enable_controllers();
}

fn mount((kind, place, flags, data, optional): &Mount) {
    // The root may be read-only and have it.
    let _ = machine::mkdir(place, 0o755);
    match machine::mount(kind, place, kind, *flags, data) {
        // The kernel, or who booted it, was first.
        Ok(()) | Err(Errno(libc::EBUSY)) => {}
        Err(_) if *optional => {}
        Err(errno) => Fault::new(b"mount", place.to_bytes(), errno).warn(),
    }
}

/// All at once, for the kernel waits for all processors each time; where one cannot be enabled, the others one by one.
fn enable_controllers() {
    let mut buffer = [0; 200];
    let names = read_small(c"/sys/fs/cgroup/cgroup.controllers", &mut buffer);
    let Ok(file) = sys::open(c"/sys/fs/cgroup/cgroup.subtree_control", libc::O_WRONLY) else { return };
    let mut all = Path::new(b"");
    for name in parts(names, b' ') {
        all.text(b"+").text(name).text(b" ");
    }
    if machine::write_all(file, all.bytes()).is_err() {
        for one in parts(all.bytes(), b' ') {
            sys::write(file, one);
        }
    }
    sys::close(file);
}
