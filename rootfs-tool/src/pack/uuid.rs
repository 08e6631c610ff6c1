//! Identifiers that are derived, never drawn: the same content has the same one, and what differs has another.

use std::fmt;
use std::io::{self, Write};

use coracle_store::digest::{Digest, Hashing};
use coracle_sys::{Error, Result};

use super::tree::{Kind, Node, Tree};

/// An identifier of RFC 9562, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

impl Uuid {
    /// From a digest: version 8, whose bits are its maker's own.
    pub(crate) fn of(digest: &Digest) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// From its text, which `flag` was given: 32 hex digits in groups of 8, 4, 4, 4 and 12.
    pub(crate) fn parse(text: &str, flag: &str) -> Result<Self> {
        let mut bytes = [0; 16];
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).take(32).collect();
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        match Self(bytes) {
            // RFC 9562, 5.9: it stands for none, and file systems take it for that.
            Self(bytes) if bytes == [0; 16] && digits.len() == 32 => {
                Err(Error::usage(format!("{flag} {text}: it is the UUID of nothing")))
            }
            uuid if uuid.to_string() == text.to_ascii_lowercase() => Ok(uuid),
            _ => Err(Error::usage(format!(
                "{flag} {text}: a UUID has the form 01234567-89ab-cdef-0123-456789abcdef"
            ))),
        }
    }

    /// As EFI has it: the first three groups are little-endian.
    pub(crate) fn guid(&self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let dash = if matches!(n, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// What an identifier is derived of, part by part. Each part is told with its length, so that none runs into the next.
pub(crate) struct Identity(Hashing<io::Sink>);

impl Identity {
    /// Of a thing of this kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut new = Self(Hashing::new(io::sink()));
        new.add(kind.as_bytes());
        new
    }

    /// Of a thing of this kind that is known by another identity.
    pub(crate) fn of(kind: &str, other: Self) -> Self {
        let mut new = Self::new(kind);
        new.add(other.digest().bytes());
        new
    }

    /// Add a part.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        // A sink takes everything.
        let _ = self.0.write_all(bytes);
    }

    /// Add a number.
    pub(crate) fn number(&mut self, n: u64) {
        let _ = self.0.write_all(&n.to_le_bytes());
    }

    /// Add what a tree is, without what its files hold: of these the sizes.
    pub(crate) fn tree(&mut self, tree: &Tree) {
        for node in &tree.nodes {
            self.node(node);
        }
    }

    fn node(&mut self, node: &Node) {
        let meta = &node.meta;
        for n in [meta.mode, meta.uid, meta.gid, meta.mtime.1] {
            self.number(n.into());
        }
        self.number(meta.mtime.0 as u64);
        self.number(meta.xattrs.len() as u64);
        for (name, value) in &meta.xattrs {
            self.add(name);
            self.add(value);
        }
        match &node.kind {
            Kind::Dir(entries) => {
                self.add(b"directory");
                for (name, at) in entries {
                    self.add(name);
                    self.number(*at as u64);
                }
            }
            Kind::File(data) => {
                self.add(b"file");
                self.number(data.size());
            }
            Kind::Symlink(target) => {
                self.add(b"link");
                self.add(target);
            }
            Kind::Char(major, minor) | Kind::Block(major, minor) => {
                self.add(if matches!(node.kind, Kind::Char(..)) { b"char" } else { b"block" });
                self.number(u64::from(*major) << 32 | u64::from(*minor));
            }
            Kind::Fifo => self.add(b"fifo"),
        }
    }

    /// The digest of all parts.
    pub(crate) fn digest(self) -> Digest {
        self.0.finish().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_as_it_is_written() {
        let uuid = Uuid::of(&Digest::of(b"content"));
        assert_eq!(Uuid::parse(&uuid.to_string(), "--uuid").expect("its own text"), uuid);
        assert_eq!(Uuid::parse(&uuid.to_string().to_uppercase(), "--uuid").expect("capitals"), uuid);
        assert_eq!(&uuid.to_string()[14..15], "8", "{uuid}: the version");
    }

    #[test]
    fn what_is_no_uuid_is_refused_by_name() {
        for text in [
            "",
            "x",
            "0123",
            "0123456789abcdef0123456789abcdef",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "{01234567-89ab-cdef-0123-456789abcdef}",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let error = Uuid::parse(text, "--uuid").expect_err(text).to_string();
            assert!(error.starts_with(&format!("--uuid {text}: ")), "{error}");
        }
    }
}
