//! The end of the machine: everything written, everything unmounted, the power.

use core::ffi::CStr;

use crate::sys::machine::{self, Power};
use crate::text::{Path, parts, position};

/// The kernel's own file systems: nothing of them is on a disk.
const KERNELS: &[u8] = b"proc sysfs devtmpfs devpts tmpfs ramfs rootfs mqueue cgroup2";

/// Take away all mounts that are of a disk, the latest first; what is in use is made read-only.
pub(crate) fn unmount_all() {
    machine::sync();
    // One that is below another is gone before; a second round sees what the first has uncovered.
    for _ in 0..2 {
        each_mount(&mut |place, kind| {
            if position(kind, KERNELS).is_none() && place != c"/" {
                let _ = machine::umount(place, 0);
            }
        });
    }
    each_mount(&mut |place, kind| {
        if position(kind, KERNELS).is_none() {
            let _ = machine::mount(c"", place, c"", libc::MS_REMOUNT | libc::MS_RDONLY, c"");
        }
    });
    machine::sync();
}

/// Call `found` with place and kind of each mount, the latest first.
fn each_mount(found: &mut dyn FnMut(&CStr, &[u8])) {
    let mut buffer = [0; 16384];
    let Ok(fd) = crate::sys::open(c"/proc/self/mounts", libc::O_RDONLY) else { return };
    let count = machine::read_at(fd, &mut buffer, 0).unwrap_or(0);
    crate::sys::close(fd);
    let lines = buffer.get(..count).unwrap_or_default();
    for line in lines.rsplit(|byte| *byte == b'\n') {
        let mut words = parts(line, b' ');
        if let (Some(_), Some(place), Some(kind)) = (words.next(), words.next(), words.next()) {
            found(unescaped(place).c(), kind);
        }
    }
}

/// A path as /proc/mounts writes it: blanks and backslashes as `\040`.
fn unescaped(mut text: &[u8]) -> Path {
    let mut path = Path::new(b"");
    while let Some((mut byte, mut rest)) = text.split_first() {
        let code;
        if let (b'\\', [a, b, c, behind @ ..]) = (byte, rest) {
            code = (a & 3) << 6 | (b & 7) << 3 | c & 7;
            (byte, rest) = (&code, behind);
        }
        path.text(&[*byte]);
        text = rest;
    }
    path
}

/// The last call.
pub(crate) fn switch(power: Power) -> ! {
    machine::reboot(power);
    // A kernel that cannot even halt.
    loop {
        machine::sleep(1_000_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_kernel_writes_them() {
        for (text, path) in
            [("/a", "/a"), ("/a\\040b\\134", "/a b\\"), ("/a\\04", "/a\\04"), ("/\\134", "/\\")]
        {
            assert_eq!(unescaped(text.as_bytes()).bytes(), path.as_bytes());
        }
    }
}
