//! ext4, written directly: a journal, extents, indexed directories, checksums, and room to grow while it is mounted.
//! The format is Documentation/filesystems/ext4 of the kernel; the choices are mke2fs's.
//!
//! What there is not: quotas, encryption, bigalloc, data in inodes, shared blocks of attributes.

mod dir;
mod extents;
mod geometry;
mod hash;
mod inode;
mod journal;
mod place;
mod superblock;
mod write;
mod xattr;

use std::io::{Seek, Write};

use coracle_sys::{Error, Result};

use self::geometry::{BLOCK, GROUP, Geometry, MOST_BLOCKS};
use self::place::{Need, Places};
use self::superblock::FIRST_INODE;
use super::limits;
use super::tree::{Kind, Tree};
use super::uuid::{Identity, Uuid};

/// The least size, in blocks: what is smaller has no room for a journal.
const LEAST: u64 = 2048;
/// Bytes of a label.
const LABEL: usize = 16;
const LOST_FOUND: &[u8] = b"lost+found";

/// How the file system is to be.
#[derive(Default)]
pub(crate) struct How {
    /// Bytes; as few as will do when none.
    pub(crate) size: Option<u64>,
    /// Where no size is given: half as much again as is needed, for what is written later.
    pub(crate) spare: bool,
    /// Of the file system; derived from the content when none.
    pub(crate) uuid: Option<Uuid>,
    /// Its label.
    pub(crate) label: String,
    /// When it was made, in seconds after 1970.
    pub(crate) time: u64,
}

/// Where everything goes.
struct Layout {
    geometry: Geometry,
    places: Places,
    numbers: Numbers,
}

/// Which inode has which number.
#[derive(Clone, Copy)]
struct Numbers {
    /// Is there a lost+found that the tree does not have? It is the first inode then.
    lost_found: bool,
    nodes: u64,
}

impl Numbers {
    fn of(self, node: usize) -> u32 {
        match node {
            0 => 2,
            _ => FIRST_INODE + u32::from(self.lost_found) + node as u32 - 1,
        }
    }

    /// The last one that is in use.
    fn last(self) -> u64 {
        u64::from(FIRST_INODE) + u64::from(self.lost_found) + self.nodes - 2
    }
}

/// Write a tree as a file system.
pub(crate) fn write(tree: &Tree, how: &How, out: &mut (impl Write + Seek)) -> Result<()> {
    if how.label.len() > LABEL {
        return Err(Error::usage(format!(
            "--label {}: a label of ext4 has at most {LABEL} bytes",
            how.label
        )));
    }
    limits::check(tree)?;
    let Kind::Dir(entries) = &tree.nodes[0].kind else {
        return Err(Error::invalid("put a tree into ext4: its root is no directory"));
    };
    let found = entries.iter().find(|(name, _)| name == LOST_FOUND);
    if let Some((_, node)) = found
        && !matches!(tree.nodes[*node].kind, Kind::Dir(_))
    {
        return Err(Error::unsupported(
            "put \"lost+found\" into ext4: it is no directory, as e2fsck needs it",
        ));
    }
    let numbers = Numbers { lost_found: found.is_none(), nodes: tree.nodes.len() as u64 };
    let mut names = Identity::new("ext4");
    names.add(how.label.as_bytes());
    names.tree(tree);
    let names = names.digest();
    let mut hash_seed = [0; 4];
    for (word, bytes) in hash_seed.iter_mut().zip(names.bytes().as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let needs = place::needs(tree, &hash_seed, numbers.lost_found)?;
    let mut layout = lay_out(tree, &needs, numbers, how.size)?;
    if how.spare && how.size.is_none() {
        let blocks = layout.geometry.blocks * 3 / 2;
        layout = lay_out(tree, &needs, numbers, Some(blocks * BLOCK as u64))?;
    }
    write::Writer { tree, how, layout: &layout, hash_seed, out, end: 0 }.write(&names)
}

/// Find the geometry: the one of the size that was asked for, or the smallest that takes everything.
fn lay_out(tree: &Tree, needs: &[Need], numbers: Numbers, size: Option<u64>) -> Result<Layout> {
    let mut blocks = match size {
        Some(size) => size / BLOCK as u64,
        None => LEAST.max(Geometry::too_few(numbers.last())),
    };
    if blocks < LEAST {
        return Err(Error::usage(format!("an ext4 with a journal takes {} MiB or more", LEAST >> 8)));
    }
    while blocks <= MOST_BLOCKS {
        let laid = Geometry::new(blocks, numbers.last()).map(|geometry| {
            let places =
                place::place(tree, needs, &geometry, journal::blocks(geometry.blocks), numbers.lost_found);
            Layout { geometry, places, numbers }
        });
        let end = match laid {
            Some(layout) if layout.places.end <= layout.geometry.blocks => return Ok(layout),
            Some(layout) => layout.places.end,
            None => 0,
        };
        if size.is_some() {
            let least = lay_out(tree, needs, numbers, None)?.geometry.blocks;
            return Err(Error::usage(format!(
                "a size of {} MiB is too small: what is to be in it takes {} MiB",
                blocks / 256,
                least.div_ceil(256)
            )));
        }
        // A last group is not begun for a few blocks, so a step is more than one.
        blocks = end.max(blocks + GROUP / 128);
    }
    Err(Error::unsupported("put a tree into ext4: it takes more than 16 TiB"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use coracle_store::layer::pack::Meta;

    use super::*;
    use crate::pack::tree::{Data, Node};

    fn tree(name: &str, change: impl FnOnce(&mut Node)) -> Tree {
        let node = |kind| Node { meta: Meta::new(0o755), kind, links: 1, parent: 0 };
        let mut file = node(Kind::File(Data::Bytes(vec![1; 5000])));
        change(&mut file);
        Tree { nodes: vec![node(Kind::Dir(vec![(name.into(), 1)])), file] }
    }

    fn written(tree: &Tree, how: &How) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        write(tree, how, &mut out).map(|()| out.into_inner())
    }

    #[test]
    fn what_ext4_cannot_hold_is_refused_by_its_path() {
        let xattr = |name: &str, size| (name.as_bytes().to_vec(), vec![7; size]);
        let long = "n".repeat(256);
        let table: [(Tree, &str); 8] = [
            (tree("late", |n| n.meta.mtime.0 = 1 << 34), "\"late\" into ext4: its time"),
            (tree("early", |n| n.meta.mtime.0 = -(1 << 31) - 1), "\"early\" into ext4: its time"),
            (
                tree("link", |n| n.kind = Kind::Symlink(vec![b'x'; 4096])),
                "pack \"link\": its target has more than 4095 bytes",
            ),
            (tree("names", |n| n.links = 65_001), "\"names\" into ext4: it has 65001 names"),
            (
                tree("odd", |n| n.meta.xattrs.extend([xattr("odd.name", 1)])),
                "\"odd\" into ext4: ext4 has no place",
            ),
            (
                tree("large", |n| n.meta.xattrs.extend([xattr("user.x", 5000)])),
                "\"large\" into ext4: its extended",
            ),
            (tree(&long, |_| ()), &long),
            (tree("lost+found", |_| ()), "\"lost+found\""),
        ];
        for (tree, says) in table {
            let error = written(&tree, &How::default()).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_identifier_follows_from_content_names_and_label() {
        let uuid = |tree: &Tree, label: &str| {
            let how = How { label: label.into(), ..How::default() };
            written(tree, &how).expect("write")[1024 + 0x68..1024 + 0x78].to_vec()
        };
        let first = uuid(&tree("a", |_| ()), "");
        assert_eq!(first, uuid(&tree("a", |_| ()), ""));
        let content = tree("a", |n| n.kind = Kind::File(Data::Bytes(vec![2; 5000])));
        for other in [uuid(&tree("b", |_| ()), ""), uuid(&tree("a", |_| ()), "x"), uuid(&content, "")] {
            assert_ne!(first, other);
        }
        let own = Uuid([7; 16]);
        let how = How { uuid: Some(own), ..How::default() };
        assert_eq!(written(&content, &how).expect("write")[1024 + 0x68..1024 + 0x78], own.0);
    }

    #[test]
    fn a_size_is_kept_to_the_byte() {
        let how = How { size: Some((9 << 20) + 5), ..How::default() };
        assert_eq!(written(&tree("a", |_| ()), &how).expect("write").len(), (9 << 20) + 5);
        let least = written(&tree("a", |_| ()), &How::default()).expect("write");
        assert_eq!(least.len(), 8 << 20);
    }
}
