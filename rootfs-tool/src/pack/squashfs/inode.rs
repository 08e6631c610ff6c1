//! Inodes: each kind has a short form, and a longer one for what the short one has no room for.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result};

use super::data::Place;
use super::directory::Listing;
use super::xattr;
use crate::pack::limits;
use crate::pack::tree::{Kind, Node};

/// Added to a kind's number in its longer form.
const EXTENDED: u16 = 7;
/// What a directory's size has beyond its listing, for `.` and `..`.
const DOTS: usize = 3;

/// Owners and groups, which inodes name by their places in one table.
#[derive(Default)]
pub(super) struct Ids {
    known: BTreeMap<u32, u16>,
    pub(super) all: Vec<u32>,
}

impl Ids {
    fn number(&mut self, id: u32) -> Result<u16> {
        if let Some(number) = self.known.get(&id) {
            return Ok(*number);
        }
        let number = u16::try_from(self.all.len())
            .map_err(|_| Error::unsupported("it has one owner or group more than the 65536 of squashfs"))?;
        self.known.insert(id, number);
        self.all.push(id);
        Ok(number)
    }
}

/// A kind's number, in its short form.
pub(super) fn kind(node: &Node) -> u16 {
    match node.kind {
        Kind::Dir(_) => 1,
        Kind::File(_) => 2,
        Kind::Symlink(_) => 3,
        Kind::Block(..) => 4,
        Kind::Char(..) => 5,
        Kind::Fifo => 6,
    }
}

/// Seconds since 1970, of which there are 32 bits: what is before that or after 2106 becomes the nearest.
pub(super) fn time(seconds: i64) -> u32 {
    seconds.clamp(0, u32::MAX.into()) as u32
}

/// Little-endian numbers behind each other.
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, field: u16) {
        self.0.extend_from_slice(&field.to_le_bytes());
    }
    fn u32(&mut self, field: u32) {
        self.0.extend_from_slice(&field.to_le_bytes());
    }
    fn u64(&mut self, field: u64) {
        self.0.extend_from_slice(&field.to_le_bytes());
    }
}

/// What an inode begins with.
fn begin(node: &Node, number: u32, extended: bool, ids: &mut Ids) -> Result<Fields> {
    let mut out = Fields(Vec::new());
    out.u16(kind(node) + if extended { EXTENDED } else { 0 });
    out.u16((node.meta.mode & 0o7777) as u16);
    out.u16(ids.number(node.meta.uid)?);
    out.u16(ids.number(node.meta.gid)?);
    out.u32(time(node.meta.mtime.0));
    out.u32(number);
    Ok(out)
}

/// The inode of what is no directory.
pub(super) fn of_file(
    node: &Node,
    number: u32,
    place: &Place,
    xattrs: u32,
    ids: &mut Ids,
) -> Result<Vec<u8>> {
    let has_xattrs = xattrs != xattr::NONE;
    let Kind::File(data) = &node.kind else {
        let mut out = begin(node, number, has_xattrs, ids)?;
        out.u32(node.links);
        match &node.kind {
            Kind::Symlink(target) => {
                out.u32(target.len() as u32);
                out.0.extend_from_slice(target);
            }
            Kind::Char(major, minor) | Kind::Block(major, minor) => out.u32(limits::device(*major, *minor)),
            _ => {}
        }
        if has_xattrs {
            out.u32(xattrs);
        }
        return Ok(out.0);
    };
    let large = |n: u64| n > u32::MAX.into();
    let extended =
        has_xattrs || node.links > 1 || place.sparse > 0 || large(place.start) || large(data.size());
    let mut out = begin(node, number, extended, ids)?;
    if extended {
        out.u64(place.start);
        out.u64(data.size());
        out.u64(place.sparse);
        out.u32(node.links);
        out.u32(place.fragment.0);
        out.u32(place.fragment.1);
        out.u32(xattrs);
    } else {
        out.u32(place.start as u32);
        out.u32(place.fragment.0);
        out.u32(place.fragment.1);
        out.u32(data.size() as u32);
    }
    for length in &place.blocks {
        out.u32(*length);
    }
    Ok(out.0)
}

/// A directory's inode. `parent` is the number of its parent's.
pub(super) fn of_dir(
    node: &Node,
    number: u32,
    parent: u32,
    listing: &Listing,
    xattrs: u32,
    ids: &mut Ids,
) -> Result<Vec<u8>> {
    let size = listing.size + DOTS;
    let extended = xattrs != xattr::NONE || listing.count > 0 || size > u16::MAX.into();
    let mut out = begin(node, number, extended, ids)?;
    if extended {
        let size = u32::try_from(size).map_err(|_| Error::unsupported("its names have more than 4 GiB"))?;
        for field in [node.links, size, listing.at.0, parent] {
            out.u32(field);
        }
        out.u16(listing.count);
        out.u16(listing.at.1);
        out.u32(xattrs);
        out.0.extend_from_slice(&listing.index);
    } else {
        out.u32(listing.at.0);
        out.u32(node.links);
        out.u16(size as u16);
        out.u16(listing.at.1);
        out.u32(parent);
    }
    Ok(out.0)
}
