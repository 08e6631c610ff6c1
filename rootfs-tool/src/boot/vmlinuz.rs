//! What a kernel's file says of itself: its version, the machine that it is for, and whether all of it is there.

use coracle_sys::{Error, Result};

use super::modules;

/// Is it as long as it says? x86: the boot protocol's `setup_sects` and `syssize` (Documentation/arch/x86/boot.rst).
pub(crate) fn whole(bytes: &[u8]) -> Result<()> {
    let size = match (is_x86(bytes), bytes.get(0x1f4..0x1f8)) {
        (true, Some(&[a, b, c, d])) => {
            // Four, where it says none.
            let setup = match bytes[0x1f1] {
                0 => 4,
                n => u64::from(n),
            };
            (setup + 1) * 512 + 16 * u64::from(u32::from_le_bytes([a, b, c, d]))
        }
        _ => return Ok(()),
    };
    match bytes.len() as u64 {
        found if found < size => {
            Err(Error::invalid(format!("it is cut off: it has {found} bytes of {size}")))
        }
        _ => Ok(()),
    }
}

/// The machine that it is for, in the words of images. arm64 and RISC-V have their magic at the same place
/// (Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst).
pub(crate) fn architecture(bytes: &[u8]) -> Option<&'static str> {
    if is_x86(bytes) {
        // XLF_KERNEL_64 of xloadflags, since protocol 2.12.
        return match (bytes.get(0x206..0x208)?, bytes.get(0x236)?) {
            (&[minor, 2], flags) if minor >= 12 => Some(if flags & 1 == 1 { "amd64" } else { "386" }),
            _ => None,
        };
    }
    match bytes.get(0x38..0x3c)? {
        b"ARM\x64" => Some("arm64"),
        b"RSC\x05" => Some("riscv64"),
        _ => None,
    }
}

fn is_x86(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

/// The version that a kernel's file has in it. x86: the boot protocol's `kernel_version` (Documentation/arch/x86/boot.rst);
/// others, and kernels without a loader of their own, have the banner that they print first, perhaps compressed.
pub(crate) fn version(bytes: &[u8]) -> Result<String> {
    let not = || {
        Error::invalid(
            "it is no kernel, or of a form that is not known: of Linux it is a bzImage (vmlinuz), an Image or a vmlinuz.efi",
        )
    };
    if is_x86(bytes) {
        let pointer = bytes.get(0x20e..0x210).and_then(|p| <[u8; 2]>::try_from(p).ok()).ok_or_else(not)?;
        return word(bytes.get(usize::from(u16::from_le_bytes(pointer)) + 0x200..).unwrap_or_default())
            .ok_or_else(not);
    }
    let whole;
    let plain = match inner(bytes) {
        Some(packed) => {
            whole = modules::plain(packed.to_vec())?;
            &whole[..]
        }
        None => bytes,
    };
    const BANNER: &[u8] = b"Linux version ";
    let starts = plain.windows(BANNER.len()).enumerate().filter(|(_, w)| *w == BANNER);
    // The format of the banner stands in the kernel too.
    let mut words = starts.filter_map(|(at, _)| word(&plain[at + BANNER.len()..]));
    words.find(|w| w.starts_with(|c: char| c.is_ascii_digit())).ok_or_else(not)
}

/// What is compressed inside: of an EFI image that unpacks itself (drivers/firmware/efi/libstub/zboot-header.S), or all of
/// it.
fn inner(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.get(4..8) == Some(b"zimg") {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let (at, size) = (number(8)?, number(12)?);
        return bytes.get(at..at.checked_add(size)?);
    }
    let packed: [&[u8]; 3] = [b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    packed.iter().any(|head| bytes.starts_with(head)).then_some(bytes)
}

fn word(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(256).position(|b| b.is_ascii_whitespace() || *b == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(version: &str) -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        file[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        file
    }

    #[test]
    fn a_kernel_says_its_version() {
        assert_eq!(version(&bzimage("6.1.0-56-cloud-amd64 (x@y) #1 SMP")).unwrap(), "6.1.0-56-cloud-amd64");
        let mut image = vec![0; 64];
        image.extend_from_slice(b"Linux version %s (%s)\0Linux version 6.12.9-arm64 (x@y)");
        assert_eq!(version(&image).unwrap(), "6.12.9-arm64");
        for bad in [
            &b""[..],
            b"MZ",
            b"\x1f\x8bxx",
            b"MZ\0\0zimg\xff\xff\xff\xff\xff\xff\xff\xff",
            &bzimage("")[..0x20f],
            &bzimage(""),
        ] {
            assert!(version(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_that_is_cut_off_is_told_from_a_whole_one() {
        let mut kernel = bzimage("6.1");
        kernel[0x1f1] = 1;
        assert!(whole(&kernel).is_ok());
        kernel[0x1f4] = 2;
        assert_eq!(whole(&kernel).unwrap_err().to_string(), "it is cut off: it has 1024 bytes of 1056");
        kernel.resize(1056, 0);
        assert!(whole(&kernel).is_ok());
        kernel[0x1f1] = 0;
        assert!(whole(&kernel).unwrap_err().to_string().ends_with("of 2592"));
        assert!(whole(&kernel[..0x203]).is_ok(), "what is no kernel is told otherwise");
    }

    #[test]
    fn a_kernel_says_which_machine_it_is_for() {
        let mut kernel = bzimage("6.1");
        assert_eq!(architecture(&kernel), None, "an old one does not");
        kernel[0x206..0x208].copy_from_slice(&[15, 2]);
        assert_eq!(architecture(&kernel), Some("386"));
        kernel[0x236] = 0x7f;
        assert_eq!(architecture(&kernel), Some("amd64"));
        let mut image = vec![0; 64];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!((architecture(&image), architecture(&image[..0x3b])), (Some("arm64"), None));
    }
}
