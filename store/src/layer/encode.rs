//! One entry of an archive as bytes: ustar where it fits, PAX records for the rest.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use tar::Header;

use super::attributes::is_overlays;
use super::pack::{Content, Meta, Seen};
use super::tree::is;

/// Files up to this size are read at once.
const SMALL: usize = 64 << 10;

/// Write an entry with its content. Whether that still is as it was seen.
pub fn entry(out: &mut impl Write, path: &[u8], meta: &Meta, content: &Content) -> Result<bool> {
    match content {
        Content::File { path: from, size, seen } => {
            let mut copy = || {
                let (file, now) = open(from)?;
                let copied = match usize::try_from(*size) {
                    Ok(small) if small <= SMALL => {
                        head_and_bytes(out, path, meta, &Content::Bytes(all_of(file, small)?))
                    }
                    _ => streamed(out, path, meta, *size, file),
                };
                copied.map(|()| seen.is_none_or(|seen| seen == now))
            };
            copy().map_err(|e| e.wrap(format!("copy {from:?}")))
        }
        other => head_and_bytes(out, path, meta, other).map(|()| true),
    }
}

/// Write an entry whose bytes come from `from`: as many as its head says, or it is an error.
pub fn streamed(out: &mut impl Write, path: &[u8], meta: &Meta, size: u64, from: impl Read) -> Result<()> {
    head_and_bytes(out, path, meta, &Content::File { path: Default::default(), size, seen: None })?;
    // One more than there should be, to see that there is none.
    let copied = std::io::copy(&mut from.take(size + 1), out).context(|| "copy its bytes")?;
    if copied != size {
        return Err(changed(size));
    }
    pad(out, size)
}

/// All of a small file, in one call: of a plain file less than was asked for is its end.
fn all_of(mut file: File, size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size + 1];
    let mut have = 0;
    while have < size || have == 0 {
        match file.read(&mut bytes[have..]).context(|| "copy its bytes")? {
            0 => break,
            n => have += n,
        }
    }
    if have != size {
        return Err(changed(size as u64));
    }
    bytes.truncate(size);
    Ok(bytes)
}

fn changed(size: u64) -> Error {
    Error::invalid(format!("its size changed from {size}"))
}

fn head_and_bytes(out: &mut impl Write, path: &[u8], meta: &Meta, content: &Content) -> Result<()> {
    let mut header = Header::new_ustar();
    let mut pax: Vec<u8> = Vec::new();
    let mut name = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
    if *content == Content::Dir {
        name.push(b'/');
    }
    let (kind, size, link) = match content {
        Content::Dir => (b'5', 0, None),
        Content::Bytes(b) => (b'0', b.len() as u64, None),
        Content::File { size, .. } => (b'0', *size, None),
        Content::Symlink(to) => (b'2', 0, Some(to.as_bytes())),
        Content::HardLink(to) => (b'1', 0, Some(to.as_os_str().as_bytes())),
        Content::Char(..) => (b'3', 0, None),
        Content::Block(..) => (b'4', 0, None),
        Content::Fifo => (b'6', 0, None),
    };
    if name.len() > 100 {
        record(&mut pax, b"path", &name);
    }
    if let Some(link) = link.filter(|l| l.len() > 100) {
        record(&mut pax, b"linkpath", link);
    }
    let (seconds, nanos) = meta.mtime;
    if nanos != 0 || !(0..1 << 33).contains(&seconds) {
        record(&mut pax, b"mtime", pax_time(seconds, nanos).as_bytes());
    }
    for (key, id) in [(&b"uid"[..], meta.uid), (b"gid", meta.gid)] {
        if id >= 1 << 21 {
            record(&mut pax, key, id.to_string().as_bytes());
        }
    }
    if size >= 1 << 33 {
        record(&mut pax, b"size", size.to_string().as_bytes());
    }
    for (key, value) in meta.xattrs.iter().filter(|(k, _)| !is_overlays(k)) {
        record(&mut pax, &[b"SCHILY.xattr.", &key[..]].concat(), value);
    }
    let fill = |header: &mut Header, name: &[u8], kind: u8, size: u64| {
        let raw = header.as_mut_bytes();
        raw[156] = kind;
        let n = name.len().min(100);
        raw[..n].copy_from_slice(&name[..n]);
        header.set_size(if size < 1 << 33 { size } else { 0 });
    };
    if !pax.is_empty() {
        let mut extension = Header::new_ustar();
        fill(&mut extension, b"pax", b'x', pax.len() as u64);
        extension.set_mode(0o644);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_mtime(0);
        extension.set_cksum();
        put(out, extension.as_bytes())?;
        put(out, &pax)?;
        pad(out, pax.len() as u64)?;
    }
    fill(&mut header, &name, kind, size);
    header.set_mode(meta.mode);
    header.set_uid(if meta.uid < 1 << 21 { meta.uid.into() } else { 0 });
    header.set_gid(if meta.gid < 1 << 21 { meta.gid.into() } else { 0 });
    header.set_mtime(u64::try_from(seconds).ok().filter(|s| *s < 1 << 33).unwrap_or(0));
    if let Some(link) = link {
        let n = link.len().min(100);
        header.as_mut_bytes()[157..157 + n].copy_from_slice(&link[..n]);
    }
    if let Content::Char(a, b) | Content::Block(a, b) = content {
        header.set_device_major(*a).context(|| "write a device's number")?;
        header.set_device_minor(*b).context(|| "write a device's number")?;
    }
    header.set_cksum();
    put(out, header.as_bytes())?;
    match content {
        Content::Bytes(bytes) => {
            put(out, bytes)?;
            pad(out, size)
        }
        _ => Ok(()),
    }
}

/// The file that was found at a path without links. Whoever has the directories at hand may have put a link, a pipe or a
/// device into its way since: no link is followed, and of nothing else a byte is read.
pub fn open(path: &Path) -> Result<(File, Seen)> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let here = nix::fcntl::AT_FDCWD;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let fd = match openat2(here, path, how) {
        // Linux before 5.6.
        Err(Errno::ENOSYS) => openat(here, path, flags, Mode::empty()),
        other => other,
    };
    let fd = fd.context(|| format!("open({path:?})"))?;
    let st = fstat(fd.as_fd()).context(|| format!("fstat({path:?})"))?;
    match is(&st, SFlag::S_IFREG) {
        true => Ok((File::from(fd), Seen::of(&st))),
        false => Err(Error::invalid(format!("open({path:?}): it is no plain file any more"))),
    }
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).context(|| "write the archive")
}

fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    put(out, &[0; 512][..((512 - size % 512) % 512) as usize])
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(format!("{len} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn pax_time(seconds: i64, nanos: u32) -> String {
    let fraction =
        |n: u32| if n == 0 { String::new() } else { format!(".{n:09}").trim_end_matches('0').to_owned() };
    match (seconds < 0, nanos) {
        (true, n) if n > 0 => format!("-{}{}", -(seconds + 1), fraction(1_000_000_000 - n)),
        _ => format!("{seconds}{}", fraction(nanos)),
    }
}
