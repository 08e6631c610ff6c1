//! Sparse files: where their data belongs, as GNU's headers and the three forms in PAX records say it.

use std::io::Read;

use coracle_sys::{Error, Result};

use super::{BLOCK, Walk, truncated};
use crate::layer::field::{decimal, number, positive};
use crate::layer::pax::{Piece, SparseRecords};

/// Pieces of one file.
const MAX_PIECES: usize = 1 << 20;

impl<R: Read> Walk<R> {
    /// The pieces in a header of GNU's type `S`, and in the blocks that may follow it.
    pub(super) fn gnu_pieces(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
            for s in sparse.iter().filter(|s| s.offset[0] != 0 && s.numbytes[0] != 0) {
                let offset = positive(number(&s.offset, "offset")?, "offset")?;
                let len = positive(number(&s.numbytes, "length")?, "length")?;
                pieces.push(Piece { offset, len });
            }
            if pieces.len() > MAX_PIECES {
                Err(Error::invalid("read the archive: a map is too long"))
            } else {
                Ok(())
            }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.isextended[0] == 1;
        while more {
            let mut block = [0u8; BLOCK];
            if !self.block(&mut block)? {
                return Err(truncated());
            }
            let mut next = tar::GnuExtSparseHeader::new();
            next.as_mut_bytes().copy_from_slice(&block);
            add(&next.sparse)?;
            more = next.isextended[0] == 1;
        }
        Ok(pieces)
    }

    /// The pieces of GNU's PAX formats 0.0, 0.1 (in the records) and 1.0 (before the data).
    pub(super) fn pax_pieces(&mut self, records: SparseRecords) -> Result<(u64, Vec<Piece>)> {
        let size =
            records.size.ok_or_else(|| Error::invalid("read the archive: a sparse file without a size"))?;
        match records.version {
            Some((1, 0)) => {}
            None | Some((0, _)) => return Ok((size, records.pieces)),
            Some((a, b)) => {
                return Err(Error::unsupported(format!("read the archive: sparse format {a}.{b}")));
            }
        }
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut count = None;
        // Decimal numbers, one a line: how many pieces, then offset and length of each.
        while count.is_none_or(|c| numbers.len() < c) {
            let mut block = [0u8; BLOCK];
            let mut have = 0;
            while have < BLOCK {
                match self.read_data(&mut block[have..])? {
                    0 => return Err(Error::invalid("read the archive: a sparse file's map is cut off")),
                    n => have += n,
                }
            }
            for b in block {
                if b != b'\n' {
                    text.push(b);
                    continue;
                }
                let n =
                    decimal(&text).ok_or_else(|| Error::invalid("read the archive: a sparse file's map"))?;
                text.clear();
                match count {
                    None if n <= MAX_PIECES as u64 => count = Some(2 * n as usize),
                    None => return Err(Error::invalid("read the archive: a map is too long")),
                    Some(c) if numbers.len() < c => numbers.push(n),
                    Some(_) => {}
                }
                if count.is_some_and(|c| numbers.len() == c) {
                    break;
                }
            }
            if text.len() > 20 {
                return Err(Error::invalid("read the archive: a sparse file's map"));
            }
        }
        Ok((size, numbers.chunks_exact(2).map(|n| Piece { offset: n[0], len: n[1] }).collect()))
    }
}

/// The pieces lie in order inside the file, and the archive has as much data as they say.
pub(super) fn check_pieces(pieces: &[Piece], size: u64, stored: u64) -> Result<()> {
    let mut at = 0;
    let mut data = 0u64;
    for p in pieces {
        let end = p.offset.checked_add(p.len).filter(|e| p.offset >= at && *e <= size);
        at = end
            .ok_or_else(|| Error::invalid("read the archive: a sparse file's pieces overlap or stick out"))?;
        data += p.len;
    }
    if data != stored {
        return Err(Error::invalid("read the archive: a sparse file has more or less data than its map"));
    }
    Ok(())
}
