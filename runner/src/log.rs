//! A container's log: `log` in its directory, and what was rotated away from it as `log.1`, the youngest, `log.2` and on. A
//! line is CRI's: time, stream, `F` or `P` where the rest of it comes with the next, and what was written, byte for byte.
//! `logs` reads it while it is written: a piece of it is written by one call.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, quantity, time};

use crate::relay::Stream;

/// How much is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Bytes of one file.
    pub(crate) size: u64,
    /// How many files.
    pub(crate) files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: 10 << 20, files: 3 }
    }
}

impl Limits {
    /// What `--log-driver` and `--log-opt` say; nothing is kept where it says `none`.
    pub(crate) fn of(driver: Option<&str>, options: &[String]) -> Result<Option<Self>> {
        match driver {
            None | Some("local" | "k8s-file") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(Error::unsupported(format!(
                    "--log-driver {other}: there are local (lines as CRI has them, rotated) and none"
                )));
            }
        }
        let mut limits = Self::default();
        for option in options {
            let wrong =
                || Error::usage(format!("--log-opt {option:?}: there are max-size=SIZE and max-file=N"));
            match option.split_once('=').ok_or_else(wrong)? {
                ("max-size", "-1") => limits.size = u64::MAX,
                ("max-size", size) => limits.size = quantity::size(size, "--log-opt max-size")?.max(1),
                ("max-file", n) => limits.files = n.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(Some(limits))
    }
}

/// The writing side.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limits: Limits,
}

impl Log {
    /// Go on with the log of the container whose directory this is.
    pub(crate) fn open(dir: &Path, limits: Limits) -> Result<Self> {
        let path = dir.join("log");
        let file = append(&path)?;
        let size = file.metadata().context(|| format!("fstat({path:?})"))?.len();
        Ok(Self { path, file, size, limits })
    }

    /// What the container has just written. A full disk loses lines, and nothing else.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let text = lines(&time::rfc3339_now(), stream, bytes);
        let mut rest = &text[..];
        while !rest.is_empty() {
            let room = usize::try_from(self.limits.size.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let fits = match rest.len() <= room {
                true => rest.len(),
                false => rest[..room].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1),
            };
            if fits == 0 && self.size > 0 {
                self.rotate();
                if self.size > 0 {
                    return;
                }
                continue;
            }
            // A line that is longer than a file may be has one of its own.
            let fits = if fits > 0 {
                fits
            } else {
                rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |n| n + 1)
            };
            let (piece, after) = rest.split_at(fits);
            match self.file.write(piece) {
                Ok(n) if n == piece.len() => self.size += n as u64,
                // Nothing is left of half a piece, so that the next line begins on its own.
                _ => drop(self.file.set_len(self.size)),
            }
            rest = after;
        }
    }

    fn rotate(&mut self) {
        let old = |n: u64| self.path.with_extension(n.to_string());
        for n in (1..self.limits.files.saturating_sub(1)).rev() {
            let _ = std::fs::rename(old(n), old(n + 1));
        }
        let moved = match self.limits.files {
            1 => std::fs::remove_file(&self.path),
            _ => std::fs::rename(&self.path, old(1)),
        };
        if let (Ok(()), Ok(file)) = (moved, append(&self.path)) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn append(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().append(true).create(true).mode(0o600).open(path);
    file.context(|| format!("open({path:?}, O_APPEND|O_CREAT)"))
}

fn lines(time: &str, stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let stream = if stream == Stream::Output { "stdout" } else { "stderr" };
    let mut text = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let whole = line.ends_with(b"\n");
        text.extend_from_slice(time.as_bytes());
        text.extend_from_slice(b" ");
        text.extend_from_slice(stream.as_bytes());
        text.extend_from_slice(if whole { b" F " } else { b" P " });
        text.extend_from_slice(line);
        if !whole {
            text.push(b'\n');
        }
    }
    text
}

/// A line that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    /// RFC 3339, with nanoseconds.
    pub(crate) time: &'a str,
    /// Which stream.
    pub(crate) stream: Stream,
    /// What was written, with its end where it has one.
    pub(crate) text: &'a [u8],
    /// The next one of this stream goes on with it.
    pub(crate) partial: bool,
}

impl<'a> Line<'a> {
    /// One line with its end. None where it is no such line.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Output,
            b"stderr" => Stream::Error,
            _ => return None,
        };
        let partial = match fields.next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        let text = fields.next()?;
        let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        Some(Self { time, stream, text, partial })
    }
}

/// The reading side: all files of a log, the oldest first, and then what is added to them.
pub(crate) struct Reader {
    path: PathBuf,
    /// What is yet to be read, the next last.
    files: Vec<File>,
    current: Option<File>,
    /// What was read of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Reader {
    /// From the beginning.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        Self::of(&dir.join("log"))
    }

    /// Of any file of lines that is rotated so.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let path = path.to_path_buf();
        let mut files = Vec::new();
        for path in
            std::iter::once(path.clone()).chain((1..).map(|n: u32| path.with_extension(n.to_string())))
        {
            match File::open(&path) {
                Ok(file) => files.push(file),
                Err(e) if e.kind() == ErrorKind::NotFound => break,
                Err(e) => return Err(e).context(|| format!("open({path:?})")),
            }
        }
        let current = files.pop();
        Ok(Self { path, files, current, rest: Vec::new() })
    }

    /// Whether there is anything to read at all.
    pub(crate) fn is_there(&self) -> bool {
        self.current.is_some()
    }

    /// Hand on every line that is there.
    pub(crate) fn read(&mut self, mut line: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Some(file) = &mut self.current else { return Ok(()) };
            let n = match file.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other.context(|| format!("read({:?})", self.path))?,
            };
            if n == 0 {
                match self.next_file()? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            self.rest.extend_from_slice(&buffer[..n]);
            let mut done = 0;
            while let Some(end) = self.rest[done..].iter().position(|b| *b == b'\n') {
                line(&self.rest[done..=done + end])?;
                done += end + 1;
            }
            self.rest.drain(..done);
        }
    }

    /// Go back from the end so far that at least `lines` lines are still to be read. Whether that was possible with what
    /// is there.
    pub(crate) fn skip_to_last(&mut self, lines: usize) -> Result<()> {
        let mut all: Vec<File> = self.current.take().into_iter().collect();
        all.extend(std::mem::take(&mut self.files).into_iter().rev());
        // The youngest is the last now.
        let mut wanted = lines;
        let mut kept = Vec::new();
        while let Some(mut file) = all.pop() {
            let missing = seek_back(&mut file, wanted).context(|| format!("read({:?})", self.path))?;
            kept.push(file);
            wanted = missing;
            if missing == 0 {
                break;
            }
        }
        // `kept` begins with the youngest, so its last is the one to read first.
        self.current = kept.pop();
        self.files = kept;
        Ok(())
    }

    /// The file after this one: one that was there, or the one that took its name meanwhile.
    fn next_file(&mut self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;
        if let Some(next) = self.files.pop() {
            self.current = Some(next);
            self.rest.clear();
            return Ok(true);
        }
        let Some(current) = &self.current else { return Ok(false) };
        let at = |m: std::fs::Metadata| (m.dev(), m.ino());
        let ours = current.metadata().map(at).context(|| "fstat(log)")?;
        match self.path.symlink_metadata().map(at) {
            Ok(other) if other != ours => {}
            _ => return Ok(false),
        }
        // Several may have come and gone; those between are named by number now.
        let newer = Self::of(&self.path)?;
        let mut files: Vec<File> = newer.files;
        files.extend(newer.current);
        if let Some(known) = files.iter().position(|f| f.metadata().map(at).is_ok_and(|m| m == ours)) {
            files.truncate(known);
        }
        self.current = files.pop();
        self.files = files;
        self.rest.clear();
        Ok(self.current.is_some())
    }
}

/// Put a file's position before its last `wanted` lines. How many of them it does not have.
fn seek_back(file: &mut File, wanted: usize) -> std::io::Result<usize> {
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut buffer = [0; 8192];
    while at > 0 {
        let piece = at.min(buffer.len() as u64);
        at -= piece;
        file.seek(SeekFrom::Start(at))?;
        let bytes = &mut buffer[..piece as usize];
        file.read_exact(bytes)?;
        for (n, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            // An end is one more line, and stands behind the place where the next begins.
            if found == wanted {
                file.seek(SeekFrom::Start(at + n as u64 + 1))?;
                return Ok(0);
            }
            found += 1;
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(wanted - found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-log-"));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    fn all(reader: &mut Reader) -> String {
        let mut text = Vec::new();
        reader
            .read(|line| {
                text.extend_from_slice(Line::parse(line).unwrap().text);
                Ok(())
            })
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_byte_for_byte() {
        let bytes = b"one\ntwo \xff\n\nprompt> ";
        let text = lines("T", Stream::Error, bytes);
        assert_eq!(text, b"T stderr F one\nT stderr F two \xff\nT stderr F \nT stderr P prompt> \n");
        let read: Vec<u8> = text
            .split_inclusive(|b| *b == b'\n')
            .flat_map(|l| Line::parse(l).unwrap().text.to_vec())
            .collect();
        assert_eq!(read, bytes);
        for wrong in [&b""[..], b"T", b"T stdout", b"T stdin F x\n", b"T stdout X x\n", b"\xff stdout F x\n"]
        {
            assert_eq!(Line::parse(wrong), None);
        }
    }

    #[test]
    fn a_log_is_rotated_and_read_as_one() {
        let dir = scratch();
        let mut log = Log::open(&dir, Limits { size: 200, files: 3 }).unwrap();
        let mut reader = Reader::open(&dir).unwrap();
        let mut followed = String::new();
        for n in 0..40 {
            log.write(Stream::Output, format!("line {n}\n").as_bytes());
            followed += &all(&mut reader);
        }
        let whole: String = (0..40).map(|n| format!("line {n}\n")).collect();
        assert_eq!(followed, whole, "who follows misses nothing");
        let left = all(&mut Reader::open(&dir).unwrap());
        assert!(whole.ends_with(&left) && left.lines().count() > 8, "{left}");
        assert!(dir.join("log.2").exists() && !dir.join("log.3").exists());
        for n in [0, 1, 5, 9, 100] {
            let mut reader = Reader::open(&dir).unwrap();
            reader.skip_to_last(n).unwrap();
            let last: Vec<String> = all(&mut reader).lines().map(str::to_owned).collect();
            let wanted: Vec<&str> =
                left.lines().rev().take(n).collect::<Vec<_>>().into_iter().rev().collect();
            assert_eq!(last, wanted, "the last {n}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn options_are_dockers() {
        let of = |driver, options: &[&str]| {
            Limits::of(driver, &options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(None, &[]).unwrap(), Some(Limits::default()));
        assert_eq!(of(Some("none"), &[]).unwrap(), None);
        let limits = of(Some("local"), &["max-size=1k", "max-file=7"]).unwrap();
        assert_eq!(limits, Some(Limits { size: 1024, files: 7 }));
        for wrong in ["max-size", "max-size=x", "max-file=0", "labels=a"] {
            assert!(of(None, &[wrong]).is_err(), "{wrong}");
        }
        assert!(of(Some("syslog"), &[]).is_err());
    }
}
