//! The walk over a tar archive: ustar, PAX and GNU headers become entries, each with its data.
//! Fields are read from the raw header, since what an archive means is decided here alone: PAX
//! beats ustar, an extension belongs to the next file and not to another extension, a header that
//! is not sound is an error. Nothing is written, and no name is judged but for its length.

mod sparse;

use std::io::{ErrorKind, Read};

use coracle_sys::{Context, Error, Result};
use tar::Header;

use super::Limits;
use super::field::{device, number, positive, until_nul};
use super::pax::Extensions;
pub use super::pax::Piece;

const BLOCK: usize = 512;
/// What the extension headers (PAX records, long names) of one entry hold together.
const MAX_EXTENSION: u64 = 1 << 20;
/// What may stand behind the archive's end: the padding of the largest tape block, and much more.
const MAX_BEHIND: u64 = 64 << 20;
/// Names and link targets are refused beyond PATH_MAX.
const MAX_PATH: usize = 4096;

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
        let mut room = MAX_EXTENSION;
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
                let size = u64::try_from(size).ok().filter(|s| *s <= room).ok_or_else(|| {
                    Error::invalid(format!(
                        "read the archive: an extension of {size} bytes: one entry's hold {MAX_EXTENSION} at most"
                    ))
                })?;
                room -= size;
                self.count(size)?;
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

    /// Go behind the current entry's data without reading it. `seek` moves the input on by so many bytes; where
    /// the entry's data begins, it is called with the input there.
    pub fn pass_over(&mut self, seek: impl FnOnce(&mut R, u64) -> std::io::Result<()>) -> Result<()> {
        let n = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        seek(&mut self.input, n).context(|| "pass over an entry of the archive")
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
            let claimed = number(&header.as_old().cksum, "checksum").map_err(|_| {
                Error::invalid(
                    "read the archive: it is no tar, or it is broken: a header's checksum is no number",
                )
            })?;
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
        let mut behind = 0;
        while !self.ended {
            let n = retry(|| self.input.read(&mut sink)).context(|| "read the archive")?;
            self.ended = n == 0;
            behind += n as u64;
            if behind > MAX_BEHIND {
                let why = format!("read the archive: more than {MAX_BEHIND} bytes stand behind its end");
                return Err(Error::invalid(why));
            }
        }
        Ok(None)
    }

    /// What it brings counts against the limit.
    fn count(&mut self, bytes: u64) -> Result<()> {
        self.total = self.total.saturating_add(bytes);
        let most = self.limits.size;
        match self.total > most {
            true => Err(Error::invalid(format!("read the archive: its files are larger than {most} bytes"))),
            false => Ok(()),
        }
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
            sparse::check_pieces(pieces, size, self.left)?;
        }
        self.count(size)?;
        let id = |given: Option<u64>, field: &[u8], what| {
            let id = match given {
                Some(id) => id,
                None => positive(number(field, what)?, what)?,
            };
            // The last one of 32 bits means "leave it as it is" to chown(2).
            match id < u64::from(u32::MAX) {
                true => Ok(id),
                false => Err(Error::invalid(format!("read the archive: {what} {id} is out of range"))),
            }
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
