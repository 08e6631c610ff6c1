//! The walk over a tar archive: ustar, PAX and GNU headers become entries, each with its data.
//! Fields are read from the raw header, since what an archive means is decided here alone: PAX
//! beats ustar, an extension belongs to the next file and not to another extension, a header that
//! is not sound is an error. Nothing is written, and no name is judged but for its length.

use std::io::{ErrorKind, Read};

use coracle_sys::{Context, Error, Result};
use tar::Header;

use super::Limits;

const BLOCK: usize = 512;
/// An extension header (PAX records, a long name) is refused beyond this size.
const MAX_EXTENSION: u64 = 1 << 20;
/// Names and link targets are refused beyond PATH_MAX.
const MAX_PATH: usize = 4096;
/// Pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
}

/// A piece of a sparse file: `len` bytes of data at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it goes.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// One entry, as the archive has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The path, as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Where a link leads, as written.
    pub link: Vec<u8>,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// The modification time: seconds, and nanoseconds after them.
    pub mtime: (i64, u32),
    /// A file's size, holes included.
    pub size: u64,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The pieces of a sparse file.
    pub sparse: Option<Vec<Piece>>,
}

/// What extension headers say about the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

/// GNU's PAX records about a sparse file.
#[derive(Default)]
struct SparseRecords {
    version: Option<(u32, u32)>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    pieces: Vec<Piece>,
    offset: Option<u64>,
}

/// The entries of an archive.
pub struct Walk<R> {
    input: R,
    limits: Limits,
    /// Data of the current entry that was not read yet, and the padding after it.
    left: u64,
    padding: u64,
    entries: u64,
    total: u64,
    ended: bool,
}

impl<R: Read> Walk<R> {
    /// Over the archive in `input`, not compressed.
    pub fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, left: 0, padding: 0, entries: 0, total: 0, ended: false }
    }

    /// The next entry; what is left of the current one's data is passed over. After the last one
    /// the input is read to its end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut ext = Extensions::default();
        let mut extended = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if extended {
                    return Err(Error::invalid("read the archive: it ends after an extension header"));
                }
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                let most = self.limits.entries;
                return Err(Error::invalid(format!("read the archive: it has more than {most} entries")));
            }
            let kind = header.as_bytes()[156];
            let size = number(&header.as_old().size, "size")?;
            if matches!(kind, b'x' | b'X' | b'g' | b'L' | b'K') {
                let size = u64::try_from(size).ok().filter(|s| *s <= MAX_EXTENSION).ok_or_else(|| {
                    Error::invalid(format!("read the archive: an extension of {size} bytes"))
                })?;
                let data = self.extension(size)?;
                match kind {
                    b'x' | b'X' => ext.pax(&data)?,
                    b'L' => ext.path = Some(until_nul(&data).to_vec()),
                    b'K' => ext.link = Some(until_nul(&data).to_vec()),
                    _ => {}
                }
                extended |= kind != b'g';
                continue;
            }
            return self.entry(&header, ext).map(Some);
        }
    }

    /// Some data of the current entry; 0 at its end. Of a sparse file only the pieces are there,
    /// one after the other.
    pub fn read_data(&mut self, buf: &mut [u8]) -> Result<usize> {
        let most = self.left.min(buf.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let n = retry(|| self.input.read(&mut buf[..most])).context(|| "read the archive")?;
        if n == 0 {
            return Err(truncated());
        }
        self.left -= n as u64;
        Ok(n)
    }

    /// The input, after the last entry.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// A sound header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0u8; BLOCK];
        let mut zeros = 0;
        loop {
            if self.ended || !self.block(&mut block)? {
                return self.end();
            }
            if block.iter().all(|b| *b == 0) {
                zeros += 1;
                if zeros == 2 {
                    return self.end();
                }
                continue;
            }
            if zeros > 0 {
                return Err(Error::invalid("read the archive: a block of zeros stands before a header"));
            }
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&block);
            let claimed = number(&header.as_old().cksum, "checksum")?;
            let sums = |field: &[u8]| {
                let (mut unsigned, mut signed) = (8 * i64::from(b' '), 8 * i64::from(b' '));
                for b in field {
                    unsigned += i64::from(*b);
                    signed += i64::from(*b as i8);
                }
                (unsigned, signed)
            };
            let (a, b) = (sums(&block[..148]), sums(&block[156..]));
            let spaces = 8 * i64::from(b' ');
            if claimed != a.0 + b.0 - spaces && claimed != a.1 + b.1 - spaces {
                return Err(Error::invalid("read the archive: a header's checksum is wrong"));
            }
            return Ok(Some(header));
        }
    }

    /// Read what stands after the end, so that who hashes the stream has seen all of it.
    fn end(&mut self) -> Result<Option<Header>> {
        let mut sink = [0u8; 16 * 1024];
        while !self.ended {
            self.ended = retry(|| self.input.read(&mut sink)).context(|| "read the archive")? == 0;
        }
        Ok(None)
    }

    /// One whole block, or none at the end of the input.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut have = 0;
        while have < BLOCK {
            match retry(|| self.input.read(&mut block[have..])).context(|| "read the archive")? {
                0 if have == 0 => {
                    self.ended = true;
                    return Ok(false);
                }
                0 => return Err(truncated()),
                n => have += n,
            }
        }
        Ok(true)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        self.expect(size);
        let mut data = vec![0; size as usize];
        let mut have = 0;
        while have < data.len() {
            have += self.read_data(&mut data[have..])?;
        }
        Ok(data)
    }

    /// The current entry has this much data in the archive.
    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<()> {
        let mut sink = [0u8; 16 * 1024];
        while self.left > 0 {
            self.read_data(&mut sink)?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            let most = self.left.min(sink.len() as u64) as usize;
            match retry(|| self.input.read(&mut sink[..most])).context(|| "read the archive")? {
                0 => return Err(truncated()),
                n => self.left -= n as u64,
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, ext: Extensions) -> Result<Entry> {
        let old = header.as_old();
        let raw = header.as_bytes();
        let gnu = header.as_gnu();
        let ustar = header.as_ustar();
        let kind = match raw[156] {
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let shown = char::from(other).escape_default();
                return Err(Error::unsupported(format!("read the archive: an entry of type '{shown}'")));
            }
        };
        let mut path = match (&ext.sparse.name, &ext.path) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => {
                let name = until_nul(&old.name);
                match ustar.map(|u| until_nul(&u.prefix)) {
                    Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
                    _ => name.to_vec(),
                }
            }
        };
        // Before ustar a directory was a file whose name ends in a slash.
        let kind =
            if kind == Kind::File && path.ends_with(b"/") && raw[156] != b'S' { Kind::Dir } else { kind };
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let link = ext.link.unwrap_or_else(|| until_nul(&old.linkname).to_vec());
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(Error::invalid(format!("read the archive: a name is longer than {MAX_PATH} bytes")));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(Error::invalid("read the archive: a name holds a NUL byte"));
        }
        let stored = match ext.size {
            Some(size) => size,
            None => positive(number(&old.size, "size")?, "size")?,
        };
        // Only files have data, whatever the size of another entry says; old archives give hard
        // links the size of their file and no data.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.expect(stored);
        let mut sparse = None;
        let mut size = stored;
        if raw[156] == b'S' {
            let gnu =
                gnu.ok_or_else(|| Error::invalid("read the archive: a sparse file without GNU's header"))?;
            size = positive(number(&gnu.realsize, "real size")?, "real size")?;
            sparse = Some(self.gnu_pieces(gnu)?);
        } else if let (Kind::File, Some(records)) = (kind, ext.sparse.any()) {
            (size, sparse) = self.pax_pieces(records).map(|(s, p)| (s, Some(p)))?;
        }
        if let Some(pieces) = &sparse {
            check_pieces(pieces, size, self.left)?;
        }
        self.total = self.total.saturating_add(size);
        if self.total > self.limits.size {
            let most = self.limits.size;
            return Err(Error::invalid(format!("read the archive: its files are larger than {most} bytes")));
        }
        let id = |given: Option<u64>, field: &[u8], what| match given {
            Some(id) => Ok(id),
            None => positive(number(field, what)?, what),
        };
        let device = match (kind, ustar, gnu) {
            (Kind::Char | Kind::Block, Some(u), _) => device(&u.dev_major, &u.dev_minor)?,
            (Kind::Char | Kind::Block, _, Some(g)) => device(&g.dev_major, &g.dev_minor)?,
            _ => (0, 0),
        };
        Ok(Entry {
            path,
            kind,
            link,
            mode: (number(&old.mode, "mode")? & 0o7777) as u32,
            uid: id(ext.uid, &old.uid, "uid")?,
            gid: id(ext.gid, &old.gid, "gid")?,
            mtime: match ext.mtime {
                Some(t) => t,
                None => (number(&old.mtime, "mtime")?, 0),
            },
            size,
            device,
            xattrs: ext.xattrs,
            sparse,
        })
    }

    /// The pieces in a header of GNU's type `S`, and in the blocks that may follow it.
    fn gnu_pieces(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
            for s in sparse.iter().filter(|s| s.offset[0] != 0 && s.numbytes[0] != 0) {
                let offset = positive(number(&s.offset, "offset")?, "offset")?;
                let len = positive(number(&s.numbytes, "length")?, "length")?;
                pieces.push(Piece { offset, len });
            }
            if pieces.len() > MAX_PIECES {
                Err(Error::invalid("read the archive: a map is too long"))
            } else {
                Ok(())
            }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.isextended[0] == 1;
        while more {
            let mut block = [0u8; BLOCK];
            if !self.block(&mut block)? {
                return Err(truncated());
            }
            let mut next = tar::GnuExtSparseHeader::new();
            next.as_mut_bytes().copy_from_slice(&block);
            add(&next.sparse)?;
            more = next.isextended[0] == 1;
        }
        Ok(pieces)
    }

    /// The pieces of GNU's PAX formats 0.0, 0.1 (in the records) and 1.0 (before the data).
    fn pax_pieces(&mut self, records: SparseRecords) -> Result<(u64, Vec<Piece>)> {
        let size =
            records.size.ok_or_else(|| Error::invalid("read the archive: a sparse file without a size"))?;
        match records.version {
            Some((1, 0)) => {}
            None | Some((0, _)) => return Ok((size, records.pieces)),
            Some((a, b)) => {
                return Err(Error::unsupported(format!("read the archive: sparse format {a}.{b}")));
            }
        }
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut count = None;
        // Decimal numbers, one a line: how many pieces, then offset and length of each.
        while count.is_none_or(|c| numbers.len() < c) {
            let mut block = [0u8; BLOCK];
            let mut have = 0;
            while have < BLOCK {
                match self.read_data(&mut block[have..])? {
                    0 => return Err(Error::invalid("read the archive: a sparse file's map is cut off")),
                    n => have += n,
                }
            }
            for b in block {
                if b != b'\n' {
                    text.push(b);
                    continue;
                }
                let n =
                    decimal(&text).ok_or_else(|| Error::invalid("read the archive: a sparse file's map"))?;
                text.clear();
                match count {
                    None if n <= MAX_PIECES as u64 => count = Some(2 * n as usize),
                    None => return Err(Error::invalid("read the archive: a map is too long")),
                    Some(c) if numbers.len() < c => numbers.push(n),
                    Some(_) => {}
                }
                if count.is_some_and(|c| numbers.len() == c) {
                    break;
                }
            }
            if text.len() > 20 {
                return Err(Error::invalid("read the archive: a sparse file's map"));
            }
        }
        Ok((size, numbers.chunks_exact(2).map(|n| Piece { offset: n[0], len: n[1] }).collect()))
    }
}

impl SparseRecords {
    fn any(self) -> Option<Self> {
        let some = self.version.is_some() || self.size.is_some() || !self.pieces.is_empty();
        some.then_some(self)
    }
}

impl Extensions {
    /// PAX records: `LENGTH KEY=VALUE\n`, the length that of the whole record.
    fn pax(&mut self, mut data: &[u8]) -> Result<()> {
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

/// The pieces lie in order inside the file, and the archive has as much data as they say.
fn check_pieces(pieces: &[Piece], size: u64, stored: u64) -> Result<()> {
    let mut at = 0;
    let mut data = 0u64;
    for p in pieces {
        let end = p.offset.checked_add(p.len).filter(|e| p.offset >= at && *e <= size);
        at = end
            .ok_or_else(|| Error::invalid("read the archive: a sparse file's pieces overlap or stick out"))?;
        data += p.len;
    }
    if data != stored {
        return Err(Error::invalid("read the archive: a sparse file has more or less data than its map"));
    }
    Ok(())
}

/// A field: octal digits between blanks and NULs, or GNU's base 256, which may be negative.
fn number(field: &[u8], what: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("read the archive: a header's {what} is no number"));
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let fill = if negative { 0xff } else { 0 };
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let mut value: u64 = if negative { u64::MAX } else { 0 };
        let first = if negative { field[0] } else { field[0] & 0x7f };
        for (n, b) in low.iter().enumerate() {
            let b = if high.is_empty() && n == 0 { first } else { *b };
            value = value << 8 | u64::from(b);
        }
        if high.iter().enumerate().any(|(n, b)| (if n == 0 { first } else { *b }) != fill) {
            return Err(bad());
        }
        let value = value as i64;
        return if (value < 0) == negative { Ok(value) } else { Err(bad()) };
    }
    let text = until_nul(field).trim_ascii();
    let mut value: i64 = 0;
    for b in text {
        let digit = b.checked_sub(b'0').filter(|d| *d < 8).ok_or_else(bad)?;
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit))).ok_or_else(bad)?;
    }
    Ok(value)
}

fn device(major: &[u8], minor: &[u8]) -> Result<(u32, u32)> {
    let part = |field, what| {
        u32::try_from(number(field, what)?)
            .map_err(|_| Error::invalid(format!("read the archive: a header's {what} is out of range")))
    };
    Ok((part(major, "major number")?, part(minor, "minor number")?))
}

fn positive(n: i64, what: &str) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::invalid(format!("read the archive: a header's {what} is negative")))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time: decimal seconds with a fraction, perhaps negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.');
    let (whole, fraction) = (&text[..dot.unwrap_or(text.len())], dot.map_or(&b""[..], |d| &text[d + 1..]));
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0, |n, i| n * 10 + u32::from(fraction.get(i).map_or(0, |b| b - b'0')));
    Some(match (negative, nanos) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn truncated() -> Error {
    Error::invalid("read the archive: it is cut off")
}

fn retry(mut read: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match read() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
