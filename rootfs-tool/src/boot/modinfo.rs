//! What a kernel module says of itself: the section `.modinfo` of its ELF file, `NAME=VALUE` strings each ended by a NUL
//! (include/linux/module.h of the kernel, MODULE_INFO). Both byte orders and both widths are read.

use coracle_sys::{Error, Result};

/// What loading it needs, and what it is loaded for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// Modules whose symbols it uses.
    pub(crate) depends: Vec<String>,
    /// `pre: A B post: C`, as it was written.
    pub(crate) softdep: Vec<String>,
    /// Patterns of the devices and names that it is for.
    pub(crate) alias: Vec<String>,
}

/// ELF's fields, of the width and the byte order of the file.
struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
    big: bool,
}

impl<'a> Elf<'a> {
    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = self.bytes.get(at..at.checked_add(size)?)?;
        let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if self.big { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) })
    }

    /// A field that is an address or an offset: where it is in a file of either width.
    fn word(&self, base: u64, narrow: u64, wide: u64) -> Option<u64> {
        match self.wide {
            true => self.number(base.checked_add(wide)?, 8),
            false => self.number(base.checked_add(narrow)?, 4),
        }
    }

    fn range(&self, at: u64, size: u64) -> Option<&'a [u8]> {
        let end = usize::try_from(at.checked_add(size)?).ok()?;
        self.bytes.get(usize::try_from(at).ok()?..end)
    }

    /// elf(5): the section header's name, offset and size.
    fn section(&self, header: u64) -> Option<(u64, &'a [u8])> {
        let (at, size) = (self.word(header, 16, 24)?, self.word(header, 20, 32)?);
        Some((self.number(header, 4)?, self.range(at, size)?))
    }

    fn named(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let table = self.word(0, 32, 40)?;
        let (size, count, names) = match self.wide {
            true => (self.number(58, 2)?, self.number(60, 2)?, self.number(62, 2)?),
            false => (self.number(46, 2)?, self.number(48, 2)?, self.number(50, 2)?),
        };
        let header = |n: u64| table.checked_add(n * size);
        let (_, names) = self.section(header(names)?)?;
        (0..count).find_map(|n| {
            let header = header(n)?;
            let at = usize::try_from(self.number(header, 4)?).ok()?;
            let name = names.get(at..)?.split(|b| *b == 0).next()?;
            (name == wanted).then(|| self.section(header)).flatten().map(|(_, data)| data)
        })
    }
}

/// Read a module's file, decompressed.
pub(crate) fn read(bytes: &[u8]) -> Result<Info> {
    let not = || Error::invalid("it is no kernel module");
    let [0x7f, b'E', b'L', b'F', class, data, ..] = bytes else { return Err(not()) };
    let elf = Elf { bytes, wide: *class == 2, big: *data == 2 };
    let section = elf.named(b".modinfo").ok_or_else(not)?;
    let mut info = Info::default();
    for text in section.split(|b| *b == 0) {
        let text = String::from_utf8_lossy(text);
        match text.split_once('=') {
            Some(("depends", all)) => {
                info.depends.extend(all.split(',').filter(|n| !n.is_empty()).map(str::to_owned));
            }
            Some(("softdep", text)) => info.softdep.push(text.to_owned()),
            Some(("alias", text)) => info.alias.push(text.to_owned()),
            _ => {}
        }
    }
    Ok(info)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF file of one section, 64 bits, little endian.
    pub(crate) fn module(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let (modinfo_at, names_at) = (64, 64 + modinfo.len());
        let table = names_at + names.len();
        file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file.extend_from_slice(modinfo);
        file.extend_from_slice(names);
        for (name, at, size) in [(0u32, 0, 0), (1, modinfo_at, modinfo.len()), (10, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&header);
        }
        file
    }

    #[test]
    fn a_module_says_what_it_needs() {
        let file = module(
            b"license=GPL\0alias=virtio:d00000003v*\0depends=virtio,virtio_ring\0softdep=pre: a b\0alias=x\0",
        );
        let text = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let expected = Info {
            depends: text(&["virtio", "virtio_ring"]),
            softdep: text(&["pre: a b"]),
            alias: text(&["virtio:d00000003v*", "x"]),
        };
        assert_eq!(read(&file).unwrap(), expected);
        assert_eq!(read(&module(b"depends=\0")).unwrap(), Info::default());
    }

    #[test]
    fn what_is_no_module_is_an_error_wherever_it_is_cut() {
        let whole = module(b"depends=a\0");
        // The last header's own tail is not looked at.
        for end in 0..whole.len() - 24 {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        for at in 0..64 {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            let _ = read(&bent);
        }
        assert!(read(b"\x1f\x8b").is_err() && read(b"").is_err());
    }
}
