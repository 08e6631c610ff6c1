//! Content digests: `sha256:` and 64 lower-case hex digits. Other algorithms are refused by name.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use coracle_sys::{Error, Result, json};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The SHA-256 digest of some content. The default one is nobody's: a place for another to be read into.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The bytes that it is.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            out.push(DIGITS[usize::from(byte >> 4)].into());
            out.push(DIGITS[usize::from(byte & 15)].into());
        }
        out
    }

    /// The first 12 hex digits, as ids are shown.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// From 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let hex: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.as_chunks::<2>().0) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(out))
    }

    /// The chain id of a stack: that of the layers below, then this layer's diff id.
    pub fn chain(below: Option<&Digest>, diff_id: &Digest) -> Digest {
        match below {
            Some(below) => Self::of(format!("{below} {diff_id}").as_bytes()),
            None => *diff_id,
        }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let shown = || s.chars().take(100).collect::<String>();
        match s.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex).ok_or_else(|| {
                Error::invalid(format!("read the digest {:?}: sha256 has 64 hex digits", shown()))
            }),
            Some((algorithm, _)) if algorithm.len() < 20 && !algorithm.is_empty() => Err(Error::unsupported(
                format!("use the digest algorithm {algorithm:?}: only sha256 is known"),
            )),
            _ => Err(Error::invalid(format!("read the digest {:?}: it has the form sha256:HEX", shown()))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl json::Read for Digest {
    fn read(&mut self, value: json::Value) -> std::result::Result<(), json::Wrong> {
        *self = json::text(value)?.parse().map_err(|e: Error| json::Wrong::new(e.to_string()))?;
        Ok(())
    }
}

/// Hashes and counts what passes through it: a reader or a writer around another one.
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Hashing<T> {
    /// Around `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// What passed: its digest, its size, and what it passed through.
    pub fn finish(self) -> (Digest, u64, T) {
        (Digest(self.hash.finalize().into()), self.size, self.inner)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count(&buf[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.count(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_as_it_prints() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn what_is_no_sha256_digest_is_refused() {
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:e3b0",
            "sha512:e3b0",
            "sha256:../../../../etc/passwd../../../../etc/passwd../../../../etc/passwd.",
            &EMPTY[7..],
            &format!("{EMPTY}0"),
            "sha256:é3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_mutation_of_a_digest_is_read_as_another_spelling_of_it() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut text = EMPTY.as_bytes().to_vec();
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (seed >> 33) as usize % text.len();
            text[at] = (seed >> 17) as u8;
            if let Ok(s) = std::str::from_utf8(&text)
                && let Ok(d) = s.parse::<Digest>()
            {
                assert_eq!(d.to_string(), s);
            }
        }
    }

    #[test]
    fn a_chain_id_is_that_of_the_image_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(Digest::chain(None, &a), a);
        assert_eq!(Digest::chain(Some(&a), &b), Digest::of(format!("{a} {b}").as_bytes()));
    }
}
