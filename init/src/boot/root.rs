//! The root that the kernel's command line names: mounted, laid under something that can be written to, and made the
//! root of everything, while what the kernel began with gives its memory back.

use core::ffi::{CStr, c_ulong};

use super::disks;
use super::entries::Entries;
use super::fault::{Doing, Fault, Result};
use crate::directory::each_name_in;
use crate::sys::machine::{self, Stat};
use crate::sys::{self, Errno};
use crate::text::{Path, cut, number, parts, position};

/// Where the new root is mounted before it is the root.
const NEW: &CStr = c"/newroot";
/// The folder of what an overlay is made of, on a tmpfs that is kept.
const LAYERS: &CStr = c"/run/coracle";
const LOWER: &CStr = c"/run/coracle/lower";
const UPPER: &CStr = c"/run/coracle/upper";

/// The kernel's own words about the root.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    root: &'static CStr,
    kind: Option<&'static CStr>,
    options: &'static CStr,
    writable: bool,
    /// In milliseconds; none is for ever, as `rootwait` has it.
    wait: u32,
    /// To be slept, in milliseconds.
    delay: u64,
}

impl Wanted {
    /// Read them; nothing when no root is named.
    pub(crate) fn read(mut line: Entries<'static>, wait: u32) -> Option<Self> {
        let mut wanted = Self { root: c"", kind: None, options: c"", writable: false, wait, delay: 0 };
        while let Some((key, value)) = line.next() {
            let value = sys::text_of(value);
            match position(key, b"root rootfstype rootflags rw ro rootwait rootdelay") {
                Some(0) => wanted.root = value,
                Some(1) => wanted.kind = Some(value),
                Some(2) => wanted.options = value,
                Some(at @ 3..=4) => wanted.writable = at == 3,
                Some(5) => wanted.wait = u32::MAX,
                Some(_) => wanted.delay = number(value.to_bytes()).unwrap_or(0) * 1000,
                None => {}
            }
        }
        (!wanted.root.is_empty()).then_some(wanted)
    }

    /// Mount it, go there, and free what was the root. `overlay` is what can be written to above it.
    pub(crate) fn enter(&self, overlay: Option<&'static CStr>) -> Result<()> {
        machine::sleep(self.delay);
        let _ = machine::mkdir(NEW, 0o755);
        match overlay {
            None => self.mount(NEW, self.writable)?,
            Some(overlay) => self.mount_overlay(overlay)?,
        }
        for place in [c"/proc", c"/sys", c"/dev", c"/run"] {
            take_along(place)?;
        }
        switch()
    }

    fn mount(&self, place: &'static CStr, writable: bool) -> Result<()> {
        let name = self.root.to_bytes();
        let flags = if writable { 0 } else { libc::MS_RDONLY };
        // The tag of a shared folder is no device.
        let is_device = name.starts_with(b"/") || cut(name, b'=').is_some();
        if let Some(kind) = self.kind.filter(|_| !is_device) {
            return mount_with_options(self.root, place, kind, flags, self.options)
                .doing(b"mount the root", name);
        }
        let device = disks::find(name, self.wait)?;
        mount_device(&device, self.kind, place, flags, self.options).doing(b"mount the root", name)
    }

    /// The root below, never written to; above it a tmpfs or another device.
    fn mount_overlay(&self, upper: &'static CStr) -> Result<()> {
        for folder in [LAYERS, LOWER, UPPER] {
            let _ = machine::mkdir(folder, 0o755);
        }
        self.mount(LOWER, false)?;
        let name = upper.to_bytes();
        match name {
            b"tmpfs" => machine::mount(c"tmpfs", UPPER, c"tmpfs", 0, c"mode=755"),
            _ => mount_device(&disks::find(name, self.wait)?, None, UPPER, 0, c""),
        }
        .doing(b"mount the overlay's upper", name)?;
        let _ = machine::mkdir(c"/run/coracle/upper/upper", 0o755);
        let _ = machine::mkdir(c"/run/coracle/upper/work", 0o755);
        let layers =
            c"lowerdir=/run/coracle/lower,upperdir=/run/coracle/upper/upper,workdir=/run/coracle/upper/work";
        machine::mount(c"overlay", NEW, c"overlay", 0, layers)
            .doing(b"mount the overlay of", self.root.to_bytes())
    }
}

/// Whether the root is what the kernel unpacked at its start.
pub(crate) fn is_initial() -> bool {
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    matches!(machine::file_system(c"/"), Ok(TMPFS | RAMFS))
}

/// Mount a device, as what it says that it is where no kind is named.
pub(crate) fn mount_device(
    device: &disks::Device,
    kind: Option<&'static CStr>,
    place: &CStr,
    flags: c_ulong,
    options: &CStr,
) -> core::result::Result<(), Errno> {
    mount_with_options(device.path.c(), place, kind.or(device.kind).unwrap_or_default(), flags, options)
}

/// Words of mount(8) that are flags of mount(2), and these; `rw` takes one away. The others are the file system's own.
const WORDS: &[u8] = b"ro nosuid nodev noexec noatime relatime nodiratime sync bind rbind defaults rw";
const FLAGS: [u32; 11] = [
    libc::MS_RDONLY as u32,
    libc::MS_NOSUID as u32,
    libc::MS_NODEV as u32,
    libc::MS_NOEXEC as u32,
    libc::MS_NOATIME as u32,
    libc::MS_RELATIME as u32,
    libc::MS_NODIRATIME as u32,
    libc::MS_SYNCHRONOUS as u32,
    libc::MS_BIND as u32,
    (libc::MS_BIND | libc::MS_REC) as u32,
    0,
];

/// mount(2) with the options of mount(8).
pub(crate) fn mount_with_options(
    source: &CStr,
    place: &CStr,
    kind: &CStr,
    mut flags: c_ulong,
    options: &CStr,
) -> core::result::Result<(), Errno> {
    let mut data = Path::new(b"");
    for word in parts(options.to_bytes(), b',').filter(|word| !word.is_empty()) {
        match position(word, WORDS) {
            None => drop(data.text(if data.bytes().is_empty() { b"" } else { b"," }).text(word)),
            Some(at) => match FLAGS.get(at) {
                Some(bits) => flags |= c_ulong::from(*bits),
                None => flags &= !libc::MS_RDONLY,
            },
        }
    }
    machine::mount(source, place, kind, flags, data.c())?;
    // What a bind mount is to be, it becomes by a second call.
    if flags & libc::MS_BIND != 0 && flags & !(libc::MS_BIND | libc::MS_REC) != 0 {
        machine::mount(c"", place, c"", flags & !libc::MS_REC | libc::MS_REMOUNT, c"")?;
    }
    Ok(())
}

/// Move a mount into the new root.
fn take_along(place: &'static CStr) -> Result<()> {
    let mut new = Path::new(NEW.to_bytes());
    new.text(place.to_bytes());
    let _ = machine::mkdir(new.c(), 0o755);
    match machine::mount(place, new.c(), c"", libc::MS_MOVE, c"") {
        Err(Errno(libc::ENOENT)) => Err(Fault::text(
            b"enter the root: it has no",
            place.to_bytes(),
            b"nor can a folder be made there",
        )),
        other => other.doing(b"move", place.to_bytes()),
    }
}

/// Make the new root the root, and remove every file of the old one.
fn switch() -> Result<()> {
    let name = NEW.to_bytes();
    machine::chdir(NEW).doing(b"enter", name)?;
    let old = sys::open(c"/", libc::O_RDONLY | libc::O_DIRECTORY).doing(b"open", b"/")?;
    let device = machine::stat_at(old, c".", false).doing(b"look at", b"/")?.device;
    // The kernel's first mount can neither be unmounted nor pivoted from: the new one is put over it.
    machine::mount(c".", c"/", c"", libc::MS_MOVE, c"").doing(b"move", name)?;
    machine::chroot(c".").doing(b"change the root to", name)?;
    machine::chdir(c"/").doing(b"enter", b"/")?;
    remove_all(old, device);
    sys::close(old);
    Ok(())
}

/// Remove what is in a directory and on its file system.
fn remove_all(directory: i32, device: u64) {
    each_name_in(directory, &mut |name| {
        let Ok(Stat { device: its, kind, .. }) = machine::stat_at(directory, name, false) else { return };
        if its != device {
            return;
        }
        let is_folder = kind == libc::S_IFDIR;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        if is_folder && let Ok(below) = machine::open_at(directory, name, flags, 0) {
            remove_all(below, device);
            sys::close(below);
        }
        let _ = machine::unlink_at(directory, name, if is_folder { libc::AT_REMOVEDIR } else { 0 });
    });
}

#[cfg(test)]
mod tests {
    use super::super::entries::words;
    use super::*;

    fn read(line: &str) -> Option<Wanted> {
        Wanted::read(words(Box::leak(format!("{line}\0").into_bytes().into_boxed_slice()), b"").unwrap(), 7)
    }

    #[test]
    fn the_root_is_what_the_kernels_own_words_say() {
        assert_eq!(read("quiet ro rootwait init.root=/dev/x"), None);
        let plain =
            Wanted { root: c"/dev/vda", kind: None, options: c"", writable: false, wait: 7, delay: 0 };
        assert_eq!(read("root=/dev/vda"), Some(plain));
        let all = Wanted {
            root: c"UUID=a-b",
            kind: Some(c"ext4"),
            options: c"noatime,data=ordered",
            writable: true,
            wait: u32::MAX,
            delay: 2000,
        };
        let line = "root=UUID=a-b rootfstype=ext4 rootflags=noatime,data=ordered ro rw rootwait rootdelay=2";
        assert_eq!(read(line), Some(all));
    }
}
