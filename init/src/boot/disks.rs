//! Devices by what is on them: UUID and label of the file system, UUID and name of the partition.

use core::ffi::CStr;

use super::fault::{OrFault, Result};
use super::gpt::{self, Entry, Header};
use super::superblock::{self, Superblock};
use super::waiting;
use crate::directory::{each_name, read_small};
use crate::sys;
use crate::sys::machine;
use crate::text::{Path, number};

/// A device that was found.
pub(crate) struct Device {
    /// /dev/NAME.
    pub(crate) path: Path,
    /// As mount(2) takes it, if it is known.
    pub(crate) kind: Option<&'static CStr>,
}

impl Device {
    fn look(path: Path) -> Option<Self> {
        let kind = with_superblock(&path, &mut |found| found.kind)?;
        Some(Self { path, kind })
    }
}

/// Find what `/dev/NAME`, `UUID=`, `LABEL=`, `PARTUUID=` or `PARTLABEL=` names. It may take so many milliseconds to
/// appear.
pub(crate) fn find(wanted: &'static [u8], wait: u32) -> Result<Device> {
    let mut device = None;
    waiting::until(wait, &mut || {
        device = look_for(wanted);
        device.is_some()
    })?;
    device.or_fault(b"find", wanted, b"no such device has appeared")
}

fn look_for(wanted: &[u8]) -> Option<Device> {
    if wanted.starts_with(b"/") {
        return Device::look(Path::new(wanted));
    }
    let mut found = None;
    each_name(c"/sys/class/block", &mut |name| {
        if found.is_none() && is(name.to_bytes(), wanted) {
            let mut path = Path::new(b"/dev/");
            path.text(name.to_bytes());
            found = Device::look(path);
        }
    });
    found
}

/// Whether the device of this name is the one.
fn is(name: &[u8], wanted: &[u8]) -> bool {
    let mut path = Path::new(b"/dev/");
    path.text(name);
    let of_superblock = |is: &dyn Fn(&Superblock<'_>) -> bool| {
        with_superblock(&path, &mut |found| is(&found)).flatten() == Some(true)
    };
    if let Some(uuid) = wanted.strip_prefix(b"UUID=") {
        of_superblock(&|found| found.has_uuid(uuid))
    } else if let Some(label) = wanted.strip_prefix(b"LABEL=") {
        of_superblock(&|found| !label.is_empty() && found.label == label)
    } else {
        Partition::of(name).is_some_and(|partition| partition.is(wanted))
    }
}

/// What `look` says of the device's superblock: nothing where the device cannot be read, and nothing of a superblock
/// that nobody knows.
fn with_superblock<R>(path: &Path, look: &mut dyn FnMut(Superblock<'_>) -> R) -> Option<Option<R>> {
    let mut bytes = [0; superblock::SIZE];
    let device = sys::open(path.c(), libc::O_RDONLY | libc::O_NONBLOCK).ok()?;
    let count = machine::read_at(device, &mut bytes, 0);
    // Anything may have such a path; a device has a size.
    let is_device = machine::device_size(device).is_ok();
    sys::close(device);
    (is_device && count.is_ok()).then(|| Superblock::read(&bytes).map(look))
}

/// A partition and the disk that it is of.
pub(crate) struct Partition {
    /// /dev/NAME of the disk.
    pub(crate) disk: Path,
    /// From 1.
    pub(crate) number: u32,
}

impl Partition {
    /// The partition of this name, if it is one.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let mut place = Path::new(b"/sys/class/block/");
        place.text(name);
        let mut file = Path::new(place.bytes());
        let mut digits = [0; 16];
        let number = number(read_small(file.text(b"/partition").c(), &mut digits))?;
        // The link ends with the names of the disk and of the partition.
        let mut buffer = [0; 256];
        let link = sys::readlink(place.c(), &mut buffer).ok()?;
        let mut disk = Path::new(b"/dev/");
        disk.text(link.rsplit(|byte| *byte == b'/').nth(1)?);
        Some(Self { disk, number: u32::try_from(number).ok()? })
    }

    fn is(&self, wanted: &[u8]) -> bool {
        let Ok(disk) = sys::open(self.disk.c(), libc::O_RDONLY | libc::O_NONBLOCK) else { return false };
        let is = self.is_on(disk, wanted);
        sys::close(disk);
        is.unwrap_or(false)
    }

    fn is_on(&self, disk: i32, wanted: &[u8]) -> Option<bool> {
        let sector = u64::from(machine::sector_size(disk).ok()?);
        let mut first = [0; 512];
        let uuid = wanted.strip_prefix(b"PARTUUID=");
        if let Some(uuid) = uuid
            && machine::read_at(disk, &mut first, 0).is_ok()
            && gpt::is_mbr_id(&first, self.number, uuid)
        {
            return Some(true);
        }
        let header = primary(disk, sector)?;
        let at = self.number.checked_sub(1).filter(|at| *at < header.count)?;
        let mut entry = [0; gpt::ENTRY];
        machine::read_at(disk, &mut entry, header.entries * sector + u64::from(at) * gpt::ENTRY as u64)
            .ok()?;
        let name = wanted.strip_prefix(b"PARTLABEL=");
        let entry = Entry(&entry);
        Some(uuid.is_some_and(|uuid| entry.has_uuid(uuid)) || name.is_some_and(|name| entry.has_name(name)))
    }
}

/// The first header of a disk's table, or where it is not whole the one at the disk's end.
pub(crate) fn primary(disk: i32, sector: u64) -> Option<Header> {
    let last = machine::device_size(disk).ok()?.checked_sub(sector)?;
    [sector, last].into_iter().find_map(|at| {
        let mut bytes = [0; gpt::HEADER];
        machine::read_at(disk, &mut bytes, at).ok()?;
        Header::read(&bytes).filter(|header| header.entries < 1 << 50)
    })
}
