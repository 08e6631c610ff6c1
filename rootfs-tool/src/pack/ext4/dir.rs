//! Directories: one block of entries, or many with an index of hashes over them, by which a name is found in one or
//! two steps.

use coracle_sys::{Error, Result, order};

use super::geometry::BLOCK;
use super::hash::half_md4;
use crate::pack::crc32c::crc32c;

/// The place of a checksum at the end of a block of entries: it looks like an entry without a name.
const TAIL: usize = 12;
/// Entries of an index in its root block, and in one below it. The first of them has no hash but the two numbers.
const IN_ROOT: usize = (BLOCK - 32 - 8) / 8;
const IN_NODE: usize = (BLOCK - 8 - 8) / 8;

/// One name of a directory.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// What is there: 1 a file, 2 a directory, 3 and 4 devices, 5 a fifo, 7 a link.
    pub(super) kind: u8,
}

/// Directories are sealed by who they are: the file system's seed, gone on with the inode's number and generation.
fn sum(seed: u32, inode: u32, bytes: &[u8]) -> u32 {
    crc32c(crc32c(crc32c(seed, &inode.to_le_bytes()), &[0; 4]), bytes)
}

fn size(name: &[u8]) -> usize {
    (8 + name.len()).next_multiple_of(4)
}

/// Sorted into blocks: how many there are, and what stands in which.
pub(super) struct Packed {
    /// By hash, with the place in the list; in the list's own order where one block is enough.
    order: Vec<(u32, u32, usize)>,
    /// Where in `order` each block of entries begins.
    starts: Vec<usize>,
}

impl Packed {
    /// Pack these names, `.` and `..` aside.
    pub(super) fn new<'a>(
        names: impl Iterator<Item = &'a [u8]> + Clone,
        hash_seed: &[u32; 4],
    ) -> Result<Self> {
        let all: usize = names.clone().map(size).sum();
        if all + 24 + TAIL <= BLOCK {
            return Ok(Self { order: (0..names.count()).map(|n| (0, 0, n)).collect(), starts: vec![0] });
        }
        let mut order: Vec<(u32, u32, usize)> = Vec::new();
        let mut sizes = Vec::new();
        for (n, name) in names.enumerate() {
            let (hash, minor) = half_md4(name, hash_seed);
            order.push((hash, minor, n));
            sizes.push(size(name));
        }
        order::sort(&mut order);
        let (mut starts, mut used) = (vec![0], 0);
        for (n, (_, _, at)) in order.iter().enumerate() {
            if used + sizes[*at] + TAIL > BLOCK {
                starts.push(n);
                used = 0;
            }
            used += sizes[*at];
        }
        if starts.len() > IN_ROOT * IN_NODE {
            return Err(Error::unsupported("it has more names than an index of two levels takes"));
        }
        Ok(Self { order, starts })
    }

    /// Has it an index?
    pub(super) fn indexed(&self) -> bool {
        self.starts.len() > 1
    }

    /// Blocks of the index below its root.
    fn nodes(&self) -> usize {
        if self.starts.len() > IN_ROOT { self.starts.len().div_ceil(IN_NODE) } else { 0 }
    }

    /// How many blocks it takes.
    pub(super) fn blocks(&self) -> usize {
        if self.indexed() { 1 + self.nodes() + self.starts.len() } else { 1 }
    }

    /// The blocks one after another, of a directory with this number in a parent with that.
    pub(super) fn encode(&self, entries: &[Entry], inode: u32, parent: u32, seed: u32) -> Vec<u8> {
        let dot = |name| Entry { name, inode: if name == b"." { inode } else { parent }, kind: 2 };
        let (dots, mut out) = ([dot(b"."), dot(b"..")], Vec::new());
        if !self.indexed() {
            let all: Vec<Entry> =
                dots.into_iter().chain(self.order.iter().map(|(_, _, n)| entries[*n])).collect();
            leaf(&mut out, &all, inode, seed);
            return out;
        }
        let nodes = self.nodes();
        let hashes: Vec<u32> = self.starts.iter().map(|start| self.mark(*start)).collect();
        let leaves = |from: usize, hashes: &[u32]| -> Vec<(u32, u32)> {
            hashes.iter().zip(from..).map(|(hash, n)| (*hash, (1 + nodes + n) as u32)).collect()
        };
        put(&mut out, &dots[0], 12);
        put(&mut out, &dots[1], BLOCK - 12);
        // Half MD4, eight bytes of this, levels below.
        out.extend_from_slice(&[0, 0, 0, 0, 1, 8, u8::from(nodes > 0), 0]);
        let below: Vec<(u32, u32)> = match nodes {
            0 => leaves(0, &hashes),
            _ => hashes.chunks(IN_NODE).zip(1..).map(|(chunk, n)| (chunk[0], n)).collect(),
        };
        index(&mut out, &below, IN_ROOT, inode, seed);
        if nodes > 0 {
            for (n, chunk) in hashes.chunks(IN_NODE).enumerate() {
                put(&mut out, &Entry { name: b"", inode: 0, kind: 0 }, BLOCK);
                index(&mut out, &leaves(n * IN_NODE, chunk), IN_NODE, inode, seed);
            }
        }
        for (n, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(n + 1).copied().unwrap_or(self.order.len());
            let all: Vec<Entry> = self.order[*start..end].iter().map(|(_, _, at)| entries[*at]).collect();
            leaf(&mut out, &all, inode, seed);
        }
        out
    }

    /// The least hash of the block that begins here, with the mark that the block before ends with the same.
    fn mark(&self, start: usize) -> u32 {
        let hash = self.order[start].0;
        hash | u32::from(start > 0 && self.order[start - 1].0 == hash)
    }
}

/// A block of entries, the last of which takes what is left.
pub(super) fn leaf(out: &mut Vec<u8>, entries: &[Entry], inode: u32, seed: u32) {
    let start = out.len();
    let mut left = BLOCK - TAIL;
    for (n, entry) in entries.iter().enumerate() {
        let length = if n + 1 == entries.len() { left } else { size(entry.name) };
        put(out, entry, length);
        out.resize(start + BLOCK - TAIL - left + length, 0);
        left -= length;
    }
    if entries.is_empty() {
        put(out, &Entry { name: b"", inode: 0, kind: 0 }, left);
        out.resize(start + left, 0);
    }
    let sum = sum(seed, inode, &out[start..]);
    out.extend_from_slice(&[0, 0, 0, 0, TAIL as u8, 0, 0, 0xde]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// An entry, without what pads it to its length.
fn put(out: &mut Vec<u8>, entry: &Entry, length: usize) {
    out.extend_from_slice(&entry.inode.to_le_bytes());
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.extend_from_slice(&[entry.name.len() as u8, entry.kind]);
    out.extend_from_slice(entry.name);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// An index from here to the end of the block: hashes, and the blocks that begin with them.
fn index(out: &mut Vec<u8>, entries: &[(u32, u32)], limit: usize, inode: u32, seed: u32) {
    let start = out.len() / BLOCK * BLOCK;
    let end = out.len() + limit * 8;
    for (n, (hash, block)) in entries.iter().enumerate() {
        let key = if n == 0 { limit as u32 | (entries.len() as u32) << 16 } else { *hash };
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&block.to_le_bytes());
    }
    // What is sealed is the entries, and the tail with no checksum yet.
    let sum = crc32c(sum(seed, inode, &out[start..]), &[0; 8]);
    out.resize(end + 4, 0);
    out.extend_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_however_many_names_there_are() {
        for many in [0, 1, 100, 300, 5_000, 90_000] {
            let names: Vec<Vec<u8>> =
                (0..many).map(|n| format!("name-of-a-file-{n:09}").into_bytes()).collect();
            let packed = Packed::new(names.iter().map(|n| &n[..]), &[1, 2, 3, 4]).expect("pack");
            let entries: Vec<Entry> = names.iter().map(|name| Entry { name, inode: 12, kind: 1 }).collect();
            let bytes = packed.encode(&entries, 2, 2, 7);
            assert_eq!(bytes.len(), packed.blocks() * BLOCK, "{many}");
            assert_eq!(packed.nodes() > 0, many == 90_000, "{many}");
        }
    }
}
