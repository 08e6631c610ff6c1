//! Metadata blocks: 8 KiB each before they are compressed, two bytes of length before them. What lies in them is named by
//! where its block begins in the table, and where it begins in the block.

use coracle_sys::{Error, Result};

use super::codec::Compressor;
use crate::pack::out::Out;

/// Bytes of a metadata block.
pub(super) const BLOCK: usize = 8192;
/// In a block's length: it is not compressed.
const PLAIN: u16 = 1 << 15;

/// A table of metadata blocks, in memory.
pub(super) struct Metadata {
    compressor: Compressor,
    bytes: Vec<u8>,
    pending: Vec<u8>,
    /// Where each block begins.
    starts: Vec<u32>,
}

impl Metadata {
    pub(super) fn new(compressor: Compressor) -> Self {
        Self { compressor, bytes: Vec::new(), pending: Vec::new(), starts: vec![0] }
    }

    /// How many bytes were written.
    pub(super) fn len(&self) -> usize {
        (self.starts.len() - 1) * BLOCK + self.pending.len()
    }

    /// The block's begin, and the place in the block, of a byte by its place in all that was written.
    pub(super) fn locate(&self, at: usize) -> (u32, u16) {
        (self.starts[at / BLOCK], (at % BLOCK) as u16)
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            // At once, so that the next byte's block is known.
            if self.pending.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let packed = self.compressor.compress(&self.pending)?;
        let (length, body) = match &packed {
            Some(packed) => (packed.len() as u16, packed),
            None => (self.pending.len() as u16 | PLAIN, &self.pending),
        };
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(body);
        self.pending.clear();
        let next = u32::try_from(self.bytes.len());
        self.starts.push(next.map_err(|_| Error::unsupported("a table of squashfs has more than 4 GiB"))?);
        Ok(())
    }

    /// The whole table, and where its blocks begin.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<u32>)> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        self.starts.pop();
        Ok((self.bytes, self.starts))
    }

    /// Write a table that is found by the places of its blocks, which come after it: where those begin.
    pub(super) fn write_with_places(self, out: &mut Out<'_>) -> Result<u64> {
        let begin = out.at();
        let (bytes, starts) = self.finish()?;
        out.write(&bytes)?;
        let places = out.at();
        let list: Vec<u8> = starts.iter().flat_map(|at| (begin + u64::from(*at)).to_le_bytes()).collect();
        out.write(&list)?;
        Ok(places)
    }
}
