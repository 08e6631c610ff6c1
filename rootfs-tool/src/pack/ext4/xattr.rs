//! Extended attributes: as many as fit stand in the inode, behind its fields; the others in one block.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result, order};

use super::geometry::{BLOCK, INODE};
use super::inode::FIELDS;
use crate::pack::crc32c::crc32c;

const MAGIC: [u8; 4] = 0xea02_0000_u32.to_le_bytes();
/// An entry without its name.
const ENTRY: usize = 16;
/// The header of a block.
const HEADER: usize = 32;
/// Prefixes that are told by a number. The first that fits is meant.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// One attribute as it is on disk.
struct Attribute {
    prefix: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A file's attributes, dealt out.
pub(super) struct Attributes {
    /// What stands in the inode behind its fields, when there is anything.
    pub(super) in_inode: Vec<u8>,
    /// The block, without its checksum.
    pub(super) block: Option<Vec<u8>>,
}

impl Attributes {
    /// Deal out. The error says what about them cannot be, without the file's name.
    pub(super) fn of(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self> {
        let mut all = Vec::new();
        for (name, value) in xattrs {
            all.push(attribute(name, value)?);
        }
        // The kernel looks names up in a block by this order.
        order::sort_by(&mut all, |a, b| {
            (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name))
        });
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let (mut inside_size, mut outside_size) = (MAGIC.len() + 4, HEADER + 4);
        for attribute in all {
            if inside_size + attribute.size() <= INODE - FIELDS {
                inside_size += attribute.size();
                inside.push(attribute);
            } else {
                outside_size += attribute.size();
                outside.push(attribute);
            }
        }
        if outside_size > BLOCK {
            return Err(Error::unsupported(format!(
                "its extended attributes need {outside_size} bytes outside the inode, of which there are {BLOCK}"
            )));
        }
        let in_inode = match inside.is_empty() {
            true => Vec::new(),
            false => [&MAGIC[..], &table(&inside, INODE - FIELDS - MAGIC.len(), 0)].concat(),
        };
        Ok(Self { in_inode, block: (!outside.is_empty()).then(|| block(&outside)) })
    }
}

impl Attribute {
    fn size(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    fn hash(&self) -> u32 {
        let mut hash = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        for word in self.value.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            hash = hash.rotate_left(16) ^ u32::from_le_bytes(bytes);
        }
        hash
    }
}

fn attribute(name: &[u8], value: &[u8]) -> Result<Attribute> {
    let shown = || String::from_utf8_lossy(name);
    let Some((prefix, known)) = PREFIXES.into_iter().find(|(_, prefix)| name.starts_with(prefix)) else {
        return Err(Error::unsupported(format!(
            "ext4 has no place for the extended attribute {:?}",
            shown()
        )));
    };
    let rest = &name[known.len()..];
    if rest.len() > 255 {
        return Err(Error::invalid(format!("the name of the extended attribute {:?} is too long", shown())));
    }
    let value = match prefix {
        2 | 3 => acl(value).ok_or_else(|| {
            Error::invalid(format!("the extended attribute {:?} is no access list", shown()))
        })?,
        _ => value.to_vec(),
    };
    Ok(Attribute { prefix, name: rest.to_vec(), value })
}

/// An access list, as acl(5) has it in attributes, in ext4's own form: version 1, and no id where there is none.
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    const NAMED: [u16; 2] = [0x02, 0x08];
    let (version, entries) = value.split_at_checked(4)?;
    if version != 2u32.to_le_bytes() || !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut out = 1u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let named = NAMED.contains(&u16::from_le_bytes([entry[0], entry[1]]));
        out.extend_from_slice(&entry[..if named { 8 } else { 4 }]);
    }
    Some(out)
}

/// Entries from the beginning on, values from the end; `base` is where in the block the table stands.
fn table(attributes: &[Attribute], size: usize, base: usize) -> Vec<u8> {
    let mut out = vec![0; size];
    let (mut at, mut end) = (0, size);
    for attribute in attributes {
        let (name, value) = (&attribute.name, &attribute.value);
        end -= value.len().next_multiple_of(4);
        // A value of no bytes is nowhere.
        let offset = if value.is_empty() { 0 } else { base + end };
        out[at] = name.len() as u8;
        out[at + 1] = attribute.prefix;
        out[at + 2..at + 4].copy_from_slice(&(offset as u16).to_le_bytes());
        out[at + 8..at + 12].copy_from_slice(&(value.len() as u32).to_le_bytes());
        out[at + 12..at + 16].copy_from_slice(&attribute.hash().to_le_bytes());
        out[at + ENTRY..at + ENTRY + name.len()].copy_from_slice(name);
        out[end..end + value.len()].copy_from_slice(value);
        at += ENTRY + name.len().next_multiple_of(4);
    }
    out
}

fn block(attributes: &[Attribute]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    // References, blocks, and the hash of all entries.
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    let hash = attributes.iter().fold(0u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
    out.extend_from_slice(&hash.to_le_bytes());
    out.resize(HEADER, 0);
    out.extend_from_slice(&table(attributes, BLOCK - HEADER, HEADER));
    out
}

/// Put the checksum into a block of attributes that is at this place.
pub(super) fn seal(block: &mut [u8], at: u64, seed: u32) {
    let sum = crc32c(crc32c(seed, &at.to_le_bytes()), block);
    block[16..20].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, usize)]) -> Result<Attributes> {
        let of = |(name, size): &(&str, usize)| (name.as_bytes().to_vec(), vec![7; *size]);
        Attributes::of(&pairs.iter().map(of).collect())
    }

    #[test]
    fn small_attributes_stand_in_the_inode_and_large_ones_in_a_block() {
        let both = of(&[("security.capability", 20), ("user.large", 3000)]).expect("room for both");
        assert_eq!(both.in_inode.len(), INODE - FIELDS);
        assert_eq!(both.block.expect("a block").len(), BLOCK);
        let none = of(&[]).expect("nothing");
        assert!(none.in_inode.is_empty() && none.block.is_none());
    }

    #[test]
    fn attributes_that_have_no_place_are_refused_by_name() {
        let long = format!("user.{}", "n".repeat(256));
        for (pairs, wanted) in [
            (&[("user.large", 4100)][..], "bytes outside the inode"),
            (&[("odd.name", 1)], "\"odd.name\""),
            (&[(&long[..], 1)], "too long"),
            (&[("system.posix_acl_access", 11)], "no access list"),
        ] {
            let error = of(pairs).err().expect(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn an_access_list_loses_the_ids_that_it_has_none_of() {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, id) in [(1u16, !0u32), (2, 1000), (4, !0), (0x10, !0), (0x20, !0)] {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&7u16.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        assert_eq!(acl(&value).expect("an access list").len(), 4 + 4 * 4 + 8);
    }
}
