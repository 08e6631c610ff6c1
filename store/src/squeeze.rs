//! Blobs that were made here are kept uncompressed, the quickest to make. Before they leave they are compressed,
//! once: what came of it is kept beside them for as long as they are, and found by `cache/squeezed/`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::thread;

use coracle_sys::{Context, Error, Result, file, json};
use flate2::write::DeflateEncoder;
use flate2::{Compression as Level, Crc};

use crate::digest::{Digest, Hashing};
use crate::image::Descriptor;
use crate::layer::Compression;
use crate::layout::Layout;
use crate::read::Store;
use crate::temp::Temp;
use crate::write::Transaction;

/// What one thread compresses at a time.
const PIECE: usize = 1 << 20;
/// As docker and gzip have it.
const GZIP_LEVEL: u32 = 6;
/// As zstd(1) has it.
const ZSTD_LEVEL: i32 = 3;

impl Transaction<'_> {
    /// The compressed likeness of an uncompressed layer, made when there is none yet. A layer that is
    /// compressed is its own.
    pub fn squeeze(&self, d: &Descriptor, how: Compression) -> Result<Descriptor> {
        if Compression::of_media_type(&d.media_type)? != Compression::None || how == Compression::None {
            return Ok(d.clone());
        }
        if let Some(known) = known(self.store(), self.layout(), &d.digest, how) {
            return Ok(known);
        }
        let squeeze = || -> Result<Descriptor> {
            let temp = Temp::file(self.layout())?;
            let input = self.store().open_blob(d)?;
            let mut out = Hashing::new(BufWriter::with_capacity(PIECE, temp.create()?));
            match how {
                Compression::Zstd => zstd_of(input, &mut out)?,
                _ => gzip_of(input, &mut out)?,
            }
            out.flush().context(|| "write a blob")?;
            let (digest, size, _) = out.finish();
            let file = File::open(temp.path()).context(|| format!("open({:?})", temp.path()))?;
            self.keep_blob(temp, &file, &digest)?;
            let made = Descriptor::new(how.media_type(), digest, size);
            let path = place(self.layout(), &d.digest, how);
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).context(|| format!("mkdir({dir:?})"))?;
            }
            let text = serde_json::to_vec(&made).map_err(|e| Error::invalid(e.to_string()))?;
            file::write_atomic(&path, &text, 0o644)?;
            Ok(made)
        };
        squeeze().map_err(|e| e.wrap(format!("compress the layer {}", d.digest)))
    }
}

/// Where it is noted what is compressed already.
pub(crate) fn notes(layout: &Layout) -> PathBuf {
    layout.root().join("cache/squeezed")
}

fn place(layout: &Layout, digest: &Digest, how: Compression) -> PathBuf {
    let how = if how == Compression::Zstd { "zstd" } else { "gzip" };
    notes(layout).join(format!("{}.{how}", digest.hex()))
}

/// The compressed likeness that there is.
fn known(store: &Store, layout: &Layout, digest: &Digest, how: Compression) -> Option<Descriptor> {
    let made: Descriptor = json::from_slice(&file::read(&place(layout, digest, how)).ok()?).ok()?;
    let path = store.blob_path(&made.digest)?;
    path.metadata().is_ok_and(|m| m.len() == made.size).then_some(made)
}

/// The compressed likenesses of a blob that there are.
pub(crate) fn all(store: &Store, digest: &Digest) -> impl Iterator<Item = Digest> {
    let both = [Compression::Gzip, Compression::Zstd];
    both.into_iter().filter_map(move |how| known(store, store.main(), digest, how)).map(|d| d.digest)
}

fn zstd_of(mut input: impl Read, out: &mut impl Write) -> Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).context(|| "make a zstd encoder")?;
    encoder.include_checksum(true).context(|| "make a zstd encoder")?;
    std::io::copy(&mut input, &mut encoder).context(|| "compress")?;
    encoder.finish().map(drop).context(|| "compress")
}

/// One gzip member (RFC 1952), whose pieces are compressed side by side: each ends on a byte's border, and what
/// was made of them is the same however many do it.
fn gzip_of(mut input: impl Read, out: &mut impl Write) -> Result<()> {
    let write = || "write a blob";
    // Deflate; no name and no time; an unknown system.
    out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]).context(write)?;
    let mut crc = Crc::new();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut last = false;
    while !last {
        let mut pieces = Vec::new();
        while pieces.len() < workers && !last {
            let mut piece = Vec::with_capacity(PIECE);
            input.by_ref().take(PIECE as u64).read_to_end(&mut piece).context(|| "read the layer")?;
            last = piece.len() < PIECE;
            pieces.push(piece);
        }
        let count = pieces.len();
        let made: Vec<Result<(Vec<u8>, Crc)>> = thread::scope(|scope| {
            let work =
                |(n, piece): (usize, Vec<u8>)| scope.spawn(move || deflate(&piece, last && n + 1 == count));
            let threads: Vec<_> = pieces.into_iter().enumerate().map(work).collect();
            let lost = || Err(Error::invalid("a thread that compressed has ended"));
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
        });
        for piece in made {
            let (bytes, sum) = piece?;
            crc.combine(&sum);
            out.write_all(&bytes).context(write)?;
        }
    }
    out.write_all(&crc.sum().to_le_bytes()).context(write)?;
    out.write_all(&crc.amount().to_le_bytes()).context(write)
}

fn deflate(piece: &[u8], last: bool) -> Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(piece);
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(piece.len() / 2), Level::new(GZIP_LEVEL));
    encoder.write_all(piece).context(|| "compress")?;
    let bytes = match last {
        true => encoder.finish().context(|| "compress")?,
        false => {
            // A flush that ends on a byte's border.
            encoder.flush().context(|| "compress")?;
            std::mem::take(encoder.get_mut())
        }
    };
    Ok((bytes, crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_in_pieces_is_one_member_and_reads_as_before() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 12345] {
            let bytes: Vec<u8> = (0..size).map(|n| (n * n / 7 % 253) as u8).collect();
            let (mut gz, mut again) = (Vec::new(), Vec::new());
            gzip_of(&bytes[..], &mut gz).unwrap();
            gzip_of(&bytes[..], &mut again).unwrap();
            assert_eq!(gz, again);
            let mut out = Vec::new();
            let mut one = flate2::read::GzDecoder::new(&gz[..]);
            one.read_to_end(&mut out).unwrap();
            assert!(out == bytes, "{size}");
            let mut zst = Vec::new();
            zstd_of(&bytes[..], &mut zst).unwrap();
            assert!(zstd::decode_all(&zst[..]).unwrap() == bytes, "{size}");
        }
    }
}
