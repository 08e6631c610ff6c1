//! Directories: blocks of entries of equal length with the names behind them, all in the order of the names' bytes.

use super::BLOCK;
use crate::pack::tree::Tree;

/// Bytes of an entry, without its name.
const ENTRY: usize = 12;

/// The names of a directory with those of itself and its parent, in order, and whose they are.
fn names<'a>(tree: &Tree, dir: usize, names: &'a [(Vec<u8>, usize)]) -> Vec<(&'a [u8], usize)> {
    let mut all: Vec<(&[u8], usize)> = names.iter().map(|(name, node)| (&name[..], *node)).collect();
    for (dots, node) in [(&b"."[..], dir), (b"..", tree.nodes[dir].parent)] {
        all.insert(all.partition_point(|(name, _)| *name < dots), (dots, node));
    }
    all
}

/// How many of the names one block takes.
fn fitting(names: &[(&[u8], usize)]) -> usize {
    let mut used = 0;
    let fits = |(name, _): &&(&[u8], usize)| {
        used += ENTRY + name.len();
        used <= BLOCK
    };
    names.iter().take_while(fits).count()
}

/// The bytes of a directory: whole blocks, and the last one as long as it is. `nids` are the numbers of inodes by node.
pub(super) fn bytes(tree: &Tree, dir: usize, list: &[(Vec<u8>, usize)], nids: &[u64]) -> Vec<u8> {
    let all = names(tree, dir, list);
    let mut out = Vec::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let (now, after) = rest.split_at(fitting(rest));
        let mut at = now.len() * ENTRY;
        for (name, node) in now {
            out.extend_from_slice(&nids[*node].to_le_bytes());
            out.extend_from_slice(&(at as u16).to_le_bytes());
            out.extend_from_slice(&[tree.nodes[*node].kind.numbers().1, 0]);
            at += name.len();
        }
        now.iter().for_each(|(name, _)| out.extend_from_slice(name));
        rest = after;
    }
    out
}

/// How many bytes those are.
pub(super) fn size(tree: &Tree, dir: usize, list: &[(Vec<u8>, usize)]) -> usize {
    let all = names(tree, dir, list);
    let mut size: usize = 0;
    let mut rest = &all[..];
    while !rest.is_empty() {
        let (now, after) = rest.split_at(fitting(rest));
        size = size.next_multiple_of(BLOCK) + now.iter().map(|(name, _)| ENTRY + name.len()).sum::<usize>();
        rest = after;
    }
    size
}
