//! Reading ELF files: what a program asks the dynamic loader for. Only the few structures that name
//! the interpreter and the libraries are read, each bounded, since the file may be hostile. Nothing
//! is looked up here.

use coracle_sys::{Error, Result};

/// No string of an ELF file is longer than a path.
const MAX_STRING: usize = 4096;
/// Program headers; real files have about a dozen.
const MAX_HEADERS: u16 = 1024;
/// Bytes of the dynamic section.
const MAX_DYNAMIC: u64 = 1 << 20;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Reads bytes at an offset: as many as asked for, fewer at the end of the file.
pub(crate) type ReadAt<'a> = dyn Fn(u64, usize) -> Result<Vec<u8>> + 'a;

/// What objects must have in common to be loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// 1 for 32 bits, 2 for 64.
    pub(crate) class: u8,
    /// 1 for little endian, 2 for big.
    pub(crate) order: u8,
    /// `EM_*`.
    pub(crate) number: u16,
}

/// What an object asks of the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The machine it is for.
    pub(crate) machine: Machine,
    /// PT_INTERP: none in a static program or a library.
    pub(crate) interpreter: Option<String>,
    /// DT_NEEDED, in order.
    pub(crate) needed: Vec<String>,
    /// DT_RPATH, not expanded.
    pub(crate) rpath: Vec<String>,
    /// DT_RUNPATH, not expanded.
    pub(crate) runpath: Vec<String>,
}

/// Does a file that begins so claim to be ELF?
pub(crate) fn is_elf(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF")
}

/// Read an object.
pub(crate) fn parse(read: &ReadAt<'_>) -> Result<Object> {
    let file = Reader::new(read)?;
    let mut loads = Vec::new();
    let (mut interpreter, mut dynamic) = (None, None);
    for n in 0..file.headers.2 {
        let header = file.segment(n)?;
        match header.kind {
            PT_LOAD => loads.push(header),
            PT_INTERP if interpreter.is_none() => interpreter = Some(file.string(header.offset)?),
            PT_DYNAMIC if dynamic.is_none() => dynamic = Some(header),
            _ => {}
        }
    }
    let mut object = Object {
        machine: file.machine,
        interpreter,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
    };
    let Some(dynamic) = dynamic else { return Ok(object) };
    if dynamic.size > MAX_DYNAMIC {
        return Err(broken("its dynamic section is too large"));
    }
    let bytes = file.exactly(dynamic.offset, dynamic.size as usize)?;
    let half = file.word_size();
    let pairs: Vec<(u64, u64)> = bytes
        .chunks_exact(2 * half)
        .map(|c| (file.number(&c[..half]), file.number(&c[half..])))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let Some((_, table)) = pairs.iter().find(|(tag, _)| *tag == 5) else { return Ok(object) };
    let table = loads
        .iter()
        .find(|l| *table >= l.address && *table - l.address < l.size)
        .and_then(|l| l.offset.checked_add(*table - l.address))
        .ok_or_else(|| broken("its string table is in no segment"))?;
    let text = |at: u64| file.string(table.checked_add(at).ok_or_else(|| broken("a string is out of it"))?);
    let paths = |at| Ok::<_, Error>(text(at)?.split(':').map(str::to_owned).collect());
    for (tag, value) in pairs {
        match tag {
            1 => object.needed.push(text(value)?),
            15 => object.rpath = paths(value)?,
            29 => object.runpath = paths(value)?,
            _ => {}
        }
    }
    Ok(object)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

struct Reader<'a> {
    read: &'a ReadAt<'a>,
    machine: Machine,
    /// Offset, size of one, and number of the program headers.
    headers: (u64, u16, u16),
}

impl<'a> Reader<'a> {
    fn new(read: &'a ReadAt<'a>) -> Result<Self> {
        let start = read(0, 64)?;
        if !is_elf(&start) || start.len() < 52 {
            return Err(broken("it is no ELF file"));
        }
        let (class, order) = (start[4], start[5]);
        if !matches!(class, 1 | 2) || !matches!(order, 1 | 2) || (class == 2 && start.len() < 64) {
            return Err(broken("its header is not sound"));
        }
        let machine = Machine { class, order, number: 0 };
        let mut reader = Self { read, machine, headers: (0, 0, 0) };
        let short = |at: usize| reader.number(&start[at..at + 2]) as u16;
        let number = short(18);
        let headers = match class {
            2 => (reader.number(&start[32..40]), short(54), short(56)),
            _ => (reader.number(&start[28..32]), short(42), short(44)),
        };
        let least = if class == 2 { 56 } else { 32 };
        if headers.2 > MAX_HEADERS || (headers.2 > 0 && headers.1 < least) {
            return Err(broken("its program headers are not sound"));
        }
        reader.machine.number = number;
        reader.headers = headers;
        Ok(reader)
    }

    fn segment(&self, n: u16) -> Result<Segment> {
        let (start, each, _) = self.headers;
        let at = start.checked_add(u64::from(each) * u64::from(n));
        let at = at.ok_or_else(|| broken("its program headers are out of it"))?;
        let wide = self.machine.class == 2;
        let b = self.exactly(at, if wide { 56 } else { 32 })?;
        let kind = self.number(&b[..4]) as u32;
        let (offset, address, size) = if wide { (8..16, 16..24, 32..40) } else { (4..8, 8..12, 16..20) };
        Ok(Segment {
            kind,
            offset: self.number(&b[offset]),
            address: self.number(&b[address]),
            size: self.number(&b[size]),
        })
    }

    fn word_size(&self) -> usize {
        if self.machine.class == 2 { 8 } else { 4 }
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
        if self.machine.order == 1 { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }

    fn exactly(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let bytes = (self.read)(at, len)?;
        if bytes.len() < len { Err(broken("it is cut short")) } else { Ok(bytes) }
    }

    fn string(&self, at: u64) -> Result<String> {
        let bytes = (self.read)(at, MAX_STRING)?;
        let end = bytes.iter().position(|b| *b == 0).ok_or_else(|| broken("a string has no end"))?;
        String::from_utf8(bytes[..end].to_vec()).map_err(|_| broken("a string is not UTF-8"))
    }
}

fn broken(why: &'static str) -> Error {
    Error::invalid(why).wrap("read the ELF file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn from(bytes: &[u8]) -> Result<Object> {
        parse(&|at, len| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[at..at.saturating_add(len).min(bytes.len())].to_vec())
        })
    }

    #[test]
    fn this_test_names_its_own_libraries() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let object = parse(&|at, len| {
            let mut buf = vec![0; len];
            let n = file.read_at(&mut buf, at).unwrap();
            buf.truncate(n);
            Ok(buf)
        })
        .unwrap();
        assert_eq!(object.machine.class, if cfg!(target_pointer_width = "64") { 2 } else { 1 });
        assert_eq!(object.interpreter.is_some(), !object.needed.is_empty(), "{object:?}");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_crash() {
        let mut whole = std::fs::read("/proc/self/exe").unwrap();
        whole.truncate(4096);
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random() % 8 {
                let at = if random() % 2 == 0 { random() % 64 } else { random() % 1024 };
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() % 4097);
            let _ = from(&bytes);
        }
        for bytes in [&b""[..], b"\x7fELF", &[b"\x7fELF\x02\x01", &[0xff; 58][..]].concat()] {
            assert!(from(bytes).is_err());
        }
    }
}
