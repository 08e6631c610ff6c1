//! Files of equal content are stored once: which they are, told before anything is written. Only files whose size another
//! one has are read for it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use coracle_store::digest::Hashing;
use coracle_sys::{Context, Result};

use super::parallel::{self, Line, Piece};
use super::tree::{Kind, Tree};

/// What is read at once.
const READ: usize = 256 << 10;

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
    let first = (0..tree.nodes.len()).collect();
    let mut same = Same { tree, todo: Box::new(todo), known: BTreeMap::new(), first };
    parallel::run(&mut same, &|| {
        let mut buffer = vec![0; READ];
        Ok(Box::new(move |piece: &mut Piece| {
            let Kind::File(data) = &tree.nodes[piece.of].kind else { return Ok(()) };
            let mut input = Hashing::new(data.open()?);
            loop {
                match input.read(&mut buffer) {
                    Ok(0) => break,
                    Err(e) if e.kind() != ErrorKind::Interrupted => {
                        let path = tree.path(piece.of);
                        return Err(e).context(|| format!("read {:?}", String::from_utf8_lossy(&path)));
                    }
                    _ => {}
                }
            }
            piece.bytes = input.finish().0.hex().into_bytes();
            Ok(())
        }))
    })?;
    Ok(same.first)
}

struct Same<'a> {
    tree: &'a Tree,
    todo: Box<dyn Iterator<Item = usize> + 'a>,
    known: BTreeMap<Vec<u8>, usize>,
    first: Vec<usize>,
}

impl Line for Same<'_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        let Some(n) = self.todo.next() else { return Ok(None) };
        let mut piece = Piece::new(n, Vec::new());
        if let Kind::File(data) = &self.tree.nodes[n].kind {
            piece.was = data.size() as usize;
        }
        Ok(Some(piece))
    }

    fn take(&mut self, piece: Piece) -> Result<()> {
        self.first[piece.of] = *self.known.entry(piece.bytes).or_insert(piece.of);
        Ok(())
    }
}
