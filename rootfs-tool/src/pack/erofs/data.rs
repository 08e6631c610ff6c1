//! Contents of files, one file's blocks after the other. What does not fill a block lies behind the inode, where it fits.

use std::io::Read;

use coracle_sys::{Context, Result, interrupt};

use super::codec::Codec;
use super::{BLOCK, inode};
use crate::pack::limits;
use crate::pack::out::Out;
use crate::pack::parallel::{self, Line, Piece, Spare};
use crate::pack::tree::{self, Data, Kind, Tree};

/// Bytes that one thread works on at a time; a file's pieces but the last have so many.
const PIECE: usize = 1 << 20;
/// The number of no block.
const NONE: u32 = u32::MAX;

/// Where a file's content lies.
#[derive(Clone)]
pub(super) enum Place {
    /// In these blocks; what is behind the last whole one is behind the inode when `inline` says so.
    Flat { block: u32, inline: bool },
    /// In these blocks. Those of zeros are all one: a hole has no block at all, but fsck.erofs 1.5 leaves it out when it
    /// extracts the file.
    Chunks(Vec<u32>),
    /// Compressed, in extents of these lengths, as [`super::index`] has them.
    Packed { block: u32, blocks: u32, lengths: Vec<u32> },
}

/// Write the contents of all files that are their own `originals`: where they lie, by node.
pub(super) fn write(
    tree: &Tree,
    originals: &[usize],
    heads: &[usize],
    sizes: &[u64],
    codec: Option<Codec>,
    out: &mut Out<'_>,
) -> Result<Vec<Place>> {
    let inline = |(head, size): (&usize, &u64)| Place::Flat { block: 0, inline: inode::fits(*head, *size) };
    let places = heads.iter().zip(sizes).map(inline).collect();
    let mut line = Contents {
        tree,
        originals,
        packs: codec.is_some(),
        out,
        places,
        node: 0,
        open: None,
        done: 0,
        empty: 0,
        zeros: None,
        spare: Spare::default(),
    };
    if let Some(codec) = codec {
        parallel::run(&mut line, &|| {
            let mut compressor = codec.compressor()?;
            let mut out = Vec::new();
            Ok(Box::new(move |piece: &mut Piece| {
                let Kind::File(data) = &tree.nodes[piece.of].kind else { return Ok(()) };
                compressor.compress(piece, data.size() == piece.was as u64, &mut out)
            }))
        })?;
    } else {
        // To hand a piece to another thread takes longer than to look for zeros in it.
        while let Some(mut piece) = line.next()? {
            interrupt::check()?;
            piece.notes = zeros(&piece.bytes);
            line.take(piece)?;
        }
    }
    let mut places = line.places;
    for (node, original) in originals.iter().enumerate() {
        if node != *original {
            places[node] = places[*original].clone();
        }
    }
    Ok(places)
}

/// Which blocks are zeros, unless none is.
fn zeros(bytes: &[u8]) -> Vec<u32> {
    let zeros = bytes.chunks(BLOCK).map(|block| u32::from(block.iter().all(|b| *b == 0)));
    let zeros: Vec<u32> = zeros.collect();
    if zeros.contains(&1) { zeros } else { Vec::new() }
}

struct Contents<'a, 'o> {
    tree: &'a Tree,
    originals: &'a [usize],
    /// Pieces come with the lengths of their extents, rather than with their blocks of zeros.
    packs: bool,
    out: &'a mut Out<'o>,
    places: Vec<Place>,
    /// The next one to be looked at.
    node: usize,
    /// The one that is read, and how much is left.
    open: Option<(usize, Box<dyn Read + 'a>, u64)>,
    /// How much of the one that is written is written.
    done: u64,
    /// Its blocks of zeros so far.
    empty: u64,
    /// A block of zeros.
    zeros: Option<u32>,
    /// Memory of pieces that are written.
    spare: Spare,
}

impl<'a> Contents<'a, '_> {
    /// The content of a node, when it is a file's that is to be stored in blocks.
    fn stored(&self, node: usize) -> Option<&'a Data> {
        match &self.tree.nodes[node].kind {
            Kind::File(data) if self.originals[node] == node => {
                let inline = matches!(self.places[node], Place::Flat { inline: true, .. });
                let least = if inline { BLOCK as u64 } else { 1 };
                (data.size() >= least).then_some(data)
            }
            _ => None,
        }
    }

    /// The number of the next block.
    fn block(&self, node: usize) -> Result<u32> {
        let block = u32::try_from(self.out.at() / BLOCK as u64).ok().filter(|block| *block != NONE);
        block.ok_or_else(|| {
            limits::refuse(self.tree, node, "with it the image has more than the 16 TiB of erofs")
        })
    }

    /// Blocks of a file that is not compressed. They are told one by one as soon as there are so many zeros among them that
    /// it takes less.
    fn flat(&mut self, piece: &Piece, first: u32, size: u64) -> Result<()> {
        let node = piece.of;
        let last = self.done + piece.was as u64 == size;
        let before = (self.done / BLOCK as u64) as u32;
        self.empty += piece.notes.iter().filter(|zeros| **zeros == 1).count() as u64;
        if self.empty * BLOCK as u64 > size.div_ceil(BLOCK as u64) * 4 + BLOCK as u64
            && let Place::Flat { block, .. } = self.places[node]
        {
            self.places[node] = Place::Chunks((block..block + before).collect());
        }
        match &mut self.places[node] {
            Place::Flat { block, inline } => {
                if before == 0 {
                    *block = first;
                }
                let tail = if last && *inline { piece.bytes.len() % BLOCK } else { 0 };
                self.out.write(&piece.bytes[..piece.bytes.len() - tail])?;
            }
            Place::Chunks(blocks) => {
                let mut next = first;
                for (n, block) in piece.bytes.chunks(BLOCK).enumerate() {
                    let zeros = piece.notes.get(n) == Some(&1);
                    if zeros && let Some(known) = self.zeros {
                        blocks.push(known);
                        continue;
                    }
                    // The last one of a file is filled up with zeros as well.
                    if zeros {
                        self.zeros = Some(next);
                    }
                    blocks.push(next);
                    next += 1;
                    self.out.write(block)?;
                }
            }
            Place::Packed { .. } => {}
        }
        Ok(())
    }
}

impl Line for Contents<'_, '_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        while self.open.is_none() {
            if self.node == self.tree.nodes.len() {
                return Ok(None);
            }
            let node = self.node;
            self.node += 1;
            if let Some(data) = self.stored(node) {
                self.open = Some((node, data.open()?, data.size()));
            }
        }
        let Some((node, mut input, left)) = self.open.take() else { return Ok(None) };
        let size = left.min(PIECE as u64);
        let mut bytes = self.spare.take(size as usize);
        tree::fill(&mut input, &mut bytes, left == size)
            .context(|| format!("read {:?}", String::from_utf8_lossy(&self.tree.path(node))))?;
        if left > size {
            self.open = Some((node, input, left - size));
        }
        Ok(Some(Piece::new(node, bytes)))
    }

    fn take(&mut self, piece: Piece) -> Result<()> {
        let node = piece.of;
        let Kind::File(data) = &self.tree.nodes[node].kind else { return Ok(()) };
        let first = self.block(node)?;
        if self.packs && !piece.notes.is_empty() {
            if self.done == 0 {
                self.places[node] = Place::Packed { block: first, blocks: 0, lengths: Vec::new() };
            }
            if let Place::Packed { blocks, lengths, .. } = &mut self.places[node] {
                *blocks += (piece.bytes.len() / BLOCK) as u32;
                lengths.extend_from_slice(&piece.notes);
            }
            self.out.write(&piece.bytes)?;
        } else {
            self.flat(&piece, first, data.size())?;
            self.out.fill_block()?;
        }
        self.done += piece.was as u64;
        if self.done == data.size() {
            (self.done, self.empty) = (0, 0);
        }
        self.spare.put(piece.bytes);
        Ok(())
    }
}
