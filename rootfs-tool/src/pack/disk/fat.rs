//! A FAT32 file system of a few files, as firmware reads it (the UEFI specification, 13.3; Microsoft's "FAT: General
//! Overview of On-Disk Format"). It is written once and in one go: every file is in one piece.

use std::collections::BTreeMap;
use std::io::SeekFrom;

use coracle_sys::{Context, Error, Result};

use super::gpt::SECTOR;
use crate::pack::Target;

/// Sectors before the first table.
const RESERVED: u64 = 32;
/// With fewer clusters it would be FAT16, whatever it says of itself.
const LEAST: u64 = 65_525;
/// The end of a chain.
const END: u32 = 0x0fff_ffff;
const ENTRY: usize = 32;
const DIRECTORY: u8 = 0x10;

/// How the file system is to be.
pub(crate) struct How {
    /// Bytes, 34 MiB or more.
    pub(crate) size: u64,
    /// Bytes of the disk before it.
    pub(crate) before: u64,
    pub(crate) serial: u32,
    /// Seconds after 1970.
    pub(crate) time: u64,
}

/// Its sizes, and what is in use.
struct Fat {
    cluster: u64,
    table: u64,
    clusters: u64,
    chains: Vec<u32>,
}

impl Fat {
    fn new(size: u64) -> Self {
        let sectors = size / SECTOR;
        let of = |cluster: u64| {
            let table = (((sectors - RESERVED) / cluster + 2) * 4).div_ceil(SECTOR);
            (cluster, table, (sectors - RESERVED - 2 * table) / cluster)
        };
        let fits = |(_, _, clusters): &(u64, u64, u64)| *clusters >= LEAST + 64;
        let (cluster, table, clusters) = [8, 4, 2].into_iter().map(of).find(fits).unwrap_or(of(1));
        Self { cluster, table, clusters, chains: vec![0x0fff_fff8, END] }
    }

    fn cluster_bytes(&self) -> u64 {
        self.cluster * SECTOR
    }

    /// Clusters for so many bytes: the first one's number, 0 where there are none.
    fn take(&mut self, bytes: u64) -> Result<u32> {
        let first = self.chains.len() as u32;
        let count = bytes.div_ceil(self.cluster_bytes()) as u32;
        if u64::from(first + count) > self.clusters + 2 {
            return Err(Error::invalid("the boot partition is too small for what is to be in it"));
        }
        self.chains.extend((1..=count).map(|n| if n == count { END } else { first + n }));
        Ok(if count == 0 { 0 } else { first })
    }

    /// The byte where a cluster begins.
    fn place(&self, cluster: u32) -> u64 {
        (RESERVED + 2 * self.table + (u64::from(cluster) - 2) * self.cluster) * SECTOR
    }
}

/// What is in a directory: names, with what they lead to.
#[derive(Default)]
struct Directory {
    names: Vec<String>,
    cluster: u32,
}

/// Write these files, by their paths; directories are made as the paths have them.
pub(crate) fn write(files: &[(String, &[u8])], how: &How, out: &mut dyn Target) -> Result<()> {
    let mut fat = Fat::new(how.size);
    let mut directories: BTreeMap<&str, Directory> = BTreeMap::new();
    directories.insert("", Directory::default());
    for (path, _) in files {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let (dir, name) = path[..end].rsplit_once('/').unwrap_or(("", &path[..end]));
            let dir = directories.entry(dir).or_default();
            if !dir.names.iter().any(|known| known == name) {
                dir.names.push(name.to_owned());
            }
        }
    }
    // The root's first cluster is number 2, and it comes first.
    for (path, dir) in &mut directories {
        let more = if path.is_empty() { 1 } else { 2 };
        let entries: usize = dir.names.iter().map(|name| 1 + long_entries(name)).sum();
        dir.cluster = fat.take(((entries + more) * ENTRY) as u64)?;
    }
    let mut places = BTreeMap::new();
    for (path, bytes) in files {
        let size = u32::try_from(bytes.len());
        let size =
            size.map_err(|_| Error::unsupported(format!("{path} has 4 GiB or more, which FAT cannot hold")))?;
        let cluster = fat.take(size.into())?;
        places.insert(&path[..], (cluster, size));
        put(out, fat.place(cluster.max(2)), bytes)?;
    }
    let stamp = stamp(how.time);
    for (path, dir) in &directories {
        let mut content = Vec::new();
        match path.rsplit_once('/').map(|(above, _)| above).or((!path.is_empty()).then_some("")) {
            None => entry(&mut content, b"ESP        ", 0x08, 0, 0, stamp),
            Some(above) => {
                // The root is told as 0 here.
                let above = if above.is_empty() { 0 } else { directories[above].cluster };
                entry(&mut content, b".          ", DIRECTORY, dir.cluster, 0, stamp);
                entry(&mut content, b"..         ", DIRECTORY, above, 0, stamp);
            }
        }
        for (n, name) in dir.names.iter().enumerate() {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let short = short(name, n + 1);
            long(&mut content, name, &short);
            match (places.get(&below[..]), directories.get(&below[..])) {
                (Some((cluster, size)), _) => entry(&mut content, &short, 0x20, *cluster, *size, stamp),
                (None, Some(dir)) => entry(&mut content, &short, DIRECTORY, dir.cluster, 0, stamp),
                (None, None) => {}
            }
        }
        put(out, fat.place(dir.cluster), &content)?;
    }
    tables(&fat, how, out)
}

fn put(out: &mut dyn Target, at: u64, bytes: &[u8]) -> Result<()> {
    out.seek(SeekFrom::Start(at)).context(|| format!("seek to {at}"))?;
    out.write_all(bytes).context(|| format!("write {} bytes at {at}", bytes.len()))
}

/// The boot sector with its copy, the count of what is free, and both tables.
fn tables(fat: &Fat, how: &How, out: &mut dyn Target) -> Result<()> {
    let mut boot = [0; SECTOR as usize];
    let mut set = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    let word = |n: u64| (n as u32).to_le_bytes();
    // A jump past the fields, and who made it.
    set(0, b"\xeb\x58\x90CORACLE ");
    set(11, &[0, 2, fat.cluster as u8, RESERVED as u8, 0, 2]);
    // A fixed disk, with what passes for a geometry.
    set(21, &[0xf8, 0, 0, 63, 0, 255, 0]);
    set(28, &word(how.before / SECTOR));
    set(32, &word(how.size / SECTOR));
    set(36, &word(fat.table));
    set(44, &word(2));
    // The sectors of the counts and of the copy.
    set(48, &[1, 0, 6, 0]);
    set(64, &[0x80, 0, 0x29]);
    set(67, &how.serial.to_le_bytes());
    set(71, b"ESP        FAT32   ");
    set(510, &[0x55, 0xaa]);
    let mut info = [0; SECTOR as usize];
    let mut set = |at: usize, n: u64| info[at..at + 4].copy_from_slice(&word(n));
    set(0, 0x4161_5252);
    set(484, 0x6141_7272);
    set(488, fat.clusters + 2 - fat.chains.len() as u64);
    set(492, fat.chains.len() as u64);
    set(508, 0xaa55_0000);
    let chains: Vec<u8> = fat.chains.iter().flat_map(|n| n.to_le_bytes()).collect();
    for at in [0, 6] {
        put(out, at * SECTOR, &boot)?;
        put(out, (at + 1) * SECTOR, &info)?;
    }
    for at in [RESERVED, RESERVED + fat.table] {
        put(out, at * SECTOR, &chains)?;
    }
    Ok(())
}

/// A directory's entry.
fn entry(out: &mut Vec<u8>, name: &[u8; 11], attributes: u8, cluster: u32, size: u32, stamp: [u8; 4]) {
    out.extend_from_slice(name);
    // Made, opened, changed: all at one time; the time of opening is a date alone.
    out.extend_from_slice(&[attributes, 0, 0]);
    out.extend_from_slice(&stamp);
    out.extend_from_slice(&stamp[2..]);
    out.extend_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    out.extend_from_slice(&stamp);
    out.extend_from_slice(&(cluster as u16).to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
}

/// A name in eight and three characters where it is one already; otherwise one that only this entry of its directory has.
fn short(name: &str, n: usize) -> [u8; 11] {
    let plain = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let upper = |text: &str, most: usize| -> Vec<u8> {
        text.to_uppercase().chars().filter(plain).take(most).map(|c| c as u8).collect()
    };
    let mut out = [b' '; 11];
    let tail = format!("~{n}");
    let mut first = upper(stem, 8);
    if is_long(name) {
        first.truncate(8 - tail.len());
        first.extend_from_slice(tail.as_bytes());
    }
    let second = upper(end, 3);
    out[..first.len()].copy_from_slice(&first);
    out[8..8 + second.len()].copy_from_slice(&second);
    out
}

/// Does a name need entries of its own?
fn is_long(name: &str) -> bool {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |text: &str, most: usize| {
        let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        text.len() <= most && text.chars().all(known)
    };
    stem.is_empty() || !plain(stem, 8) || !plain(end, 3)
}

fn long_entries(name: &str) -> usize {
    if is_long(name) { name.encode_utf16().count().div_ceil(13) } else { 0 }
}

/// The entries of a long name, the last part first.
fn long(out: &mut Vec<u8>, name: &str, short: &[u8; 11]) {
    let count = long_entries(name);
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    // A NUL ends the name where its last part is not full; what is behind it is all ones.
    let mut units: Vec<u16> = name.encode_utf16().chain([0]).collect();
    units.resize(count * 13 + 1, 0xffff);
    for n in (0..count).rev() {
        let part: Vec<u8> = units[n * 13..n * 13 + 13].iter().flat_map(|unit| unit.to_le_bytes()).collect();
        out.push((n + 1) as u8 | if n + 1 == count { 0x40 } else { 0 });
        out.extend_from_slice(&part[..10]);
        out.extend_from_slice(&[0x0f, 0, sum]);
        out.extend_from_slice(&part[10..22]);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&part[22..]);
    }
}

/// Time and date of a moment, from 1980 to 2107.
fn stamp(time: u64) -> [u8; 4] {
    const YEAR_1980: u64 = 315_532_800;
    const LAST: u64 = 4_354_819_198;
    let text = coracle_sys::time::rfc3339(time.clamp(YEAR_1980, LAST) as i64);
    let n =
        |at: std::ops::Range<usize>| text.get(at).and_then(|digits| digits.parse::<u16>().ok()).unwrap_or(0);
    let time = n(11..13) << 11 | n(14..16) << 5 | (n(17..19) / 2);
    let date = (n(0..4) - 1980) << 9 | n(5..7) << 5 | n(8..10);
    let ([a, b], [c, d]) = (time.to_le_bytes(), date.to_le_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_where_they_can_be_and_long_where_not() {
        for (name, alias, entries) in [
            ("EFI", b"EFI        ", 0),
            ("BOOTX64.EFI", b"BOOTX64 EFI", 0),
            ("vmlinuz", b"VMLINU~7   ", 1),
            ("extlinux.conf", b"EXTLIN~7CON", 1),
            ("a+name.of.more-than-26-characters.dtb", b"ANAMEO~7DTB", 3),
            (".x", b"~7      X  ", 1),
        ] {
            assert_eq!(&short(name, 7), alias, "{name}");
            let mut out = Vec::new();
            long(&mut out, name, alias);
            assert_eq!(out.len(), entries * ENTRY, "{name}");
        }
    }

    #[test]
    fn moments_are_told_within_what_fat_can_hold() {
        assert_eq!(stamp(0), [0, 0, 0x21, 0]);
        // 2023-11-14 22:13:20
        assert_eq!(stamp(1_700_000_000), [0xaa, 0xb1, 0x6e, 0x57]);
        assert_eq!(stamp(u64::MAX)[3], 0xff);
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let how = How { size: 34 << 20, before: 0, serial: 1, time: 0 };
        let large = vec![1; 35 << 20];
        let mut out = std::io::Cursor::new(Vec::new());
        assert!(write(&[("A".to_owned(), &large)], &how, &mut out).is_err());
    }
}
