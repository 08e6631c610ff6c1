//! What every node of a tree needs, and where it goes: one after another, from the beginning of the disk. So all that
//! is in use lies before one place, and no list of free blocks is needed.

use std::io::Read;

use coracle_sys::{Context, Error, Result};

use super::dir::Packed;
use super::extents::{self, Extent};
use super::geometry::{BLOCK, GROUP, Geometry, MOST_BLOCKS};
use super::inode::{MOST_LINKS, TIMES};
use super::xattr::Attributes;
use crate::pack::tree::{Data, Kind, Node, Tree};

/// Files from this size on are looked through for holes before they have their places.
const LOOK_THROUGH: u64 = 1 << 20;
/// Links up to this length stand in the inode.
pub(super) const SHORT: usize = 59;
/// Blocks of lost+found: e2fsck has no room to make any when it needs the folder.
pub(super) const LOST_FOUND: u64 = 4;

/// What a node needs outside the inode.
#[derive(Default)]
pub(super) struct Need {
    /// Its blocks by their numbers in the file: where each run begins, and how long it is.
    runs: Vec<(u64, u64)>,
    xattr_block: bool,
}

/// Where it is.
#[derive(Default)]
pub(super) struct Place {
    pub(super) extents: Vec<Extent>,
    /// Blocks of the extent tree.
    pub(super) tree: Vec<u64>,
    pub(super) xattr_block: u64,
}

impl Place {
    /// Blocks that it takes in all.
    pub(super) fn blocks(&self) -> u64 {
        let data: u64 = self.extents.iter().map(|extent| extent.blocks).sum();
        data + self.tree.len() as u64 + u64::from(self.xattr_block > 0)
    }
}

/// Where everything is.
pub(super) struct Places {
    /// By the tree's numbers.
    pub(super) nodes: Vec<Place>,
    pub(super) journal: Place,
    pub(super) lost_found: Place,
    /// The block that tells of those kept for descriptors.
    pub(super) resize: u64,
    /// Whatever is before this block is in use.
    pub(super) end: u64,
}

/// What each node needs. What ext4 cannot hold is refused here, by its path.
pub(super) fn needs(tree: &Tree, hash_seed: &[u32; 4], lost_found: bool) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    for (n, node) in tree.nodes.iter().enumerate() {
        let more: &[&[u8]] = if n == 0 && lost_found { &[super::LOST_FOUND] } else { &[] };
        needs
            .push(need(node, hash_seed, more).map_err(|e| {
                e.wrap(format!("put {:?} into ext4", String::from_utf8_lossy(&tree.path(n))))
            })?);
    }
    Ok(needs)
}

/// What one node needs; a directory with names besides those that the tree has.
fn need(node: &Node, hash_seed: &[u32; 4], more: &[&[u8]]) -> Result<Need> {
    let (seconds, _) = node.meta.mtime;
    if !TIMES.contains(&seconds) {
        return Err(Error::unsupported(format!(
            "its time, {seconds} s after 1970, is not within 1901 to 2446"
        )));
    }
    let count = |n: usize| vec![(0, n as u64)];
    let runs = match &node.kind {
        Kind::Dir(entries) => {
            let names = entries.iter().map(|(name, _)| &name[..]).chain(more.iter().copied());
            count(Packed::new(names, hash_seed)?.blocks())
        }
        Kind::File(data) => runs(data)?,
        Kind::Symlink(target) if target.len() > SHORT => count(1),
        _ => Vec::new(),
    };
    if !matches!(node.kind, Kind::Dir(_)) && node.links > MOST_LINKS {
        return Err(Error::unsupported(format!(
            "it has {} names, and {MOST_LINKS} are the most",
            node.links
        )));
    }
    Ok(Need { runs, xattr_block: Attributes::of(&node.meta.xattrs)?.block.is_some() })
}

/// The runs of a file's blocks that are not all zero. Of a small file all are told.
fn runs(data: &Data) -> Result<Vec<(u64, u64)>> {
    let blocks = data.size().div_ceil(BLOCK as u64);
    if blocks > MOST_BLOCKS {
        return Err(Error::unsupported("it is larger than 16 TiB"));
    }
    if data.size() < LOOK_THROUGH {
        return Ok(if blocks > 0 { vec![(0, blocks)] } else { Vec::new() });
    }
    let (mut from, mut runs) = (data.open()?, Vec::<(u64, u64)>::new());
    let mut buffer = vec![0; 64 * BLOCK];
    let (mut at, mut left) = (0, data.size());
    while left > 0 {
        let size = left.min(buffer.len() as u64) as usize;
        from.read_exact(&mut buffer[..size]).context(|| "read it")?;
        for block in buffer[..size].chunks(BLOCK) {
            if !is_zero(block) {
                match runs.last_mut() {
                    Some((start, length)) if *start + *length == at => *length += 1,
                    _ => runs.push((at, 1)),
                }
            }
            at += 1;
        }
        left -= size as u64;
    }
    Ok(runs)
}

/// Are these bytes all zero?
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Put everything in its place, in a file system of this geometry. What has no room in it gets places behind its end.
pub(super) fn place(
    tree: &Tree,
    needs: &[Need],
    geometry: &Geometry,
    journal: u64,
    lost_found: bool,
) -> Places {
    let mut from = Taker { geometry, at: 0 };
    let resize = from.take(&[(0, 1)])[0].physical;
    let journal = from.place(&[(0, journal)], false);
    let lost = if lost_found { &[(0, LOST_FOUND)][..] } else { &[] };
    let lost_found = from.place(lost, false);
    // Directories first, each beside the others, then what is in them.
    let mut nodes: Vec<Place> = tree.nodes.iter().map(|_| Place::default()).collect();
    for directories in [true, false] {
        for ((place, node), need) in nodes.iter_mut().zip(&tree.nodes).zip(needs) {
            if matches!(node.kind, Kind::Dir(_)) == directories {
                *place = from.place(&need.runs, need.xattr_block);
            }
        }
    }
    Places { nodes, journal, lost_found, resize, end: from.at }
}

/// Takes blocks one after another, past those that are for tables.
struct Taker<'a> {
    geometry: &'a Geometry,
    at: u64,
}

impl Taker<'_> {
    fn place(&mut self, runs: &[(u64, u64)], xattr_block: bool) -> Place {
        let extents = extents::split(&self.take(runs));
        let blocks = extents::tree_blocks(extents.len()) as u64;
        let tree = self.take(&[(0, blocks)]).iter().flat_map(|e| e.physical..e.physical + e.blocks).collect();
        let xattr_block = if xattr_block { self.take(&[(0, 1)])[0].physical } else { 0 };
        Place { extents, tree, xattr_block }
    }

    fn take(&mut self, runs: &[(u64, u64)]) -> Vec<Extent> {
        let mut out = Vec::new();
        for (start, length) in runs {
            let (mut logical, end) = (*start, start + length);
            while logical < end {
                let group = self.at / GROUP;
                let first = group * GROUP + self.geometry.reserved(group as u32);
                self.at = self.at.max(first);
                let blocks = (end - logical).min((group + 1) * GROUP - self.at);
                match out.last_mut() {
                    // Runs of a file that are neighbours stay apart only where they are in the file.
                    Some(Extent { logical: l, physical: p, blocks: b })
                        if *l + *b == logical && *p + *b == self.at =>
                    {
                        *b += blocks;
                    }
                    _ if blocks > 0 => out.push(Extent { logical, physical: self.at, blocks }),
                    _ => {}
                }
                self.at += blocks;
                logical += blocks;
            }
        }
        out
    }
}
