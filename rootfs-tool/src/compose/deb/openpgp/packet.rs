//! Packets, and the fields in them.

use coracle_sys::{Error, Result};

/// A packet: its tag and its body.
pub(super) type Packet<'a> = (u8, &'a [u8]);

pub(super) fn bad(why: &str) -> Error {
    Error::invalid(format!("read the OpenPGP packets: {why}"))
}

/// All packets.
pub(super) fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>> {
    let mut input = Input(bytes);
    let mut all = Vec::new();
    while !input.0.is_empty() {
        let head = input.byte()?;
        if head & 0x80 == 0 {
            return Err(bad("there is something that is none"));
        }
        let (tag, length) = match head & 0x40 {
            0 => {
                let length = match head & 3 {
                    0 => usize::from(input.byte()?),
                    1 => input.number(2)?,
                    2 => input.number(4)?,
                    _ => return Err(bad("one has no length")),
                };
                ((head >> 2) & 15, length)
            }
            _ => (head & 63, input.length()?),
        };
        all.push((tag, input.take(length)?));
    }
    Ok(all)
}

/// Fields, from the front.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| bad("one is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Of at most four bytes, the largest first.
    pub(super) fn number(&mut self, bytes: usize) -> Result<usize> {
        Ok(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    /// The length of a packet in the new format, and of a subpacket.
    pub(super) fn length(&mut self) -> Result<usize> {
        match self.byte()? {
            first @ ..192 => Ok(usize::from(first)),
            first @ 192..224 => Ok(((usize::from(first) - 192) << 8) + usize::from(self.byte()?) + 192),
            255 => self.number(4),
            _ => Err(bad("one comes in parts, which none of these may")),
        }
    }

    /// A number of many bytes, without zeros before it.
    pub(super) fn integer(&mut self) -> Result<&'a [u8]> {
        let bits = self.number(2)?;
        let bytes = self.take(bits.div_ceil(8))?;
        Ok(&bytes[bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len())..])
    }
}

/// With zeros before it, so long.
pub(super) fn padded(integer: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(integer.len())?;
    Some([&vec![0; zeros][..], integer].concat())
}
