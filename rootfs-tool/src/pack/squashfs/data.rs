//! Contents of files: whole blocks, each compressed for itself, one file's after the other; and the files that are
//! shorter than a block together in fragment blocks.

use std::io::Read;

use coracle_sys::{Context, Result};

use super::codec::Codec;
use crate::pack::out::Out;
use crate::pack::parallel::{self, Line, Piece};
use crate::pack::tree::{self, Data, Kind, Tree};

/// In a block's length: it is not compressed.
const PLAIN: u32 = 1 << 24;
/// What is no file's number: a fragment block.
const FRAGMENT: usize = usize::MAX;
/// No fragment.
pub(super) const NONE: u32 = u32::MAX;

/// Where a file's content lies.
#[derive(Clone)]
pub(super) struct Place {
    /// Of its first block in the image.
    pub(super) start: u64,
    /// Lengths of its blocks. A hole's is 0.
    pub(super) blocks: Vec<u32>,
    /// Bytes in holes.
    pub(super) sparse: u64,
    /// Its fragment block, and where in that it begins.
    pub(super) fragment: (u32, u32),
}

/// Where all contents lie.
pub(super) struct Places {
    /// By node.
    pub(super) files: Vec<Place>,
    /// The fragment blocks: begin, and length.
    pub(super) fragments: Vec<(u64, u32)>,
}

/// Write the contents of all files that are their own `originals`.
pub(super) fn write(
    tree: &Tree,
    originals: &[usize],
    codec: Codec,
    block: usize,
    out: &mut Out<'_>,
) -> Result<Places> {
    let none = Place { start: 0, blocks: Vec::new(), sparse: 0, fragment: (NONE, 0) };
    let places = Places { files: vec![none; tree.nodes.len()], fragments: Vec::new() };
    let mut line = Contents {
        tree,
        originals,
        block,
        out,
        places,
        node: 0,
        open: None,
        fragment: Vec::with_capacity(block),
        number: 0,
    };
    parallel::run(&mut line, &|| {
        let mut compressor = codec.compressor(block)?;
        Ok(Box::new(move |piece: &mut Piece| {
            if piece.of != FRAGMENT && piece.bytes.iter().all(|b| *b == 0) {
                piece.bytes.clear();
                piece.notes = vec![0];
                return Ok(());
            }
            match compressor.compress(&piece.bytes)? {
                Some(packed) => {
                    piece.notes = vec![packed.len() as u32];
                    piece.bytes = packed;
                }
                None => piece.notes = vec![piece.bytes.len() as u32 | PLAIN],
            }
            Ok(())
        }))
    })?;
    let mut places = line.places;
    for (node, original) in originals.iter().enumerate() {
        if node != *original {
            places.files[node] = places.files[*original].clone();
        }
    }
    Ok(places)
}

struct Contents<'a, 'o> {
    tree: &'a Tree,
    originals: &'a [usize],
    block: usize,
    out: &'a mut Out<'o>,
    places: Places,
    /// The next one to be looked at.
    node: usize,
    /// A file of which whole blocks are read, and how much is left.
    open: Option<(usize, Box<dyn Read + 'a>, u64)>,
    /// What waits for its block to be full.
    fragment: Vec<u8>,
    /// The number of that block.
    number: u32,
}

impl<'a> Contents<'a, '_> {
    /// Read so many bytes of a node's content, to its `end` or not, behind what there is.
    fn read(
        &self,
        node: usize,
        input: &mut dyn Read,
        size: usize,
        end: bool,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let begin = into.len();
        into.resize(begin + size, 0);
        tree::fill(input, &mut into[begin..], end)
            .context(|| format!("read {:?}", String::from_utf8_lossy(&self.tree.path(node))))
    }

    /// What waits becomes a piece.
    fn fragment(&mut self) -> Piece {
        self.number += 1;
        Piece::new(FRAGMENT, std::mem::replace(&mut self.fragment, Vec::with_capacity(self.block)))
    }

    /// The content of a node, when it is a file's that is to be stored.
    fn stored(&self, node: usize) -> Option<&'a Data> {
        match &self.tree.nodes[node].kind {
            Kind::File(data) if data.size() > 0 && self.originals[node] == node => Some(data),
            _ => None,
        }
    }
}

impl Line for Contents<'_, '_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some((node, mut input, left)) = self.open.take() {
                let size = left.min(self.block as u64) as usize;
                let mut bytes = Vec::with_capacity(size);
                let more = left > size as u64;
                self.read(node, &mut input, size, !more, &mut bytes)?;
                if more {
                    self.open = Some((node, input, left - size as u64));
                }
                return Ok(Some(Piece::new(node, bytes)));
            }
            if self.node == self.tree.nodes.len() {
                return Ok((!self.fragment.is_empty()).then(|| self.fragment()));
            }
            let node = self.node;
            let Some(data) = self.stored(node) else {
                self.node += 1;
                continue;
            };
            let size = data.size();
            if size >= self.block as u64 {
                self.node += 1;
                self.open = Some((node, data.open()?, size));
                continue;
            }
            if self.fragment.len() + size as usize > self.block {
                return Ok(Some(self.fragment()));
            }
            self.node += 1;
            self.places.files[node].fragment = (self.number, self.fragment.len() as u32);
            let mut fragment = std::mem::take(&mut self.fragment);
            self.read(node, &mut data.open()?, size as usize, true, &mut fragment)?;
            self.fragment = fragment;
        }
    }

    fn take(&mut self, piece: Piece) -> Result<()> {
        let at = self.out.at();
        let length = piece.notes[0];
        self.out.write(&piece.bytes)?;
        if piece.of == FRAGMENT {
            self.places.fragments.push((at, length));
            return Ok(());
        }
        let place = &mut self.places.files[piece.of];
        if place.blocks.is_empty() {
            place.start = at;
        }
        if length == 0 {
            place.sparse += piece.was as u64;
        }
        place.blocks.push(length);
        Ok(())
    }
}
