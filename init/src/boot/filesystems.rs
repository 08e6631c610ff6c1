//! The kernel's file systems: what every program expects to be mounted.

use core::ffi::c_ulong;

use super::fault::Fault;
use crate::directory::read_small;
use crate::sys::{self, Errno, machine};
use crate::text::{Path, number, parts};

/// What is needed to find out anything; /proc is there. Of each the kind, the place, the flags (MS_NOSUID is 2, MS_NODEV 4,
/// MS_NOEXEC 8), and the data. One text is half of a table of texts.
const FIRST: &[u8] = b"sysfs /sys 14 \ndevtmpfs /dev 2 mode=755\ntmpfs /run 6 mode=755";

/// What commands need besides.
const SECOND: &[u8] = b"devpts /dev/pts 10 gid=5,mode=620,ptmxmode=666\ntmpfs /dev/shm 6 mode=1777";

/// What a kernel may lack.
const OPTIONAL: &[u8] = b"mqueue /dev/mqueue 14 \ncgroup2 /sys/fs/cgroup 14 nsdelegate";

/// Links that programs look for in /dev.
const LINKS: &[u8] = b"/proc/self/fd /dev/fd\n/proc/self/fd/0 /dev/stdin\n/proc/self/fd/1 /dev/stdout\n\
    /proc/self/fd/2 /dev/stderr";

/// Mount the first. There may be no console to complain on yet: then the kernel's log has it.
pub(crate) fn mount_first() {
    mount(FIRST, false);
}

/// Mount the others, and let the groups below the root's have every controller.
pub(crate) fn mount_second() {
    mount(SECOND, false);
    mount(OPTIONAL, true);
    each_line(LINKS, &mut |[to, path, ..]| {
        let _ = machine::symlink(to.c(), path.c());
    });
    enable_controllers();
}

fn mount(table: &[u8], optional: bool) {
    each_line(table, &mut |[kind, place, flags, data]| {
        let (kind, place) = (kind.c(), place.c());
        let flags = number(flags.bytes()).unwrap_or(0) as c_ulong;
        // The root may be read-only and have it.
        let _ = machine::mkdir(place, 0o755);
        match machine::mount(kind, place, kind, flags, data.c()) {
            // The kernel, or who booted it, was first.
            Ok(()) | Err(Errno(libc::EBUSY)) => {}
            Err(_) if optional => {}
            Err(errno) => Fault::new(b"mount", place.to_bytes(), errno).warn(),
        }
    });
}

/// Call `act` with the words of each line.
fn each_line(table: &[u8], act: &mut dyn FnMut([&Path; 4])) {
    for line in parts(table, b'\n') {
        let mut words = parts(line, b' ');
        let mut word = || Path::new(words.next().unwrap_or_default());
        act([&word(), &word(), &word(), &word()]);
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
