//! Tables of partitions: GPT, as the UEFI specification has it in chapter 5, and the signature of an MBR. Pure.

use super::bytes::copy;
use super::superblock::{Digits, is_uuid};

/// How large a header is that is looked at, in bytes.
pub(crate) const HEADER: usize = 92;
/// How large an entry is.
pub(crate) const ENTRY: usize = 128;

/// What a header says. Places are sectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    /// Where it lies itself, and where the other one does.
    pub(crate) own: u64,
    pub(crate) other: u64,
    /// The last sector that a partition may have.
    pub(crate) last_usable: u64,
    /// Where the entries begin, how many there are, and their checksum.
    pub(crate) entries: u64,
    pub(crate) count: u32,
    pub(crate) checksum: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    copy(bytes.get_mut(at..).unwrap_or_default(), value);
}

impl Header {
    /// Read it, if it is whole. Entries of another size than 128 bytes are not known here, nor are more than 1024.
    pub(crate) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut plain = *bytes;
        put(&mut plain, 16, &[0; 4]);
        let sound = bytes.starts_with(b"EFI PART")
            && u32_at(bytes, 12) as usize == HEADER
            && u32_at(bytes, 84) as usize == ENTRY
            && (1..=1024).contains(&u32_at(bytes, 80))
            && u32_at(bytes, 16) == !crc32(!0, &plain);
        sound.then(|| Self {
            own: u64_at(bytes, 24),
            other: u64_at(bytes, 32),
            last_usable: u64_at(bytes, 48),
            entries: u64_at(bytes, 72),
            count: u32_at(bytes, 80),
            checksum: u32_at(bytes, 88),
        })
    }

    /// Write it over the one that it was read from: revision, UUID and first sector stay.
    pub(crate) fn write(&self, bytes: &mut [u8; HEADER]) {
        put(bytes, 24, &self.own.to_le_bytes());
        put(bytes, 32, &self.other.to_le_bytes());
        put(bytes, 48, &self.last_usable.to_le_bytes());
        put(bytes, 72, &self.entries.to_le_bytes());
        put(bytes, 88, &self.checksum.to_le_bytes());
        put(bytes, 16, &[0; 4]);
        let checksum = !crc32(!0, bytes);
        put(bytes, 16, &checksum.to_le_bytes());
    }
}

/// One entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a>(pub(crate) &'a [u8]);

impl Entry<'_> {
    /// Whether there is a partition.
    pub(crate) fn is_used(self) -> bool {
        self.0.get(..16).is_some_and(|kind| kind.iter().any(|byte| *byte != 0))
    }

    /// Its first and last sector.
    pub(crate) fn sectors(self) -> (u64, u64) {
        (u64_at(self.0, 32), u64_at(self.0, 40))
    }

    /// Whether this is its own UUID.
    pub(crate) fn has_uuid(self, text: &[u8]) -> bool {
        self.is_used() && self.0.get(16..32).is_some_and(|bytes| is_uuid(text, bytes, true))
    }

    /// Whether this is its name, which is kept as UTF-16. Of names those in ASCII are known here.
    pub(crate) fn has_name(self, text: &[u8]) -> bool {
        let name = self.0.get(56..ENTRY).unwrap_or_default();
        let ends = name.get(2 * text.len()).is_none_or(|next| *next == 0);
        self.is_used()
            && !text.is_empty()
            && ends
            && name.len() >= 2 * text.len()
            && name.chunks_exact(2).zip(text).all(|(pair, byte)| pair == [*byte, 0] && byte.is_ascii())
    }
}

/// Let the partition of this entry end at another sector.
pub(crate) fn set_last(entry: &mut [u8], last: u64) {
    put(entry, 40, &last.to_le_bytes());
}

/// Whether this text is the id of partition `number` on the disk with this first sector: `SIGNATURE-NUMBER`, both in
/// hexadecimal.
pub(crate) fn is_mbr_id(sector: &[u8], number: u32, text: &[u8]) -> bool {
    let Some([a, b, c, d]) = sector.get(440..444) else { return false };
    let mut digits = Digits(text);
    sector.get(510..512) == Some(&[0x55, 0xAA])
        && [d, c, b, a].into_iter().all(|byte| digits.are(*byte))
        && digits.skip(b'-')
        && u8::try_from(number).is_ok_and(|number| digits.are(number))
        && digits.0.is_empty()
}

/// The checksum of GPT, continued: begins with all bits set, and is to be inverted at the end.
pub(crate) fn crc32(mut sum: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ (sum & 1).wrapping_neg() & 0xEDB8_8320;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_everybody() {
        assert_eq!(!crc32(!0, b"123456789"), 0xCBF4_3926);
    }

    fn header() -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, b"EFI PART");
        put(&mut bytes, 12, &92u32.to_le_bytes());
        put(&mut bytes, 80, &128u32.to_le_bytes());
        put(&mut bytes, 84, &128u32.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header_ = Header { own: 1, other: 99, last_usable: 66, entries: 2, count: 128, checksum: 7 };
        let mut bytes = header();
        header_.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Some(header_));
        for at in [0, 16, 24, 60, 84] {
            let mut bent = bytes;
            bent[at] ^= 1;
            assert_eq!(Header::read(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn an_entry_is_found_by_uuid_and_by_name() {
        let mut entry = [0; ENTRY];
        entry[16..32].copy_from_slice(&core::array::from_fn::<u8, 16, _>(|at| at as u8));
        for (at, unit) in "data".encode_utf16().enumerate() {
            entry[56 + 2 * at..][..2].copy_from_slice(&unit.to_le_bytes());
        }
        let uuid = b"03020100-0504-0706-0809-0a0b0c0d0e0f";
        assert!(!Entry(&entry).has_uuid(uuid) && !Entry(&entry).has_name(b"data"));
        entry[0] = 1;
        set_last(&mut entry, 0x1234);
        assert_eq!(Entry(&entry).sectors(), (0, 0x1234));
        assert!(Entry(&entry).has_uuid(uuid) && Entry(&entry).has_name(b"data"));
        for name in ["", "dat", "data1", "Data", "d\u{e4}ta"] {
            assert!(!Entry(&entry).has_name(name.as_bytes()), "{name}");
        }
        assert!(!Entry(&[]).is_used() && !Entry(&[1; 20]).has_name(b"x") && !Entry(&[1; 20]).has_uuid(uuid));
    }

    #[test]
    fn a_partition_of_an_mbr_has_the_disks_signature_and_its_number() {
        let mut sector = [0; 512];
        put(&mut sector, 440, &0x12ab_34cd_u32.to_le_bytes());
        assert!(!is_mbr_id(&sector, 2, b"12ab34cd-02"));
        put(&mut sector, 510, &[0x55, 0xAA]);
        assert!(is_mbr_id(&sector, 2, b"12AB34cd-02"));
        assert!(
            !is_mbr_id(&sector, 3, b"12ab34cd-02")
                && !is_mbr_id(&sector, 300, b"12ab34cd-2c")
                && !is_mbr_id(&[], 1, b"")
        );
    }
}
