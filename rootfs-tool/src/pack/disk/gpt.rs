//! The partition table: GPT of the UEFI specification (chapter 5), with its copy at the disk's end and the MBR that
//! keeps older tools away.

use std::io::SeekFrom;

use coracle_sys::{Context, Error, Result};
use flate2::Crc;

use crate::pack::Target;
use crate::pack::uuid::Uuid;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;
/// Entries of a table, and the bytes of each.
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// Sectors of a header and its entries.
const TABLE: u64 = 1 + (ENTRIES * ENTRY) as u64 / SECTOR;
/// Where the first table ends, with the MBR before it, in bytes. The copy takes one sector less at the disk's end.
const HEAD: u64 = (1 + TABLE) * SECTOR;
/// Bytes of the MBR that are for boot code.
const BOOT_CODE: u64 = 440;
/// The most characters of a name.
const NAME: usize = 36;

/// A partition.
pub(crate) struct Partition {
    pub(crate) name: &'static str,
    /// What it is for, as the Discoverable Partitions Specification has it.
    pub(crate) kind: Uuid,
    pub(crate) uuid: Uuid,
    /// Bytes: where it begins, and how many there are.
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) attributes: u64,
}

impl Partition {
    fn encode(&self) -> Vec<u8> {
        let mut out = [self.kind.guid(), self.uuid.guid()].concat();
        let (first, last) = (self.start / SECTOR, (self.start + self.size) / SECTOR - 1);
        for n in [first, last, self.attributes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for unit in self.name.encode_utf16().take(NAME) {
            out.extend_from_slice(&unit.to_le_bytes());
        }
        out.resize(ENTRY, 0);
        out
    }
}

/// Write both tables of a disk of so many bytes, and its MBR.
pub(crate) fn write(out: &mut dyn Target, size: u64, disk: Uuid, partitions: &[Partition]) -> Result<()> {
    let sectors = size / SECTOR;
    let mut entries: Vec<u8> = partitions.iter().flat_map(Partition::encode).collect();
    entries.resize(ENTRIES * ENTRY, 0);
    let mut put = |sector: u64, skip: u64, bytes: &[u8]| -> Result<()> {
        let at = sector * SECTOR + skip;
        out.seek(SeekFrom::Start(at)).context(|| format!("seek to {at}"))?;
        out.write_all(bytes).context(|| format!("write {} bytes at {at}", bytes.len()))
    };
    put(0, BOOT_CODE, &mbr(sectors))?;
    let (first, last) = (1, sectors - 1);
    for (at, other, table) in [(first, last, first + 1), (last, first, sectors - TABLE)] {
        put(table, 0, &entries)?;
        put(at, 0, &header(at, other, table, sectors, disk, sum(&entries)))?;
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn header(at: u64, other: u64, table: u64, sectors: u64, disk: Uuid, entries: u32) -> Vec<u8> {
    let mut out = b"EFI PART".to_vec();
    // Version 1.0, and the bytes that the sum covers; the sum itself is put in at the end.
    for n in [0x1_0000u32, 92, 0, 0] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for n in [at, other, 1 + TABLE, sectors - TABLE - 1] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&disk.guid());
    out.extend_from_slice(&table.to_le_bytes());
    for n in [ENTRIES as u32, ENTRY as u32, entries] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    let sum = sum(&out).to_le_bytes();
    out[16..20].copy_from_slice(&sum);
    out.resize(SECTOR as usize, 0);
    out
}

/// The MBR behind its boot code: one partition of the kind 0xee over the whole disk.
fn mbr(sectors: u64) -> Vec<u8> {
    let mut out = vec![0; 6];
    out.extend_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    out.resize((SECTOR - BOOT_CODE) as usize - 2, 0);
    out.extend_from_slice(&[0x55, 0xaa]);
    out
}

/// A blob's place has to be free: not in a table, and not where another one is.
pub(crate) fn check_place(
    place: std::ops::Range<u64>,
    others: &[(std::ops::Range<u64>, String)],
) -> Result<()> {
    let overlaps = |other: &std::ops::Range<u64>| place.start < other.end && other.start < place.end;
    if overlaps(&(BOOT_CODE..HEAD)) {
        return Err(Error::usage(format!(
            "bytes {} to {} of the disk hold its partition table, which ends at {HEAD}",
            BOOT_CODE,
            HEAD - 1
        )));
    }
    match others.iter().find(|(other, _)| overlaps(other)) {
        Some((_, name)) => Err(Error::usage(format!("it would overlap {name}"))),
        None => Ok(()),
    }
}
