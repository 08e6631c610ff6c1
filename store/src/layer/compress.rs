//! A writer whose bytes come out compressed: the same bytes whenever the same went in, however many processors
//! were there.

use std::io::{self, Write};
use std::thread;

use coracle_sys::{Context, Result};
use flate2::write::DeflateEncoder;
use flate2::{Compression as Level, Crc};

use super::Compression;

/// What one thread compresses at a time.
const PIECE: usize = 1 << 20;
/// As docker and gzip have it.
const GZIP_LEVEL: u32 = 6;
/// As zstd(1) has it.
const ZSTD_LEVEL: i32 = 3;

/// Compresses what is written to it. What is not finished is not whole.
pub struct Compressor<W: Write> {
    way: Way<W>,
}

enum Way<W: Write> {
    None(W),
    Gzip(Gzip<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// One that writes to `out`. Levels are those of gzip(1) and zstd(1), and theirs where none is named.
    pub fn new(out: W, how: Compression, level: Option<i32>) -> Result<Self> {
        let way = match how {
            Compression::None => Way::None(out),
            Compression::Gzip => Way::Gzip(Gzip::new(out, level.map_or(GZIP_LEVEL, |l| l.max(0) as u32))?),
            Compression::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(out, level.unwrap_or(ZSTD_LEVEL));
                let mut encoder = encoder.context(|| "make a zstd encoder")?;
                encoder.include_checksum(true).context(|| "make a zstd encoder")?;
                Way::Zstd(encoder)
            }
        };
        Ok(Self { way })
    }

    /// Write what is left, and give back what was written to.
    pub fn finish(self) -> Result<W> {
        match self.way {
            Way::None(out) => Ok(out),
            Way::Gzip(gzip) => gzip.finish(),
            Way::Zstd(encoder) => encoder.finish(),
        }
        .context(|| "compress")
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.way {
            Way::None(out) => out.write(bytes),
            Way::Gzip(gzip) => gzip.write(bytes),
            Way::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::None(out) => out.flush(),
            // What is compressed together is not torn apart by who wants to see it early.
            Way::Gzip(_) | Way::Zstd(_) => Ok(()),
        }
    }
}

/// One gzip member (RFC 1952), whose pieces are compressed side by side: each ends on a byte's border, and what
/// was made of them is the same however many do it.
struct Gzip<W: Write> {
    out: W,
    level: u32,
    workers: usize,
    waiting: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    fn new(mut out: W, level: u32) -> Result<Self> {
        // Deflate; no name and no time; an unknown system.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]).context(|| "compress")?;
        let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
        Ok(Self { out, level, workers, waiting: Vec::new(), crc: Crc::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let round = self.workers * PIECE;
        let taken = bytes.len().min(round - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == round {
            self.compress(false)?;
        }
        Ok(taken)
    }

    /// Compress what waits.
    fn compress(&mut self, last: bool) -> io::Result<()> {
        let level = self.level;
        let mut pieces: Vec<&[u8]> = self.waiting.chunks(PIECE).collect();
        // The end is marked even where nothing is left.
        if last && pieces.is_empty() {
            pieces.push(&[]);
        }
        let count = pieces.len();
        let made: Vec<io::Result<(Vec<u8>, Crc)>> = thread::scope(|scope| {
            let work = |(n, piece): (usize, _)| {
                let ends = last && n + 1 == count;
                scope.spawn(move || deflate(piece, level, ends))
            };
            let threads: Vec<_> = pieces.into_iter().enumerate().map(work).collect();
            let lost = || Err(io::Error::other("a thread that compressed has ended"));
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
        });
        for piece in made {
            let (bytes, sum) = piece?;
            self.crc.combine(&sum);
            self.out.write_all(&bytes)?;
        }
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.compress(true)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

fn deflate(piece: &[u8], level: u32, last: bool) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(piece);
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(piece.len() / 2), Level::new(level));
    encoder.write_all(piece)?;
    let bytes = match last {
        true => encoder.finish()?,
        false => {
            // A flush that ends on a byte's border.
            encoder.flush()?;
            std::mem::take(encoder.get_mut())
        }
    };
    Ok((bytes, crc))
}

/// Compress all that can be read.
pub(crate) fn all(mut input: impl io::Read, out: impl Write, how: Compression) -> Result<()> {
    let mut out = Compressor::new(out, how, None)?;
    // Long reads, whatever the input would give by itself.
    let mut buf = vec![0; 256 << 10];
    loop {
        match super::fill(&mut input, &mut buf).context(|| "read the layer")? {
            0 => return out.finish().map(drop),
            n => out.write_all(&buf[..n]).context(|| "compress")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_in_pieces_is_one_member_and_reads_as_before() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 12345] {
            let bytes: Vec<u8> = (0..size).map(|n| (n * n / 7 % 253) as u8).collect();
            let (mut gz, mut again) = (Vec::new(), Vec::new());
            all(&bytes[..], &mut gz, Compression::Gzip).unwrap();
            all(&bytes[..], &mut again, Compression::Gzip).unwrap();
            assert_eq!(gz, again);
            let mut out = Vec::new();
            let mut one = flate2::read::GzDecoder::new(&gz[..]);
            one.read_to_end(&mut out).unwrap();
            assert!(out == bytes, "{size}");
            let mut zst = Vec::new();
            all(&bytes[..], &mut zst, Compression::Zstd).unwrap();
            assert!(zstd::decode_all(&zst[..]).unwrap() == bytes, "{size}");
        }
    }
}
