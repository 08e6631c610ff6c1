//! Extended attributes: a set is stored once, however many have it, and named by its number.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result};

use super::codec::Codec;
use super::metadata::{self, Metadata};
use crate::pack::out::Out;

type Set = BTreeMap<Vec<u8>, Vec<u8>>;

/// The prefixes that the format knows, which are numbers in it.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// No attributes.
pub(super) const NONE: u32 = u32::MAX;

/// The sets that were seen.
pub(super) struct Xattrs<'a> {
    known: BTreeMap<&'a Set, u32>,
    pairs: Metadata,
    /// Of each set: where it begins, the number of attributes, and their bytes.
    sets: Vec<(usize, u32, u32)>,
}

impl<'a> Xattrs<'a> {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        let pairs = Metadata::new(codec.compressor(metadata::BLOCK)?);
        Ok(Self { known: BTreeMap::new(), pairs, sets: Vec::new() })
    }

    /// The number of a set. What the format has no prefix for is refused by name.
    pub(super) fn number(&mut self, set: &'a Set) -> Result<u32> {
        if set.is_empty() {
            return Ok(NONE);
        }
        if let Some(number) = self.known.get(set) {
            return Ok(*number);
        }
        let begin = self.pairs.len();
        // As listxattr(2) is to count them: full names, each with its NUL.
        let mut size = 0;
        for (name, value) in set {
            let known = PREFIXES.iter().position(|prefix| name.starts_with(prefix));
            let Some(prefix) = known else {
                let name = String::from_utf8_lossy(name);
                return Err(Error::unsupported(format!("squashfs has no place for its attribute {name:?}")));
            };
            let rest = &name[PREFIXES[prefix].len()..];
            self.pairs.write(&(prefix as u16).to_le_bytes())?;
            self.pairs.write(&(rest.len() as u16).to_le_bytes())?;
            self.pairs.write(rest)?;
            self.pairs.write(&(value.len() as u32).to_le_bytes())?;
            self.pairs.write(value)?;
            size += name.len() + 1;
        }
        let number = self.sets.len() as u32;
        self.sets.push((begin, set.len() as u32, size as u32));
        self.known.insert(set, number);
        Ok(number)
    }

    /// Write them: where their table begins, if there is one.
    pub(super) fn write(self, codec: Codec, out: &mut Out<'_>) -> Result<u64> {
        if self.sets.is_empty() {
            return Ok(u64::MAX);
        }
        let mut ids = Metadata::new(codec.compressor(metadata::BLOCK)?);
        for (at, count, size) in &self.sets {
            let (block, offset) = self.pairs.locate(*at);
            ids.write(&(u64::from(block) << 16 | u64::from(offset)).to_le_bytes())?;
            ids.write(&count.to_le_bytes())?;
            ids.write(&size.to_le_bytes())?;
        }
        let pairs = out.at();
        out.write(&self.pairs.finish()?.0)?;
        let begin = out.at();
        let (bytes, starts) = ids.finish()?;
        out.write(&bytes)?;
        let table = out.at();
        let mut list = pairs.to_le_bytes().to_vec();
        list.extend_from_slice(&(self.sets.len() as u64).to_le_bytes());
        list.extend(starts.iter().flat_map(|at| (begin + u64::from(*at)).to_le_bytes()));
        out.write(&list)?;
        Ok(table)
    }
}
