//! Archives compressed as no layer of an image is, and as root file systems and archives of images come all the same:
//! xz and bzip2. What gzip and zstd have compressed passes as it is: layers are kept so.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use coracle_sys::{Context, Result};
use lzma_rust2::XzReader;

/// An xz stream asks for at most this much memory, in KiB: what `xz -9` wants, and as much again.
const XZ_MEMORY: u32 = 128 << 10;

/// The stream inside, where it is compressed by xz or bzip2; else the stream.
pub(crate) fn open<'a>(input: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    decoder(Box::new(input))
}

/// One decoder of each kind, whatever it reads from.
fn decoder<'a>(input: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>> {
    let mut input = BufReader::with_capacity(256 << 10, input);
    let head = input.fill_buf().context(|| "read the archive")?;
    Ok(match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(Named { by: "xz", inner: XzReader::new_mem_limit(input, true, XZ_MEMORY) })
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            Box::new(Named { by: "bzip2", inner: MultiBzDecoder::new(input) })
        }
        _ => Box::new(input),
    })
}

/// Is it compressed so? `head` are its first bytes.
pub(crate) fn is_packed(head: &[u8]) -> bool {
    head.starts_with(b"\xfd7zXZ\0") || head.starts_with(b"BZh")
}

/// A decoder whose errors say which it is.
struct Named<R> {
    by: &'static str,
    inner: R,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|e| match e.raw_os_error() {
            Some(_) => e,
            None => io::Error::new(e.kind(), format!("decompress by {}: {e}", self.by)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | xz`, and the same by bzip2.
    const XZ: &[u8] = include_bytes!("hello.xz");
    const BZIP2: &[u8] = include_bytes!("hello.bz2");

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut out = String::new();
        open(bytes).unwrap().read_to_string(&mut out).map(|_| out)
    }

    #[test]
    fn what_is_packed_is_opened_and_what_is_not_passes() {
        assert_eq!(read(XZ).unwrap(), "hello");
        assert_eq!(read(BZIP2).unwrap(), "hello");
        assert_eq!(read(&[XZ, XZ].concat()).unwrap(), "hellohello");
        assert_eq!(read(&[BZIP2, BZIP2].concat()).unwrap(), "hellohello");
        assert_eq!(read(b"plain").unwrap(), "plain");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_is_cut_off_or_bent_is_an_error_that_names_the_format() {
        for (whole, by) in [(XZ, "xz"), (BZIP2, "bzip2")] {
            for end in 6..whole.len() {
                let e = read(&whole[..end]).expect_err("it is cut off").to_string();
                assert!(e.contains(by), "{end}: {e}");
            }
            for at in 6..whole.len() {
                let mut bent = whole.to_vec();
                bent[at] ^= 0x55;
                // A bit that means nothing may be bent, but the content never is another.
                assert!(read(&bent).is_ok_and(|text| text == "hello") || read(&bent).is_err(), "{at}");
            }
        }
    }
}
