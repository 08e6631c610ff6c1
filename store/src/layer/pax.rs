//! Extension headers: what PAX records and GNU's long names say about the next entry. GNU's records
//! about sparse files are gathered here, and understood in [`super::walk`].

use coracle_sys::{Error, Result};

use super::field::{decimal, time};

/// A piece of a sparse file: `len` bytes of data at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it goes.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// What extension headers say about the next entry.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// GNU's PAX records about a sparse file.
#[derive(Default)]
pub(super) struct SparseRecords {
    pub(super) version: Option<(u32, u32)>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) pieces: Vec<Piece>,
    pub(super) offset: Option<u64>,
}

impl SparseRecords {
    pub(super) fn any(self) -> Option<Self> {
        let some = self.version.is_some() || self.size.is_some() || !self.pieces.is_empty();
        some.then_some(self)
    }
}

impl Extensions {
    /// PAX records: `LENGTH KEY=VALUE\n`, the length that of the whole record.
    pub(super) fn pax(&mut self, mut data: &[u8]) -> Result<()> {
        let bad = |why: &str| Error::invalid(format!("read the archive: a PAX record {why}"));
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(|| bad("without a length"))?;
            let len = decimal(&data[..space]).ok_or_else(|| bad("without a length"))?;
            let len = usize::try_from(len).ok().filter(|l| *l > space + 1 && *l <= data.len());
            let len = len.ok_or_else(|| bad("of a wrong length"))?;
            let record = data[space + 1..len].strip_suffix(b"\n").ok_or_else(|| bad("without an end"))?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(|| bad("without a value"))?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            self.record(key, value)
                .ok_or_else(|| bad(&format!("{:?} of a wrong value", String::from_utf8_lossy(key))))?;
            data = &data[len..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // An empty value takes back what a global header said, and those are ignored.
        let number = |v: &[u8]| if v.is_empty() { Some(None) } else { decimal(v).map(Some) };
        match key {
            b"path" => self.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => self.link = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"GNU.sparse.major" => {
                self.sparse.version =
                    Some((u32::try_from(decimal(value)?).ok()?, self.sparse.version.map_or(0, |v| v.1)));
            }
            b"GNU.sparse.minor" => {
                self.sparse.version =
                    Some((self.sparse.version.map_or(0, |v| v.0), u32::try_from(decimal(value)?).ok()?));
            }
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.offset" => self.sparse.offset = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take()?;
                self.sparse.pieces.push(Piece { offset, len: decimal(value)? });
            }
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> =
                    value.split(|b| *b == b',').filter(|n| !n.is_empty()).map(decimal).collect();
                let numbers = numbers?;
                if numbers.len() % 2 != 0 {
                    return None;
                }
                self.sparse.pieces =
                    numbers.chunks_exact(2).map(|n| Piece { offset: n[0], len: n[1] }).collect();
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}
