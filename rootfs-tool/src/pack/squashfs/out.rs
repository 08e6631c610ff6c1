//! The image as it is written, from its begin to its end.

use std::io::{Seek, SeekFrom, Write};

use coracle_sys::{Context, Result};

use super::metadata::Metadata;

/// What an image is written to.
pub(super) trait Target: Write + Seek {}

impl<T: Write + Seek> Target for T {}

/// The image, and how far it is.
pub(super) struct Out<'a> {
    pub(super) target: &'a mut dyn Target,
    pub(super) at: u64,
}

impl Out<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.target.write_all(bytes).context(|| "write the image")?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Write a table that is found by the places of its blocks, which come after it: where those begin.
    pub(super) fn table(&mut self, table: Metadata) -> Result<u64> {
        let begin = self.at;
        let (bytes, starts) = table.finish()?;
        self.write(&bytes)?;
        let places = self.at;
        let list: Vec<u8> = starts.iter().flat_map(|at| (begin + u64::from(*at)).to_le_bytes()).collect();
        self.write(&list)?;
        Ok(places)
    }

    /// The superblock, in the room that was left for it, when all is written and filled up to 4 KiB for who
    /// mounts it from a block device.
    pub(super) fn finish(&mut self, superblock: &[u8]) -> Result<()> {
        let filled = self.at.next_multiple_of(4096) - self.at;
        self.write(&vec![0; filled as usize])?;
        self.target.seek(SeekFrom::Start(0)).context(|| "lseek()")?;
        self.target.write_all(superblock).context(|| "write the image")?;
        self.target.flush().context(|| "write the image")
    }
}
