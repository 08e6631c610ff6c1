//! Extended attributes: a pair that several inodes have lies once in an area of its own and is named by its place; the
//! others lie behind their inodes.

use std::collections::BTreeMap;

use coracle_sys::Result;

use crate::pack::limits;
use crate::pack::tree::{Node, Tree};

/// Prefixes that are numbers in the format, and the whole names that are.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
/// Bytes of an inode's header of attributes.
const HEADER: usize = 12;
/// Shared ones that an inode names at most.
const SHARED: usize = 255;
/// The most that an inode's attributes have: 16 bits count four bytes each.
const MOST: usize = HEADER + 4 * (u16::MAX as usize - 1);

type Pair<'a> = (&'a [u8], &'a [u8]);

/// The area of those that are shared.
pub(super) struct Shared<'a> {
    /// Where each begins in the area, in units of four bytes.
    places: BTreeMap<Pair<'a>, u32>,
    /// The area.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Shared<'a> {
    /// Of a tree. What the format has no place for is refused by name.
    pub(super) fn of(tree: &'a Tree) -> Result<Self> {
        let mut counts: BTreeMap<Pair<'a>, usize> = BTreeMap::new();
        for (n, node) in tree.nodes.iter().enumerate() {
            for (name, value) in &node.meta.xattrs {
                let shown = String::from_utf8_lossy(name);
                if split(name).is_none() {
                    return Err(limits::refuse(
                        tree,
                        n,
                        &format!("erofs has no place for its attribute {shown:?}"),
                    ));
                }
                if value.len() > u16::MAX.into() {
                    return Err(limits::refuse(
                        tree,
                        n,
                        &format!("its attribute {shown:?} has more than 65535 bytes"),
                    ));
                }
                *counts.entry((name, value)).or_default() += 1;
            }
        }
        let mut shared = Self { places: BTreeMap::new(), bytes: Vec::new() };
        for (pair, count) in counts {
            if count > 1 {
                shared.places.insert(pair, (shared.bytes.len() / 4) as u32);
                entry(&mut shared.bytes, pair);
            }
        }
        for (n, node) in tree.nodes.iter().enumerate() {
            if shared.body(node).len() > MOST {
                return Err(limits::refuse(tree, n, &format!("its attributes have more than {MOST} bytes")));
            }
        }
        Ok(shared)
    }

    /// What lies behind an inode.
    pub(super) fn body(&self, node: &Node) -> Vec<u8> {
        let mut out = vec![0; if node.meta.xattrs.is_empty() { 0 } else { HEADER }];
        let mut own = Vec::new();
        let mut count = 0;
        for (name, value) in &node.meta.xattrs {
            match self.places.get(&(&name[..], &value[..])) {
                Some(place) if count < SHARED => {
                    out.extend_from_slice(&place.to_le_bytes());
                    count += 1;
                    out[4] = count as u8;
                }
                _ => entry(&mut own, (name, value)),
            }
        }
        out.extend_from_slice(&own);
        out
    }
}

/// The number of a name's prefix, and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let (prefix, number) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let rest = &name[prefix.len()..];
    // What is no prefix is a whole name.
    (prefix.ends_with(b".") || rest.is_empty()).then_some((*number, rest))
}

fn entry(out: &mut Vec<u8>, (name, value): Pair<'_>) {
    let (number, rest) = split(name).unwrap_or((0, name));
    out.extend_from_slice(&[rest.len() as u8, number]);
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}
