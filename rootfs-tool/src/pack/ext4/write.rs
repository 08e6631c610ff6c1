//! The writing, once every place is known: what files hold first, since the identifier is derived of it, then the
//! tables, which are sealed with the identifier.

use std::io::{Read, SeekFrom};

use coracle_store::digest::Digest;
use coracle_store::layer::pack::Meta;
use coracle_sys::{Context, Error, Result, interrupt};
use flate2::Crc;

use super::dir::{self, Entry, Packed};
use super::extents;
use super::geometry::{BLOCK, DESCRIPTOR, FLEX, GROUP, Geometry, INODE};
use super::inode::{EXTENTS, INDEX, Inode, MOST_LINKS, device};
use super::place::{LOST_FOUND, Place, SHORT, is_zero};
use super::superblock::{FIRST_INODE, Group, JOURNAL, Superblock, bitmap};
use super::xattr::{self, Attributes};
use super::{How, Layout, journal};
use crate::pack::Target;
use crate::pack::crc32c::crc32c;
use crate::pack::tree::{Data, Kind, Node, Tree};
use crate::pack::uuid::{Identity, Uuid};

/// Bytes that are read at once, and written where not all of them are zero.
const CHUNK: usize = 64 * BLOCK;

/// A file system that is being written.
pub(super) struct Writer<'a> {
    pub(super) tree: &'a Tree,
    pub(super) how: &'a How,
    pub(super) layout: &'a Layout,
    pub(super) hash_seed: [u32; 4],
    pub(super) out: &'a mut dyn Target,
    /// Up to where something was written.
    pub(super) end: u64,
}

impl Writer<'_> {
    /// Write all of it. `names` is the digest of the tree without what its files hold.
    pub(super) fn write(&mut self, names: &Digest) -> Result<()> {
        let mut identity = Identity::new("ext4 content");
        identity.add(names.bytes());
        for (n, node) in self.tree.nodes.iter().enumerate() {
            if let Kind::File(data) = &node.kind {
                let sum = self
                    .data(data, &self.layout.places.nodes[n])
                    .context(|| format!("copy {:?}", String::from_utf8_lossy(&self.tree.path(n))))?;
                identity.number(sum.into());
            }
        }
        let uuid = self.how.uuid.unwrap_or(Uuid::of(&identity.digest()));
        let seed = crc32c(!0, &uuid.0);
        let (journal, directories) = self.inodes(uuid, seed)?;
        self.groups(uuid, seed, journal, &directories)?;
        // Only now is the file as long as the file system.
        let size = self.how.size.unwrap_or(self.layout.geometry.blocks * BLOCK as u64);
        if self.end < size {
            self.put(size - 1, &[0])?;
        }
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.out.seek(SeekFrom::Start(at)).context(|| format!("seek to {at}"))?;
        self.out.write_all(bytes).context(|| format!("write {} bytes at {at}", bytes.len()))?;
        self.end = self.end.max(at + bytes.len() as u64);
        Ok(())
    }

    fn put_block(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        self.put(block * BLOCK as u64, bytes)
    }

    /// What a file holds, and the sum of it. Blocks that are zero stay holes in what is written.
    fn data(&mut self, data: &Data, place: &Place) -> Result<u32> {
        let (mut from, mut crc) = (data.open()?, Crc::new());
        let (mut at, mut buffer) = (0, vec![0; CHUNK.min(data.size() as usize)]);
        for extent in &place.extents {
            let start = extent.logical * BLOCK as u64;
            hole(&mut *from, &mut buffer, start - at, &mut crc)?;
            at = start;
            let end = data.size().min(start + extent.blocks * BLOCK as u64);
            while at < end {
                interrupt::check()?;
                let size = (end - at).min(CHUNK as u64) as usize;
                from.read_exact(&mut buffer[..size]).context(|| "read it")?;
                crc.update(&buffer[..size]);
                self.sparsely(extent.physical * BLOCK as u64 + at - start, &buffer[..size])?;
                at += size as u64;
            }
        }
        hole(&mut *from, &mut buffer, data.size() - at, &mut crc)?;
        // One byte more is an error.
        from.read(&mut [0]).context(|| "read it")?;
        Ok(crc.sum())
    }

    fn sparsely(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let (mut from, mut to) = (0, 0);
        for block in bytes.chunks(BLOCK) {
            if is_zero(block) {
                if to > from {
                    self.put(at + from as u64, &bytes[from..to])?;
                }
                from = to + block.len();
            }
            to += block.len();
        }
        if to > from { self.put(at + from as u64, &bytes[from..to]) } else { Ok(()) }
    }

    /// Inodes with all that they tell of. Gives the journal's extents, and the number of directories of each group.
    fn inodes(&mut self, uuid: Uuid, seed: u32) -> Result<([u8; 60], Vec<u32>)> {
        let (layout, mut table) = (self.layout, Vec::new());
        let mut directories = vec![0; layout.geometry.groups as usize];
        let mut journal = [0; 60];
        for number in 1..=layout.numbers.last() as u32 {
            let root = if number == 2 { Some(0) } else { None };
            let first = layout.numbers.of(1);
            let node = root.or_else(|| number.checked_sub(first).map(|n| n as usize + 1));
            let bytes = match (number, node) {
                (_, Some(node)) => self.node(node, seed)?,
                (7, _) => self.kept(seed)?,
                (JOURNAL, _) => {
                    let bytes = self.journal(uuid, seed)?;
                    journal.copy_from_slice(&bytes[0x28..0x64]);
                    bytes
                }
                (FIRST_INODE, _) => self.lost_found(seed)?,
                _ => [0; INODE],
            };
            let is_dir =
                node.map_or(number == FIRST_INODE, |n| matches!(self.tree.nodes[n].kind, Kind::Dir(_)));
            directories[((number - 1) / layout.geometry.inodes_per_group) as usize] += u32::from(is_dir);
            table.extend_from_slice(&bytes);
            let last_of_group = number.is_multiple_of(layout.geometry.inodes_per_group);
            if table.len() == CHUNK || last_of_group || u64::from(number) == layout.numbers.last() {
                let end = layout.geometry.inode_at(number) + INODE as u64;
                self.put(end - table.len() as u64, &table)?;
                table.clear();
            }
        }
        Ok((journal, directories))
    }

    fn node(&mut self, n: usize, seed: u32) -> Result<[u8; INODE]> {
        let (tree, layout) = (self.tree, self.layout);
        let (node, place, number) = (&tree.nodes[n], &layout.places.nodes[n], layout.numbers.of(n));
        let attributes = Attributes::of(&node.meta.xattrs)?;
        if let Some(mut block) = attributes.block {
            xattr::seal(&mut block, place.xattr_block, seed);
            self.put_block(place.xattr_block, &block)?;
        }
        let mut inode = Inode {
            meta: &node.meta,
            kind: node.kind.numbers().0,
            links: node.links,
            size: 0,
            sectors: place.blocks() * (BLOCK as u64 / 512),
            flags: 0,
            block: [0; 60],
            xattrs: &attributes.in_inode,
            xattr_block: place.xattr_block,
        };
        match &node.kind {
            Kind::Dir(_) => {
                let (content, indexed) = self.directory(n, node, seed)?;
                inode.size = content.len() as u64;
                inode.links += u32::from(n == 0 && layout.numbers.lost_found);
                inode.links = if inode.links > MOST_LINKS { 1 } else { inode.links };
                inode.flags = if indexed { INDEX | EXTENTS } else { EXTENTS };
                self.content(place, &content)?;
            }
            Kind::File(data) => (inode.size, inode.flags) = (data.size(), EXTENTS),
            Kind::Symlink(target) => {
                inode.size = target.len() as u64;
                if target.len() <= SHORT {
                    inode.block[..target.len()].copy_from_slice(target);
                } else {
                    inode.flags = EXTENTS;
                    self.content(place, target)?;
                }
            }
            Kind::Char(major, minor) | Kind::Block(major, minor) => inode.block = device(*major, *minor),
            Kind::Fifo => {}
        }
        if inode.flags & EXTENTS != 0 {
            inode.block = self.extents(place, number, seed)?;
        }
        Ok(inode.encode(number, seed))
    }

    fn directory(&self, n: usize, node: &Node, seed: u32) -> Result<(Vec<u8>, bool)> {
        let numbers = self.layout.numbers;
        let Kind::Dir(names) = &node.kind else { return Ok((Vec::new(), false)) };
        let of = |(name, at): &'_ (Vec<u8>, usize)| {
            (name.clone(), numbers.of(*at), self.tree.nodes[*at].kind.numbers().1)
        };
        let mut all: Vec<(Vec<u8>, u32, u8)> = names.iter().map(of).collect();
        if n == 0 && numbers.lost_found {
            all.push((super::LOST_FOUND.to_vec(), FIRST_INODE, 2));
        }
        let entries: Vec<Entry> =
            all.iter().map(|(name, inode, kind)| Entry { name, inode: *inode, kind: *kind }).collect();
        let packed = Packed::new(entries.iter().map(|entry| entry.name), &self.hash_seed)?;
        let content = packed.encode(&entries, numbers.of(n), numbers.of(node.parent), seed);
        Ok((content, packed.indexed()))
    }

    /// Write what a file consists of to its blocks.
    fn content(&mut self, place: &Place, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        for extent in &place.extents {
            let (now, later) = rest.split_at(rest.len().min(extent.blocks as usize * BLOCK));
            self.put_block(extent.physical, now)?;
            rest = later;
        }
        Ok(())
    }

    fn extents(&mut self, place: &Place, number: u32, seed: u32) -> Result<[u8; 60]> {
        let (root, blocks) = extents::tree(&place.extents, &place.tree, number, seed);
        for (at, block) in place.tree.iter().zip(blocks) {
            self.put_block(*at, &block)?;
        }
        Ok(root)
    }

    fn lost_found(&mut self, seed: u32) -> Result<[u8; INODE]> {
        let mut content = Vec::new();
        let dot = |name, inode| Entry { name, inode, kind: 2 };
        dir::leaf(&mut content, &[dot(b".", FIRST_INODE), dot(b"..", 2)], FIRST_INODE, seed);
        for _ in 1..LOST_FOUND {
            dir::leaf(&mut content, &[], FIRST_INODE, seed);
        }
        let place = &self.layout.places.lost_found;
        self.content(place, &content)?;
        let block = self.extents(place, FIRST_INODE, seed)?;
        let own = (0o40000, 0o700, 2, content.len() as u64, place.blocks(), EXTENTS);
        Ok(self.own(FIRST_INODE, own, block, seed))
    }

    fn journal(&mut self, uuid: Uuid, seed: u32) -> Result<[u8; INODE]> {
        let place = &self.layout.places.journal;
        let blocks: u64 = place.extents.iter().map(|extent| extent.blocks).sum();
        self.put_block(place.extents[0].physical, &journal::superblock(blocks, uuid))?;
        let block = self.extents(place, JOURNAL, seed)?;
        let own = (0o100_000, 0o600, 1, blocks * BLOCK as u64, place.blocks(), EXTENTS);
        Ok(self.own(JOURNAL, own, block, seed))
    }

    /// The inode of the blocks that are kept for descriptors.
    fn kept(&mut self, seed: u32) -> Result<[u8; INODE]> {
        let (addresses, kept) = journal::kept(&self.layout.geometry);
        let mut blocks = 1;
        for (at, copies) in kept {
            blocks += 1 + copies.len() as u64 / 4;
            if !copies.is_empty() {
                self.put_block(at, &copies)?;
            }
        }
        let resize = self.layout.places.resize;
        self.put_block(resize, &addresses)?;
        let mut block = [0; 60];
        block[52..56].copy_from_slice(&(resize as u32).to_le_bytes());
        Ok(self.own(7, (0o100_000, 0o600, 1, journal::RESIZE_SIZE, blocks, 0), block, seed))
    }

    /// An inode that the tree has nothing of: kind, mode, links, size, blocks, flags.
    fn own(
        &self,
        number: u32,
        own: (u32, u32, u32, u64, u64, u32),
        block: [u8; 60],
        seed: u32,
    ) -> [u8; INODE] {
        let (kind, mode, links, size, blocks, flags) = own;
        let mut meta = Meta::new(mode);
        meta.mtime.0 = self.how.time as i64;
        let sectors = blocks * (BLOCK as u64 / 512);
        Inode { meta: &meta, kind, links, size, sectors, flags, block, xattrs: &[], xattr_block: 0 }
            .encode(number, seed)
    }

    /// Bitmaps, descriptors and superblocks, with their copies.
    fn groups(&mut self, uuid: Uuid, seed: u32, journal: [u8; 60], directories: &[u32]) -> Result<()> {
        let (layout, geometry) = (self.layout, &self.layout.geometry);
        let (mut free_blocks, mut descriptors) =
            (0, Vec::with_capacity(geometry.groups as usize * DESCRIPTOR));
        for (group, directories) in (0..geometry.groups).zip(directories) {
            let (size, reserved) = (geometry.size(group), geometry.reserved(group));
            let data = layout.places.end.saturating_sub(u64::from(group) * GROUP).min(size);
            let used = data.max(reserved);
            // What a group has of its own at its beginning is known without a bitmap.
            let plain = data == 0 && !group.is_multiple_of(FLEX) && group + 1 < geometry.groups;
            let before = u64::from(group) * u64::from(geometry.inodes_per_group);
            let inodes = layout.numbers.last().saturating_sub(before).min(geometry.inodes_per_group.into());
            let unused = geometry.inodes_per_group - inodes as u32;
            let described = Group {
                free_blocks: size - used,
                free_inodes: unused,
                directories: *directories,
                unused_inodes: unused,
                block_bitmap: (!plain).then(|| bitmap(used, size)),
                inode_bitmap: (inodes > 0).then(|| bitmap(inodes, geometry.inodes_per_group.into())),
            };
            let [blocks_at, inodes_at, _] = geometry.tables(group);
            for (at, bitmap) in [(blocks_at, &described.block_bitmap), (inodes_at, &described.inode_bitmap)] {
                if let Some(bitmap) = bitmap {
                    self.put_block(at, bitmap)?;
                }
            }
            descriptors.extend_from_slice(&described.encode(geometry, group, seed));
            free_blocks += size - used;
        }
        let superblock = Superblock {
            uuid,
            label: &self.how.label,
            hash_seed: self.hash_seed,
            time: self.how.time,
            free_blocks,
            free_inodes: geometry.inodes() - layout.numbers.last(),
            journal,
            journal_size: layout.places.journal.extents.iter().map(|e| e.blocks).sum::<u64>() * BLOCK as u64,
        };
        for group in (0..geometry.groups).filter(|group| Geometry::has_super(*group)) {
            let at = u64::from(group) * GROUP * BLOCK as u64;
            // The first 1,024 bytes of the disk are the boot loader's.
            self.put(at + if group == 0 { 1024 } else { 0 }, &superblock.encode(geometry, group))?;
            self.put(at + BLOCK as u64, &descriptors)?;
        }
        Ok(())
    }
}

/// Read past what was a hole when the file was looked through.
fn hole(from: &mut dyn Read, buffer: &mut [u8], size: u64, crc: &mut Crc) -> Result<()> {
    let mut left = size;
    while left > 0 {
        let now = left.min(buffer.len() as u64) as usize;
        from.read_exact(&mut buffer[..now]).context(|| "read it")?;
        if !is_zero(&buffer[..now]) {
            return Err(Error::invalid("it has been changed meanwhile"));
        }
        crc.update(&buffer[..now]);
        left -= now as u64;
    }
    Ok(())
}
