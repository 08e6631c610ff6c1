//! What a file system says of itself at its beginning: kind, UUID and label. Pure.
//!
//! ```text
//!   ext4      1024  s_magic 0xEF53 at 56, s_uuid at 104, s_volume_name at 120  (Documentation/filesystems/ext4)
//!   erofs     1024  magic 0xE0F5E1E2, uuid at 48, volume_name at 64             (fs/erofs/erofs_fs.h)
//!   squashfs     0  "hsqs"; neither UUID nor label
//!   FAT          0  "FAT32   " at 82, id at 67, label at 71; of FAT12 and FAT16: "FAT1" at 54, 39 and 43
//! ```

use core::ffi::CStr;

/// How much of a device is looked at.
pub(crate) const SIZE: usize = 2048;

/// What was found.
#[derive(Debug, PartialEq)]
pub(crate) struct Superblock<'a> {
    /// As mount(2) takes it.
    pub(crate) kind: &'static CStr,
    uuid: Uuid<'a>,
    /// Without the padding; empty where there is none.
    pub(crate) label: &'a [u8],
}

#[derive(Debug, PartialEq)]
enum Uuid<'a> {
    None,
    /// 16 bytes in the order of their text.
    Long(&'a [u8]),
    /// 4 bytes, the last first.
    Short(&'a [u8]),
}

impl<'a> Superblock<'a> {
    /// Read it.
    pub(crate) fn read(bytes: &'a [u8; SIZE]) -> Option<Self> {
        let at = |at: usize, size: usize| bytes.get(at..at + size).unwrap_or_default();
        let is = |place, magic: &[u8]| at(place, magic.len()) == magic;
        let found = |kind, uuid, label| Some(Self { kind, uuid, label: text(label) });
        if is(1024 + 56, &[0x53, 0xEF]) {
            found(c"ext4", Uuid::Long(at(1024 + 104, 16)), at(1024 + 120, 16))
        } else if is(1024, &0xE0F5_E1E2u32.to_le_bytes()) {
            found(c"erofs", Uuid::Long(at(1024 + 48, 16)), at(1024 + 64, 16))
        } else if is(0, b"hsqs") {
            found(c"squashfs", Uuid::None, b"")
        } else if is(82, b"FAT32   ") {
            found(c"vfat", Uuid::Short(at(67, 4)), at(71, 11))
        } else if is(54, b"FAT1") && is(510, &[0x55, 0xAA]) {
            found(c"vfat", Uuid::Short(at(39, 4)), at(43, 11))
        } else {
            None
        }
    }

    /// Whether this text is its UUID.
    pub(crate) fn has_uuid(&self, text: &[u8]) -> bool {
        match self.uuid {
            Uuid::None => false,
            Uuid::Long(bytes) => is_uuid(text, bytes, false),
            Uuid::Short([a, b, c, d]) => {
                let mut digits = Digits(text);
                digits.are(*d)
                    && digits.are(*c)
                    && digits.skip(b'-')
                    && digits.are(*b)
                    && digits.are(*a)
                    && digits.0.is_empty()
            }
            Uuid::Short(_) => false,
        }
    }
}

/// A label is padded by NULs or blanks.
fn text(label: &[u8]) -> &[u8] {
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    let label = label.get(..end).unwrap_or_default();
    let end = label.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
    label.get(..end).unwrap_or_default()
}

/// Whether `text` is the UUID of these 16 bytes. With `mixed` the first three fields are little-endian, as the tables
/// of partitions have them.
pub(crate) fn is_uuid(text: &[u8], bytes: &[u8], mixed: bool) -> bool {
    const PLAIN: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const MIXED: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut digits = Digits(text);
    let order = if mixed { MIXED } else { PLAIN };
    order.iter().enumerate().all(|(nth, at)| {
        let dash = !matches!(nth, 4 | 6 | 8 | 10) || digits.skip(b'-');
        dash && bytes.get(*at).is_some_and(|byte| digits.are(*byte))
    }) && digits.0.is_empty()
}

/// Hexadecimal digits that are compared with bytes.
pub(crate) struct Digits<'a>(pub(crate) &'a [u8]);

impl Digits<'_> {
    /// Whether the next two are this byte.
    pub(crate) fn are(&mut self, byte: u8) -> bool {
        let Some(([high, low], rest)) = self.0.split_first_chunk() else { return false };
        self.0 = rest;
        let digit = |text: u8| char::from(text).to_digit(16);
        digit(*high) == Some(u32::from(byte >> 4)) && digit(*low) == Some(u32::from(byte & 15))
    }

    /// Whether the next byte is this one.
    pub(crate) fn skip(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(parts: &[(usize, &[u8])]) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn each_file_system_is_known_by_what_it_says() {
        let uuid: Vec<u8> = (0x10..0x20).collect();
        let text = b"10111213-1415-1617-1819-1a1b1C1D1E1F";
        let ext4 = image(&[(1080, &[0x53, 0xEF]), (1128, &uuid), (1144, b"root")]);
        let erofs = image(&[(1024, &[0xE2, 0xE1, 0xF5, 0xE0]), (1072, &uuid), (1088, b"sixteen bytes ..")]);
        let fat = image(&[(82, b"FAT32   "), (67, &[1, 2, 3, 0xAB]), (71, b"EFI        ")]);
        let fat16 =
            image(&[(54, b"FAT16   "), (39, &[1, 2, 3, 0xAB]), (43, b"NO NAME    "), (510, &[0x55, 0xAA])]);
        for (image, kind, uuid, label) in [
            (ext4, c"ext4", &text[..], "root"),
            (erofs, c"erofs", text, "sixteen bytes .."),
            (fat, c"vfat", b"AB03-0201", "EFI"),
            (fat16, c"vfat", b"ab03-0201", "NO NAME"),
        ] {
            let found = Superblock::read(&image).unwrap();
            assert_eq!((found.kind, found.label), (kind, label.as_bytes()));
            assert!(found.has_uuid(uuid) && !found.has_uuid(&uuid[1..]) && !found.has_uuid(b""));
        }
        let squashfs = image(&[(0, b"hsqs")]);
        assert_eq!(Superblock::read(&squashfs).unwrap().kind, c"squashfs");
        assert_eq!(Superblock::read(&[0; SIZE]), None);
        assert_eq!(Superblock::read(&[0xff; SIZE]), None);
    }

    #[test]
    fn a_uuid_of_a_table_is_little_endian_in_its_first_fields() {
        let bytes: Vec<u8> = (0..16).collect();
        assert!(is_uuid(b"03020100-0504-0706-0809-0a0b0c0d0e0f", &bytes, true));
        for text in [
            "",
            "03020100",
            "03020100-0504-0706-0809-0a0b0c0d0e0f0",
            "0302010005040706-0809-0a0b0c0d0e0f",
            "0x020100-0504-0706-0809-0a0b0c0d0e0f",
        ] {
            assert!(!is_uuid(text.as_bytes(), &bytes, true), "{text}");
        }
    }
}
