//! The compressors of erofs: as much of the input as fits into one block of 4 KiB, again and again, each block for itself.

use coracle_lz4::Encoder;
use coracle_sys::{Context, Result};
use lzma_rust2::{LzmaOptions, MicroLzmaEncoder};

use super::index::PLAIN;
use super::{BLOCK, index};
use crate::pack::parallel::Piece;

/// What blocks are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Lz4,
    Lz4hc,
    /// MicroLZMA of xz. The preset.
    Lzma(u8),
}

/// How far back LZMA looks: more than a block holds of anything that can be compressed at all. The kernel keeps so much
/// memory for each of its decoders.
pub(super) const DICTIONARY: u32 = 32 << 10;

/// What the LZMA encoder is shown for one block.
const SHOWN: usize = 256 << 10;

impl Codec {
    /// Its number in an inode's index.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Lz4 | Self::Lz4hc => 0,
            Self::Lzma(_) => 1,
        }
    }

    /// One thread's compressor.
    pub(super) fn compressor(self) -> Result<Compressor> {
        Ok(match self {
            Self::Lz4 => Compressor::Lz4(Encoder::quick()),
            Self::Lz4hc => Compressor::Lz4(Encoder::smallest()),
            Self::Lzma(preset) => {
                let mut options = LzmaOptions::with_preset(preset.into());
                options.dict_size = DICTIONARY;
                Compressor::Lzma(Box::new(
                    MicroLzmaEncoder::new(&options).context(|| "make an LZMA encoder")?,
                ))
            }
        })
    }
}

pub(super) enum Compressor {
    Lz4(Encoder),
    Lzma(Box<MicroLzmaEncoder>),
}

impl Compressor {
    /// Compress a piece into blocks, and note how much input each has. A file that is this piece alone, and takes no fewer
    /// bytes so, is left as it is, without notes. What `out` holds does not matter: it is memory to work with.
    pub(super) fn compress(&mut self, piece: &mut Piece, alone: bool, out: &mut Vec<u8>) -> Result<()> {
        let input = &piece.bytes;
        out.clear();
        let mut block = Vec::with_capacity(BLOCK);
        let mut at = 0;
        if let Self::Lz4(lz4) = self {
            lz4.start(input);
        }
        while at < input.len() {
            let taken = match self {
                Self::Lz4(lz4) => lz4.block(input, at, BLOCK, &mut block),
                Self::Lzma(lzma) => {
                    block.resize(BLOCK, 0);
                    // It takes up all that it is shown.
                    let shown = &input[at..input.len().min(at + SHOWN)];
                    let fits = lzma.compress_prefix(shown, &mut block).context(|| "compress")?;
                    block.truncate(fits.1);
                    fits.0
                }
            };
            let left = input.len() - at;
            if taken > BLOCK || (taken == left && block.len() < left) {
                // Zeros stand before what is compressed, so that it ends where the block does.
                out.resize(out.len() + BLOCK - block.len(), 0);
                out.extend_from_slice(&block);
                piece.notes.push(taken as u32);
                at += taken;
            } else {
                let taken = left.min(BLOCK);
                out.extend_from_slice(&input[at..at + taken]);
                out.resize(out.len().next_multiple_of(BLOCK), 0);
                piece.notes.push(taken as u32 | PLAIN);
                at += taken;
            }
        }
        if alone && out.len() + index::size(0, input.len() as u64) >= input.len() {
            piece.notes.clear();
            return Ok(());
        }
        piece.replace(out);
        Ok(())
    }
}
