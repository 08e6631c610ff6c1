//! Files of equal content are stored once: which they are, told before anything is written. Only files whose size another
//! one has are read for it.

use std::collections::BTreeMap;

use coracle_store::digest::Hashing;
use coracle_sys::{Context, Result};

use super::parallel::{self, Line, Piece};
use super::tree::{Kind, Tree};

/// For every node the first one with its content; itself, where it is the first, or no file.
pub(crate) fn originals(tree: &Tree) -> Result<Vec<usize>> {
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for node in &tree.nodes {
        if let Kind::File(data) = &node.kind {
            *sizes.entry(data.size()).or_default() += 1;
        }
    }
    let shared = |n: &usize| match &tree.nodes[*n].kind {
        Kind::File(data) => data.size() > 0 && sizes[&data.size()] > 1,
        _ => false,
    };
    let todo = (0..tree.nodes.len()).filter(shared);
    let mut same =
        Same { todo: Box::new(todo), known: BTreeMap::new(), first: (0..tree.nodes.len()).collect() };
    parallel::run(&mut same, &|| {
        Ok(Box::new(|piece: &mut Piece| {
            let Kind::File(data) = &tree.nodes[piece.of].kind else { return Ok(()) };
            let mut input = Hashing::new(data.open()?);
            std::io::copy(&mut input, &mut std::io::sink())
                .context(|| format!("read {:?}", String::from_utf8_lossy(&tree.path(piece.of))))?;
            piece.bytes = input.finish().0.hex().into_bytes();
            Ok(())
        }))
    })?;
    Ok(same.first)
}

struct Same<'a> {
    todo: Box<dyn Iterator<Item = usize> + 'a>,
    known: BTreeMap<Vec<u8>, usize>,
    first: Vec<usize>,
}

impl Line for Same<'_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        Ok(self.todo.next().map(|n| Piece::new(n, Vec::new())))
    }

    fn take(&mut self, piece: Piece) -> Result<()> {
        self.first[piece.of] = *self.known.entry(piece.bytes).or_insert(piece.of);
        Ok(())
    }
}
