//! A tar that can be read at any place: its members by name, and where each begins. What cannot be seeked in, or
//! is compressed, is written to a file without a name first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use coracle_store::layer::walk::{Kind, Walk};
use coracle_store::layer::{Compression, Limits, decompress};
use coracle_sys::{Context, Error, Result, interrupt};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::packed;

/// Members of an archive of images.
const MAX_MEMBERS: usize = 100_000;
/// Bytes of their names together.
const MAX_NAMES: usize = 32 << 20;
/// Small members are refused beyond this size.
const MAX_JSON: u64 = 4 << 20;

/// The members of a tar in a file.
pub(crate) struct Members {
    file: File,
    all: BTreeMap<String, Place>,
}

#[derive(Clone)]
enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// Another name: older dockers write a layer once, and link to it.
    Link(String),
}

impl Members {
    /// Of an archive, compressed or not. `spool` is a folder with room for it.
    pub(crate) fn open(input: File, spool: &Path) -> Result<Self> {
        let mut head = [0; 6];
        let seekable = (&input).stream_position().is_ok() && input.metadata().is_ok_and(|m| m.is_file());
        let plain = seekable
            && (&input).stream_position().is_ok_and(|at| at == 0)
            && input.read_at(&mut head, 0).is_ok()
            && Compression::of_bytes(&head) == Compression::None
            && !packed::is_packed(&head);
        let file = if plain { input } else { spooled(input, spool)? };
        let mut walk = Walk::new(BufReader::new(&file), Limits { size: u64::MAX, ..Limits::default() });
        let mut all = BTreeMap::new();
        let mut names = 0;
        while let Some(entry) = walk.next_entry()? {
            let mut offset = 0;
            walk.pass_over(|input, n| {
                offset = input.stream_position()?;
                input.seek_relative(i64::try_from(n).map_err(io::Error::other)?)
            })?;
            let Ok(path) = String::from_utf8(entry.path) else { continue };
            let name = clean("", &path);
            match entry.kind {
                Kind::File => all.insert(name, Place::At { offset, size: entry.size }),
                Kind::Symlink | Kind::HardLink => {
                    let base = if entry.kind == Kind::Symlink { name.as_str() } else { "" };
                    let target = clean(base, &String::from_utf8_lossy(&entry.link));
                    all.insert(name, Place::Link(target))
                }
                _ => None,
            };
            names += path.len() + entry.link.len();
            if names > MAX_NAMES {
                return Err(Error::invalid(format!(
                    "read the archive: the names of its members have more than {MAX_NAMES} bytes"
                )));
            }
            if all.len() > MAX_MEMBERS {
                return Err(Error::invalid(format!(
                    "read the archive: it has more than {MAX_MEMBERS} members"
                )));
            }
        }
        let end = file.metadata().context(|| "fstat()")?.len();
        let outside =
            |p: &Place| matches!(p, Place::At { offset, size } if offset.saturating_add(*size) > end);
        if all.values().any(outside) {
            return Err(Error::invalid("read the archive: it ends in the middle of an entry"));
        }
        Ok(Self { file, all })
    }

    /// Where a member begins, and its size.
    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let mut name = clean("", name);
        for _ in 0..8 {
            match self.all.get(&name) {
                Some(Place::At { offset, size }) => return Ok((*offset, *size)),
                Some(Place::Link(to)) => name.clone_from(to),
                None => break,
            }
        }
        Err(Error::not_found(format!("find {name:?} in the archive: it is not there")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// A member's size.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        Ok(self.find(name)?.1)
    }

    /// A member from an offset on.
    pub(crate) fn open_at(&self, name: &str, from: u64) -> Result<Section<'_>> {
        let (offset, size) = self.find(name)?;
        let from = from.min(size);
        Ok(Section { file: &self.file, at: offset + from, left: size - from })
    }

    /// A small member, whole.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.size(name)? > MAX_JSON {
            return Err(Error::invalid(format!(
                "read {name:?} of the archive: it has more than {MAX_JSON} bytes"
            )));
        }
        self.open_at(name, 0)?.read_to_end(&mut out).context(|| format!("read {name:?} of the archive"))?;
        Ok(out)
    }
}

/// A part of a file.
pub(crate) struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buf.len() as u64) as usize;
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A path of the archive without `.`, `..` and empty parts, seen from the folder of `base`.
fn clean(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = match path.starts_with('/') {
        true => Vec::new(),
        false => base.split('/').filter(|p| !p.is_empty()).collect(),
    };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Tells how much was read.
struct Counted<'a, R> {
    inner: R,
    came: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.came.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
}

/// Written to a file that has no name, and goes with us.
fn spooled(input: File, spool: &Path) -> Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(spool, flags, Mode::from_bits_truncate(0o600));
    let mut file = File::from(file.context(|| format!("open({spool:?}, O_TMPFILE)"))?);
    let came = AtomicU64::new(0);
    let input = BufReader::with_capacity(256 << 10, packed::open(Counted { inner: input, came: &came })?);
    let mut archive = decompress(input, None)?;
    let mut buf = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n = archive.read(&mut buf).context(|| "read the archive")?;
        if n == 0 {
            break;
        }
        bytes += n as u64;
        let most = Limits::default().size_of(came.load(Relaxed));
        if bytes > most {
            return Err(Error::invalid(format!("read the archive: it holds more than {most} bytes")));
        }
        io::Write::write_all(&mut file, &buf[..n]).context(|| "write the archive down")?;
        interrupt::check()?;
    }
    file.seek(SeekFrom::Start(0)).context(|| "lseek()")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_archive_stay_inside() {
        for (base, path, is) in [
            ("", "./a/b", "a/b"),
            ("", "../../etc/passwd", "etc/passwd"),
            ("x/layer.tar", "../y/layer.tar", "y/layer.tar"),
            ("x/layer.tar", "/y", "y"),
            ("", "a//b/../c", "a/c"),
        ] {
            assert_eq!(clean(base, path), is);
        }
    }
}
