//! A package's file (deb(5)): an ar archive of `debian-binary`, `control.tar` and `data.tar`, each tar compressed by
//! whatever there is. What the entries mean is said elsewhere.

use std::io::{BufReader, Read};

use coracle_store::layer::walk::Walk;
use coracle_store::layer::{Limits, decompress};
use coracle_sys::{Context, Error, Result};

use crate::archive::packed;

/// What the files of `control.tar` hold together.
const MAX_CONTROL: u64 = 32 << 20;
const MAGIC: &[u8] = b"!<arch>\n";

/// The files of `control.tar`, and then the archive in `data.tar`.
pub struct Package<'a> {
    /// By name, in the order of the archive.
    pub control: Vec<(String, u32, Vec<u8>)>,
    /// The archive of what is installed, not compressed.
    pub data: Box<dyn Read + 'a>,
}

/// Read the beginning of a package.
pub fn open<'a>(mut input: impl Read + Send + 'a) -> Result<Package<'a>> {
    let mut magic = [0; 8];
    input
        .read_exact(&mut magic)
        .ok()
        .filter(|()| magic == MAGIC)
        .ok_or_else(|| bad("it is no ar archive"))?;
    match member(&mut input)? {
        Some((name, size)) if name == "debian-binary" && size < 1024 => {
            let text = whole(&mut input, size)?;
            if !text.starts_with(b"2.") {
                let version = String::from_utf8_lossy(&text);
                return Err(bad(&format!("its format is {:?}, not 2", version.trim_end())));
            }
        }
        _ => return Err(bad("it does not begin with debian-binary")),
    }
    let (mut name, mut size) = next(&mut input)?;
    // Members that a later version may add.
    while name.starts_with('_') {
        pass(&mut input, size)?;
        (name, size) = next(&mut input)?;
    }
    if name != "control.tar" && !name.starts_with("control.tar.") {
        return Err(bad(&format!("there is {name:?} where control.tar is to be")));
    }
    let packed = whole(&mut input, size)?;
    let control = control(&packed)?;
    let (mut name, mut size) = next(&mut input)?;
    while name.starts_with('_') {
        pass(&mut input, size)?;
        (name, size) = next(&mut input)?;
    }
    if name != "data.tar" && !name.starts_with("data.tar.") {
        return Err(bad(&format!("there is {name:?} where data.tar is to be")));
    }
    Ok(Package { control, data: unpacked(input.take(size), &name)? })
}

fn bad(why: &str) -> Error {
    Error::invalid(format!("read the package: {why}"))
}

/// The archive inside, decompressed as its name and its first bytes say.
fn unpacked<'a>(input: impl Read + Send + 'a, name: &str) -> Result<Box<dyn Read + 'a>> {
    match name.rsplit('.').next().unwrap_or_default() {
        "tar" | "gz" | "xz" | "zst" | "bz2" => {}
        other => return Err(bad(&format!("{name:?}: {other} is not known"))),
    }
    let input = BufReader::with_capacity(128 << 10, packed::open(input)?);
    decompress(input, None)
}

fn member(input: &mut impl Read) -> Result<Option<(String, u64)>> {
    let mut header = [0u8; 60];
    let mut have = 0;
    while have < header.len() {
        match input.read(&mut header[have..]).context(|| "read the package")? {
            0 if have == 0 => return Ok(None),
            0 => return Err(bad("it ends within a header")),
            n => have += n,
        }
    }
    if &header[58..] != b"`\n" {
        return Err(bad("a header of its archive is not sound"));
    }
    let field = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
    let name = field(0..16);
    let size = field(48..58).parse().map_err(|_| bad("a size in its archive is no number"))?;
    Ok(Some((name.trim_end_matches('/').to_owned(), size)))
}

fn next(input: &mut impl Read) -> Result<(String, u64)> {
    member(input)?.ok_or_else(|| bad("it ends before data.tar"))
}

/// A member, and the byte that makes its length even.
fn whole(input: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    if size > MAX_CONTROL {
        return Err(bad(&format!("a member of {size} bytes: {MAX_CONTROL} at most are read")));
    }
    let mut bytes = Vec::new();
    input.by_ref().take(size).read_to_end(&mut bytes).context(|| "read the package")?;
    if bytes.len() as u64 != size {
        return Err(bad("it is cut off"));
    }
    pass(input, size % 2)?;
    Ok(bytes)
}

fn pass(input: &mut impl Read, size: u64) -> Result<()> {
    let padded = if size > 1 { size + size % 2 } else { size };
    let passed = std::io::copy(&mut input.by_ref().take(padded), &mut std::io::sink());
    match passed.context(|| "read the package")? {
        n if n == padded => Ok(()),
        _ => Err(bad("it is cut off")),
    }
}

fn control(packed: &[u8]) -> Result<Vec<(String, u32, Vec<u8>)>> {
    let mut inner = decompress(BufReader::new(packed::open(packed)?), None)?;
    let limits = Limits { size: MAX_CONTROL, entries: 10_000, ..Limits::default() };
    let mut walk = Walk::new(&mut inner as &mut dyn Read, limits);
    let mut files = Vec::new();
    let mut total = 0;
    while let Some(entry) = walk.next_entry()? {
        let name = String::from_utf8_lossy(&entry.path);
        let name = name.trim_start_matches("./").trim_end_matches('/').to_owned();
        if entry.kind != coracle_store::layer::walk::Kind::File {
            match &name[..] {
                "" | "." => continue,
                _ => return Err(bad(&format!("{name:?} of its control.tar is no file"))),
            }
        }
        // They become files of the database: a name, and no path.
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(sound) {
            return Err(bad(&format!("its control.tar has {name:?}")));
        }
        let mut bytes = Vec::new();
        let mut part = [0; 16 << 10];
        loop {
            let n = walk.read_data(&mut part)?;
            if n == 0 {
                break;
            }
            total += n as u64;
            if total > MAX_CONTROL {
                return Err(bad("its control.tar is too large"));
            }
            bytes.extend_from_slice(&part[..n]);
        }
        files.push((name, entry.mode, bytes));
    }
    Ok(files)
}
