//! A unified kernel image: systemd's stub, which is a program for EFI, with the kernel and all that it is given as sections
//! of its own (the UAPI group's UKI specification; PE as Microsoft's "PE Format" has it).

use coracle_sys::{Error, Result};

/// A section's header.
const HEADER: usize = 40;
/// Where sections begin in memory: a kernel wants a page.
const PAGE: u32 = 4096;
/// What is read and not executed.
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// The name under which firmware looks for a program on a disk, of the machine that this one is for.
pub(crate) fn removable_name(stub: &[u8]) -> Result<&'static str> {
    let header = pe(stub)?;
    match u16_at(stub, header + 4)? {
        0x8664 => Ok("BOOTX64.EFI"),
        0xaa64 => Ok("BOOTAA64.EFI"),
        0x014c => Ok("BOOTIA32.EFI"),
        0x01c2 | 0x01c4 => Ok("BOOTARM.EFI"),
        0x5064 => Ok("BOOTRISCV64.EFI"),
        other => Err(Error::unsupported(format!(
            "a program for EFI is for a machine that is not known: {other:#x}"
        ))),
    }
}

/// Append sections to a stub, in this order. The kernel comes last, since it may unpack itself over what is behind it.
pub(crate) fn build(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let header = pe(stub)?;
    let count = usize::from(u16_at(stub, header + 6)?);
    let optional = header + 24;
    let table = optional + usize::from(u16_at(stub, header + 20)?);
    let (section_align, file_align) = (u32_at(stub, optional + 32)?, u32_at(stub, optional + 36)?);
    let headers_end = u32_at(stub, optional + 60)? as usize;
    if !section_align.is_power_of_two() || !file_align.is_power_of_two() || file_align > 0x1_0000 {
        return Err(Error::invalid("the stub's alignments are no powers of two"));
    }
    let end = table + (count + sections.len()) * HEADER;
    if end > headers_end || headers_end > stub.len() {
        return Err(Error::unsupported(format!("the stub has no room for {} more sections", sections.len())));
    }
    let (mut memory, mut file) = (0, headers_end);
    for n in 0..count {
        let at = table + n * HEADER;
        memory = memory.max(sum(u32_at(stub, at + 12)?, u32_at(stub, at + 8)?)?);
        file = file.max(sum(u32_at(stub, at + 20)?, u32_at(stub, at + 16)?)? as usize);
    }
    // What is behind the sections is symbols for a debugger.
    let mut out = stub.get(..file).ok_or_else(|| Error::invalid("the stub ends within a section"))?.to_vec();
    out[header + 8..header + 20].fill(0);
    for (n, (name, bytes)) in sections.iter().enumerate() {
        let at = table + (count + n) * HEADER;
        memory = memory.checked_next_multiple_of(section_align.max(PAGE)).ok_or_else(too_large)?;
        out.resize(out.len().next_multiple_of(file_align as usize), 0);
        let size = u32::try_from(bytes.len()).map_err(|_| too_large())?;
        let on_disk = size.checked_next_multiple_of(file_align).ok_or_else(too_large)?;
        let place = u32::try_from(out.len()).map_err(|_| too_large())?;
        out[at..at + HEADER].fill(0);
        out[at..at + name.len()].copy_from_slice(name.as_bytes());
        for (field, value) in [(8, size), (12, memory), (16, on_disk), (20, place), (36, READ_ONLY_DATA)] {
            out[at + field..at + field + 4].copy_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(bytes);
        memory = sum(memory, size)?;
    }
    out.resize(out.len().next_multiple_of(file_align as usize), 0);
    let count = (count + sections.len()) as u16;
    out[header + 6..header + 8].copy_from_slice(&count.to_le_bytes());
    let image = memory.checked_next_multiple_of(section_align).ok_or_else(too_large)?;
    out[optional + 56..optional + 60].copy_from_slice(&image.to_le_bytes());
    // No sum is better than a wrong one; EFI looks at none.
    out[optional + 64..optional + 68].fill(0);
    Ok(out)
}

/// Where the PE header is, which is looked at no further than where the fields end that are read here.
fn pe(stub: &[u8]) -> Result<usize> {
    let not = || Error::invalid("the stub is no program for EFI");
    let header = if stub.starts_with(b"MZ") { u32_at(stub, 0x3c)? as usize } else { return Err(not()) };
    let fields = stub.get(header..).and_then(|rest| rest.get(..24 + 68)).ok_or_else(not)?;
    // PE32+, and PE32 of 32-bit machines, have these fields at the same places.
    let known = matches!([fields[24], fields[25]], [0x0b, 0x01 | 0x02]);
    if fields.starts_with(b"PE\0\0") && known { Ok(header) } else { Err(not()) }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().map(u16::from_le_bytes).ok_or_else(|| Error::invalid("the stub ends within its headers"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().map(u32::from_le_bytes).ok_or_else(|| Error::invalid("the stub ends within its headers"))
}

fn sum(a: u32, b: u32) -> Result<u32> {
    a.checked_add(b).ok_or_else(too_large)
}

fn too_large() -> Error {
    Error::unsupported("a kernel image of 4 GiB or more is none that EFI starts")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stub of one section, with room for three more headers.
    fn stub() -> Vec<u8> {
        let mut out = vec![0; 0x400];
        let mut set = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, b"MZ");
        set(0x3c, &[0x40]);
        set(0x40, b"PE\0\0\x64\x86\x01\0");
        // The optional header's size, its magic, and the alignments.
        set(0x54, &[0x70]);
        set(0x58, &[0x0b, 0x02]);
        set(0x78, &[0, 0x10, 0, 0, 0, 2, 0, 0]);
        // The headers' size.
        set(0x94, &[0, 2]);
        // One section at 0x1000 in memory and 0x200 in the file, and symbols behind it.
        set(0xc8, b".text\0\0\0\x10\0\0\0\0\x10\0\0\0\x01\0\0\0\x02\0\0");
        set(0x4c, &[0, 4]);
        out
    }

    #[test]
    fn sections_are_appended_where_alignment_has_them() {
        let out = build(&stub(), &[(".cmdline", &b"quiet"[..]), (".linux", &[7; 600])]).expect("build");
        assert_eq!(out.len(), 0x400 + 0x200 + 0x400);
        assert_eq!((u16_at(&out, 0x46).unwrap(), u32_at(&out, 0x4c).unwrap()), (3, 0));
        let field = |section: usize, at: usize| u32_at(&out, 0xc8 + section * HEADER + at).unwrap();
        assert_eq!([field(1, 8), field(1, 12), field(1, 16), field(1, 20)], [5, 0x2000, 0x200, 0x400]);
        assert_eq!([field(2, 8), field(2, 12), field(2, 16), field(2, 20)], [600, 0x3000, 0x400, 0x600]);
        assert_eq!(u32_at(&out, 0x90).unwrap(), 0x4000);
        assert_eq!(&out[0x400..0x405], b"quiet");
        assert_eq!(removable_name(&out).unwrap(), "BOOTX64.EFI");
    }

    #[test]
    fn what_is_no_stub_is_refused() {
        let mut odd = stub();
        odd[0x7c..0x80].copy_from_slice(&[3, 0, 0, 0]);
        let mut far = stub();
        far[0xd0..0xd8].fill(0xff);
        let mut cut = stub();
        cut.truncate(0x250);
        for bad in [Vec::new(), b"MZ".to_vec(), b"ELF".repeat(100), odd, far, cut] {
            assert!(build(&bad, &[(".linux", &b"x"[..])]).is_err());
        }
        for at in 0..stub().len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = stub();
                bad[at] = value;
                // Whatever comes of it, it is no panic.
                let _ = build(&bad, &[(".linux", &b"x"[..])]);
            }
        }
        assert!(build(&stub(), &[(".a", &b""[..]); 7]).is_err(), "no room for headers");
    }
}
