//! The machine as a whole: its power, its modules, its name, its disks' caches.

use core::ffi::{CStr, c_int};

use super::super::{Errno, text_of};
use crate::bytes::copy;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Power {
    Off,
    Restart,
    Halt,
}

/// End it, at once. Returns only when the kernel refuses.
pub(crate) fn reboot(power: Power) {
    reboot_call(match power {
        Power::Off => libc::LINUX_REBOOT_CMD_POWER_OFF,
        Power::Restart => libc::LINUX_REBOOT_CMD_RESTART,
        Power::Halt => libc::LINUX_REBOOT_CMD_HALT,
    });
}

/// Let Ctrl-Alt-Del be a SIGINT for PID 1.
pub(crate) fn take_ctrl_alt_del() {
    reboot_call(libc::LINUX_REBOOT_CMD_CAD_OFF);
}

fn reboot_call(command: c_int) {
    let _ = call!(SYS_reboot, libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2, command, 0);
}

/// Bring all that was written to its disks.
pub(crate) fn sync() {
    let _ = call!(SYS_sync);
}

/// Load a module.
pub(crate) fn load_module(fd: c_int, flags: c_int) -> Result<(), Errno> {
    done!(SYS_finit_module, fd, c"".as_ptr(), flags)
}

/// Name the machine.
pub(crate) fn set_host_name(name: &CStr) -> Result<(), Errno> {
    done!(SYS_sethostname, name.as_ptr(), name.count_bytes())
}

/// The kernel's release, as `uname -r` prints it.
pub(crate) fn kernel_release(buffer: &mut [u8; 65]) -> &CStr {
    // struct utsname: six names of 65 bytes, the release is the third.
    let mut names = [0u8; 6 * 65];
    let _ = call!(SYS_uname, names.as_mut_ptr());
    copy(buffer, names.get(130..).unwrap_or_default());
    text_of(buffer)
}

/// Sleep for so many milliseconds.
#[inline(never)]
pub(crate) fn sleep(millis: u64) {
    let time = [(millis / 1000) as libc::c_long, (millis % 1000 * 1_000_000) as libc::c_long];
    let _ = call!(SYS_nanosleep, time.as_ptr(), 0);
}
