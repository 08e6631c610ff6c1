//! An image as it is written, from its begin to its end, and then the superblock in the room that was left for it.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use coracle_sys::{Context, Result};
use flate2::Crc;

/// What an image is written to, at any place. It begins empty: what is not written reads as zeros.
pub(crate) trait Target: Write + Seek {}

impl<T: Write + Seek> Target for T {}

/// The image, and how far it is.
pub(crate) struct Out<'a> {
    target: BufWriter<&'a mut dyn Target>,
    at: u64,
    sum: Crc,
}

impl<'a> Out<'a> {
    /// One that leaves this room at its begin.
    pub(crate) fn after(room: u64, target: &'a mut dyn Target) -> Result<Self> {
        target.seek(SeekFrom::Start(room)).context(|| format!("lseek({room})"))?;
        Ok(Self { target: BufWriter::with_capacity(256 << 10, target), at: room, sum: Crc::new() })
    }

    /// Where the next byte goes.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// A sum of all that was written.
    pub(crate) fn sum(&self) -> u32 {
        self.sum.sum()
    }

    /// Write.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.target.write_all(bytes).context(|| "write the image")?;
        self.sum.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros, up to a multiple of 4 KiB: what mounts it reads it in blocks of that size.
    pub(crate) fn fill_block(&mut self) -> Result<()> {
        let missing = self.at.next_multiple_of(4096) - self.at;
        self.write(&[0; 4096][..missing as usize])
    }

    /// The end: the superblock, or another begin.
    pub(crate) fn finish(mut self, at: u64, begin: &[u8]) -> Result<()> {
        self.target.seek(SeekFrom::Start(at)).context(|| format!("lseek({at})"))?;
        self.target.write_all(begin).and_then(|()| self.target.flush()).context(|| "write the image")
    }
}
