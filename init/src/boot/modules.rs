//! Modules of the kernel: those that a list names by path, in its order; and those that are named, with what they need,
//! from the kernel's own list of dependencies.

use core::ffi::CStr;

use super::fault::{Fault, Result};
use crate::sys::{self, Errno, machine};
use crate::text::{Path, parts};

/// The kernel unpacks it itself. Since Linux 5.17.
const COMPRESSED: i32 = 4;

/// Load what /etc/coracle/modules lists. What cannot be loaded is complained of; what needs it will not work.
pub(crate) fn load_listed() {
    let _ = machine::with_mapped(c"/etc/coracle/modules", &mut |list| {
        for path in parts(list, b'\n').filter(|path| !path.is_empty()) {
            let mut absolute = Path::new(if path.starts_with(b"/") { b"" } else { b"/" });
            complain(absolute.text(path).c());
        }
    });
}

fn refuse(name: &[u8], why: &[u8]) -> Fault {
    Fault::text(b"load module", name, why)
}

fn complain(path: &CStr) {
    match load(path) {
        Ok(()) => {}
        Err(Errno(libc::ENOEXEC)) => refuse(path.to_bytes(), b"it is no module of this kernel").warn(),
        Err(errno) => Fault::new(b"load module", path.to_bytes(), errno).warn(),
    }
}

fn load(path: &CStr) -> core::result::Result<(), Errno> {
    let fd = sys::open(path, libc::O_RDONLY)?;
    let flags = if path.to_bytes().ends_with(b".ko") { 0 } else { COMPRESSED };
    let loaded = machine::load_module(fd, flags);
    sys::close(fd);
    match loaded {
        Err(Errno(libc::EEXIST)) => Ok(()),
        other => other,
    }
}

/// Load modules by name, `NAME,NAME`, where this root has the kernel's list of them. Whether it has.
pub(crate) fn load_named(names: &'static CStr) -> Result<bool> {
    let mut release = [0; 65];
    let mut folder = Path::new(b"/lib/modules/");
    folder.text(machine::kernel_release(&mut release).to_bytes()).text(b"/");
    let mut list = Path::new(folder.bytes());
    let mut result = Ok(());
    let mapped = machine::with_mapped(list.text(b"modules.dep").c(), &mut |list| {
        for name in parts(names.to_bytes(), b',').filter(|name| !name.is_empty()) {
            let Some(line) = line_of(list, name) else {
                result = Err(refuse(name, b"the kernel has none of this name"));
                return;
            };
            // What a module needs stands behind it, what that needs behind that.
            let paths = line.rsplit(|byte| matches!(byte, b' ' | b':')).filter(|path| !path.is_empty());
            paths.for_each(|path| complain(Path::new(folder.bytes()).text(path).c()));
        }
    });
    result.map(|()| mapped.is_ok())
}

/// The line of modules.dep(5) that is about this module: `PATH: PATH PATH`. In names `-` and `_` are the same.
fn line_of<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let same = |a: &u8, b: &u8| a == b || matches!((a, b), (b'-', b'_') | (b'_', b'-'));
    parts(list, b'\n').find(|line| {
        let path = parts(line, b':').next().unwrap_or_default();
        let file = parts(path, b'/').last().unwrap_or_default();
        file.split_at_checked(name.len()).is_some_and(|(stem, rest)| {
            rest.starts_with(b".ko") && stem.iter().zip(name).all(|(a, b)| same(a, b))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_name_alone() {
        let list =
            b"kernel/a/virtio_blk.ko.xz: kernel/b/virtio.ko\nkernel/b/virtio.ko:\nkernel/c/x-y.ko: z\n";
        assert_eq!(line_of(list, b"virtio"), Some(&b"kernel/b/virtio.ko:"[..]));
        assert_eq!(line_of(list, b"virtio-blk"), Some(&b"kernel/a/virtio_blk.ko.xz: kernel/b/virtio.ko"[..]));
        assert_eq!(line_of(list, b"x_y"), Some(&b"kernel/c/x-y.ko: z"[..]));
        assert_eq!((line_of(list, b"virt"), line_of(list, b"z"), line_of(b"", b"")), (None, None, None));
    }
}
