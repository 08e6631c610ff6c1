//! The data partition: mounted, and grown when there is room behind it: a disk that is written once is put into machines
//! of all sizes.

use core::ffi::CStr;

use super::disks::{self, Partition};
use super::fault::{Doing, Fault, OrFault, Result};
use super::gpt::{self, Entry, HEADER, Header};
use super::root::mount_device;
use crate::sys::machine::{self, Room};
use crate::sys::{self, Errno};
use crate::text::cut;

/// A partition that could grow by less stays as it is, in bytes.
const LEAST: u64 = 1 << 20;

/// Mount what `DEVICE:/PLACE` says.
pub(crate) fn mount(text: &'static CStr, wait: u32, room: &mut Room) -> Result<()> {
    let text = text.to_bytes();
    let parts = cut(text, b':').filter(|(_, place)| place.starts_with(b"/"));
    let (device, place) = parts.or_refusal(b"data", b"takes DEVICE:/PLACE")?;
    let place = room.keep(place).doing(b"mount", device)?;
    let found = disks::find(device, wait)?;
    let name = found.path.bytes().strip_prefix(b"/dev/").unwrap_or_default();
    if let Some(partition) = Partition::of(name)
        && let Err(errno) = grow(&partition, room)
    {
        // It is mounted as small as it is.
        Fault::new(b"grow", device, errno).warn();
    }
    let _ = machine::mkdir(place, 0o755);
    mount_device(&found, None, place, 0, c"").doing(b"mount", device)?;
    if found.kind == Some(c"ext4")
        && let Err(errno) = grow_ext4(found.path.c(), place)
    {
        Fault::new(b"grow the file system of", device, errno).warn();
    }
    Ok(())
}

type Outcome = core::result::Result<(), Errno>;

/// Let the last partition of a disk reach its end.
fn grow(partition: &Partition, room: &mut Room) -> Outcome {
    let disk = sys::open(partition.disk.c(), libc::O_RDWR)?;
    let grown = grow_on(disk, partition.number, room);
    sys::close(disk);
    grown
}

fn grow_on(disk: i32, number: u32, room: &mut Room) -> Outcome {
    let sector = u64::from(machine::sector_size(disk)?);
    let sectors = machine::device_size(disk)? / sector;
    // Any other table is left alone, and so is one whose first header is not whole.
    let mut bytes = [0; HEADER];
    machine::read_at(disk, &mut bytes, sector)?;
    let Some(mut header) = Header::read(&bytes).filter(|header| header.own == 1 && header.entries < 1 << 32)
    else {
        return Ok(());
    };
    let size = header.count as usize * gpt::ENTRY;
    let table = room.take(size)?;
    machine::read_at(disk, table, header.entries * sector)?;
    if !gpt::crc32(!0, table) != header.checksum {
        return Err(Errno(libc::EIO));
    }
    let reserved = (size as u64).div_ceil(sector) + 1;
    let Some(last_usable) = sectors.checked_sub(reserved + 1) else { return Ok(()) };
    let Some(first) = plan(table, number, last_usable, LEAST / sector) else { return Ok(()) };
    header.checksum = !gpt::crc32(!0, table);
    header.last_usable = last_usable;
    let (main, end) = (header.entries, sectors - 1);
    // The second one goes first: at every moment one of the two is whole. A table has no checksum of its own sector.
    for (own, other, entries) in [(end, 1, last_usable + 1), (1, end, main)] {
        header = Header { own, other, entries, ..header };
        header.write(&mut bytes);
        machine::write_at(disk, table, entries * sector)?;
        machine::write_at(disk, &bytes, own * sector)?;
        machine::fsync(disk)?;
    }
    let (_, last) = entry(table, number).map_or((0, 0), |entry| Entry(entry).sectors());
    machine::resize_partition(disk, number, first * sector, (last + 1 - first) * sector)
}

fn entry(table: &[u8], number: u32) -> Option<&[u8]> {
    table.chunks_exact(gpt::ENTRY).nth(number.checked_sub(1)? as usize)
}

/// Let the partition of this number end as late as it can, if it is the last and that is at least so many sectors later.
/// Its first sector then.
fn plan(table: &mut [u8], number: u32, last_usable: u64, least: u64) -> Option<u64> {
    let (first, last) = Entry(entry(table, number)?).sectors();
    let others = table.chunks_exact(gpt::ENTRY).filter(|entry| Entry(entry).is_used());
    if others.map(|entry| Entry(entry).sectors().1).any(|other| other > last) {
        return None;
    }
    // Ends are where the next could begin: at a multiple of a mebibyte.
    let end = (last_usable + 1) / least * least;
    let new = end.checked_sub(1).filter(|new| *new >= last + least)?;
    gpt::set_last(table.chunks_exact_mut(gpt::ENTRY).nth(number as usize - 1)?, new);
    Some(first)
}

/// Let a mounted ext4 fill its device.
fn grow_ext4(device: &CStr, place: &CStr) -> Outcome {
    let mut superblock = [0; 1024];
    let fd = sys::open(device, libc::O_RDONLY)?;
    let read = machine::read_at(fd, &mut superblock, 1024);
    let size = machine::device_size(fd);
    sys::close(fd);
    read?;
    // s_blocks_count in two halves, s_log_block_size.
    let word =
        |at: usize| superblock.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let blocks = u64::from(word(4)) | u64::from(word(0x150)) << 32;
    let wanted = size? >> (10 + word(24).min(16));
    if wanted <= blocks {
        return Ok(());
    }
    let mount = sys::open(place, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let resized = machine::resize_ext4(mount, wanted);
    sys::close(mount);
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(partitions: &[(u64, u64)]) -> Vec<u8> {
        let mut table = vec![0; 4 * gpt::ENTRY];
        for (entry, (first, last)) in table.chunks_exact_mut(gpt::ENTRY).zip(partitions) {
            entry[0] = 1;
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            gpt::set_last(entry, *last);
        }
        table
    }

    #[test]
    fn the_last_partition_grows_to_a_whole_mebibyte() {
        let mut table = table(&[(2048, 4095), (4096, 6143)]);
        assert_eq!(plan(&mut table, 2, 20_446, 2048), Some(4096));
        assert_eq!(Entry(entry(&table, 2).unwrap()).sectors(), (4096, 18_431));
        // Once is enough.
        assert_eq!(plan(&mut table, 2, 20_446, 2048), None);
    }

    #[test]
    fn one_that_is_not_the_last_or_has_no_room_stays() {
        for (number, last_usable) in [(1, 20_446), (2, 8190), (2, 6143), (2, 100), (0, 20_446), (5, 20_446)] {
            let before = table(&[(2048, 4095), (4096, 6143)]);
            let mut after = before.clone();
            assert_eq!(plan(&mut after, number, last_usable, 2048), None);
            assert_eq!(after, before);
        }
    }
}
