//! The compressors of squashfs: each block is a stream of its own.

use std::io::Write;

use coracle_sys::{Context, Result};
use flate2::{Compress, Crc, FlushCompress, Status};
use lzma_rust2::{Lzma2Options, Lzma2Writer, LzmaOptions, MfType};

/// How blocks are compressed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// zlib (RFC 1950), which the field calls gzip. Level 1 to 9.
    Gzip(u8),
    /// zstd (RFC 8878). Level 1 to 15.
    Zstd(u8),
    /// xz, with LZMA2 alone. Preset 0 to 9; a quicker one where none is named.
    Xz(Option<u8>),
}

impl Codec {
    /// Its number in the superblock.
    pub(super) fn id(self) -> u16 {
        match self {
            Self::Gzip(_) => 1,
            Self::Xz(_) => 4,
            Self::Zstd(_) => 6,
        }
    }

    /// The record behind the superblock, which is there when a level is not the format's own: readers show it.
    pub(super) fn options(self) -> Option<Vec<u8>> {
        match self {
            // Level, window, and no strategy besides the default one.
            Self::Gzip(level) if level != 9 => Some([u32::from(level).to_le_bytes(), [15, 0, 0, 0]].concat()),
            Self::Zstd(level) if level != 15 => Some(u32::from(level).to_le_bytes().to_vec()),
            _ => None,
        }
    }

    /// One that compresses blocks of at most `block` bytes.
    pub(super) fn compressor(self, block: usize) -> Result<Compressor> {
        Ok(match self {
            Self::Gzip(level) => {
                Compressor::Gzip(Box::new(Compress::new(flate2::Compression::new(level.into()), true)))
            }
            Self::Zstd(level) => {
                Compressor::Zstd(zstd::bulk::Compressor::new(level.into()).context(|| "make a zstd encoder")?)
            }
            Self::Xz(level) => {
                let mut options = LzmaOptions::with_preset(level.unwrap_or(6).into());
                options.dict_size = block as u32;
                if level.is_none() {
                    // In seven tenths of the time of preset 6, and 1.4 % larger.
                    (options.mf, options.nice_len, options.depth_limit) = (MfType::Hc4, 32, 10);
                }
                Compressor::Xz(Box::new(options))
            }
        })
    }
}

/// One thread's compressor, with what it keeps from block to block.
pub(super) enum Compressor {
    Gzip(Box<Compress>),
    Zstd(zstd::bulk::Compressor<'static>),
    Xz(Box<LzmaOptions>),
}

impl Compressor {
    /// The block compressed, unless that is not smaller.
    pub(super) fn compress(&mut self, block: &[u8]) -> Result<Option<Vec<u8>>> {
        let made = match self {
            Self::Gzip(compress) => {
                compress.reset();
                let mut out = Vec::with_capacity(block.len());
                let status = compress.compress_vec(block, &mut out, FlushCompress::Finish);
                match status.map_err(std::io::Error::from).context(|| "compress")? {
                    Status::StreamEnd => out,
                    // It is longer than what it was made of.
                    _ => return Ok(None),
                }
            }
            Self::Zstd(compressor) => compressor.compress(block).context(|| "compress")?,
            Self::Xz(options) => xz(block, options)?,
        };
        Ok((made.len() < block.len()).then_some(made))
    }
}

/// An xz stream of one block (The .xz File Format 1.1.0, sections 2 to 4), checked by CRC32: the kernel knows no other
/// check, and reads no filter that is not named here.
fn xz(block: &[u8], options: &LzmaOptions) -> Result<Vec<u8>> {
    let sum = |bytes: &[u8]| {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let flags = [0, 1];
    let mut out = b"\xfd7zXZ\0".to_vec();
    out.extend_from_slice(&flags);
    out.extend_from_slice(&sum(&flags));
    // The block's header: 12 bytes, one filter, which is LZMA2 with one byte for a dictionary of 2^n bytes.
    let header = [2, 0, 0x21, 1, (options.dict_size.trailing_zeros() as u8 - 12) * 2, 0, 0, 0];
    let begin = out.len();
    out.extend_from_slice(&header);
    out.extend_from_slice(&sum(&header));
    let lzma = Lzma2Options { lzma_options: options.clone(), ..Lzma2Options::default() };
    let mut writer = Lzma2Writer::new(out, lzma);
    writer.write_all(block).context(|| "compress")?;
    let mut out = writer.finish().context(|| "compress")?;
    let unpadded = out.len() - begin + 4;
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(&sum(block));
    // The index: one record.
    let mut index = vec![0, 1];
    for mut number in [unpadded, block.len()] {
        while number > 0x7f {
            index.push(number as u8 | 0x80);
            number >>= 7;
        }
        index.push(number as u8);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend_from_slice(&sum(&index));
    out.extend_from_slice(&index);
    let mut footer = (index.len() as u32 / 4 - 1).to_le_bytes().to_vec();
    footer.extend_from_slice(&flags);
    out.extend_from_slice(&sum(&footer));
    out.extend_from_slice(&footer);
    out.extend_from_slice(b"YZ");
    Ok(out)
}
