//! Directories: names in runs that share a metadata block of inodes, and an index of one name for each 8 KiB of them.

use super::metadata::{BLOCK, Metadata};
use coracle_sys::Result;

/// Names of one run.
const RUN: usize = 256;

/// One name, and its inode.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// As [`Metadata::locate`] tells it.
    pub(super) inode: (u32, u16),
    /// The inode's number.
    pub(super) number: u32,
    /// The inode's type, of those that are not extended.
    pub(super) kind: u16,
}

/// A directory's names, and what leads into their midst.
pub(super) struct Listing {
    /// Where they begin in the table of directories.
    pub(super) at: (u32, u16),
    /// How many bytes they have.
    pub(super) size: usize,
    /// The index, encoded, and how many entries it has.
    pub(super) index: Vec<u8>,
    pub(super) count: u16,
}

/// Write the names of a directory, which are sorted bytewise, to the table of directories.
pub(super) fn write(entries: &[Entry<'_>], table: &mut Metadata) -> Result<Listing> {
    let begin = table.len();
    let mut out: Vec<u8> = Vec::new();
    // Where an index's entry leads, and the name there.
    let mut marks: Vec<(usize, &[u8])> = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let marked = marks.last().map_or(0, |(at, _)| *at);
        let mut bytes = out.len() + 12;
        let fits = |e: &&Entry<'_>| {
            let near = i16::try_from(i64::from(e.number) - i64::from(first.number)).is_ok();
            bytes += 8 + e.name.len();
            near && e.inode.0 == first.inode.0 && bytes - marked <= BLOCK
        };
        let count = rest.iter().take(RUN).take_while(fits).count();
        if count == 0 {
            marks.push((out.len(), first.name));
            continue;
        }
        for field in [count as u32 - 1, first.inode.0, first.number] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let (run, after) = rest.split_at(count);
        for e in run {
            let delta = e.number.wrapping_sub(first.number) as u16;
            for field in [e.inode.1, delta, e.kind, e.name.len() as u16 - 1] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(e.name);
        }
        rest = after;
    }
    // Two bytes count them.
    marks.truncate(usize::from(u16::MAX));
    table.write(&out)?;
    let mut index = Vec::new();
    for (at, name) in &marks {
        for field in [*at as u32, table.locate(begin + at).0, name.len() as u32 - 1] {
            index.extend_from_slice(&field.to_le_bytes());
        }
        index.extend_from_slice(name);
    }
    Ok(Listing { at: table.locate(begin), size: out.len(), index, count: marks.len() as u16 })
}
