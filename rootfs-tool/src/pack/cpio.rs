//! cpio's portable format without checksums, "newc", which is what an initramfs is (cpio(5); the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst). It has no extended attributes, no time before 1970 or
//! after 2106, and no file of 4 GiB.

use std::io::{Read, Write};

use coracle_sys::{Context, Error, Result};

use super::tree::{Data, Kind, Tree};

/// What the header says besides sizes.
pub(crate) struct Head {
    /// Unique to a file within its archive.
    pub(crate) ino: u32,
    /// With the type.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    pub(crate) mtime: i64,
    /// Of a device.
    pub(crate) number: (u32, u32),
}

impl Head {
    /// Root's, at the epoch, with one name.
    pub(crate) fn new(ino: u32, mode: u32) -> Self {
        Self { ino, mode, owner: (0, 0), links: 1, mtime: 0, number: (0, 0) }
    }
}

/// Types in a mode, as inode(7) has them, for whoever has no tree.
pub(crate) const DIR: u32 = 0o040_000;
pub(crate) const FILE: u32 = 0o100_000;

/// What the archive's length is a multiple of.
const RECORD: u64 = 512;

/// An archive that is being written.
pub(crate) struct Writer<W: Write> {
    out: W,
    written: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0 }
    }

    /// An entry whose bytes, `size` of them, come from `from`.
    pub(crate) fn entry(&mut self, name: &[u8], head: &Head, size: u64, from: &mut dyn Read) -> Result<()> {
        let mut put = || {
            let Ok(size) = u32::try_from(size) else {
                return Err(Error::unsupported(format!(
                    "it has {size} bytes, and cpio holds less than 4 GiB of a file"
                )));
            };
            self.head(name, head, size)?;
            let copied = std::io::copy(from, &mut Counted(self)).context(|| "copy its bytes")?;
            if copied != u64::from(size) {
                return Err(Error::invalid(format!("its size changed from {size}")));
            }
            self.pad(4)
        };
        put().map_err(|e| e.wrap(format!("write the entry {:?}", String::from_utf8_lossy(name))))
    }

    fn head(&mut self, name: &[u8], head: &Head, size: u32) -> Result<()> {
        let mtime = head.mtime.clamp(0, u32::MAX.into()) as u32;
        let mut text = b"070701".to_vec();
        let (major, minor) = head.number;
        let length = name.len() as u32 + 1;
        // The device that holds the archive's files is none.
        for field in [
            head.ino,
            head.mode,
            head.owner.0,
            head.owner.1,
            head.links,
            mtime,
            size,
            0,
            0,
            major,
            minor,
            length,
            0,
        ] {
            text.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        text.extend_from_slice(name);
        text.push(0);
        self.put(&text)?;
        self.pad(4)
    }

    /// The entry that ends it.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.head(b"TRAILER!!!", &Head::new(0, 0), 0)?;
        self.pad(RECORD)?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Counted(self).write_all(bytes).context(|| "write the archive")
    }

    fn pad(&mut self, to: u64) -> Result<()> {
        let missing = (to - self.written % to) % to;
        self.put(&[0; RECORD as usize][..missing as usize])
    }
}

/// Counts what is written.
struct Counted<'a, W: Write>(&'a mut Writer<W>);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.out.write(bytes)?;
        self.0.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.out.flush()
    }
}

/// Write a tree, its root as `.`. Of a file with several names the last one brings the bytes, as cpio(1) has it.
/// Returns a warning where something of the tree has no place in the format.
pub(crate) fn write<W: Write>(tree: &Tree, out: W) -> Result<(W, Option<String>)> {
    let mut out = Writer::new(out);
    let mut to_come: Vec<u32> = tree.nodes.iter().map(|node| node.links).collect();
    let names = tree.names();
    let root = (b".".to_vec(), 0);
    for (path, at) in std::iter::once(&root).chain(&names) {
        let node = &tree.nodes[*at];
        let number = match node.kind {
            Kind::Char(major, minor) | Kind::Block(major, minor) => (major, minor),
            _ => (0, 0),
        };
        let head = Head {
            ino: *at as u32 + 1,
            mode: node.kind.numbers().0 | node.meta.mode & 0o7777,
            owner: (node.meta.uid, node.meta.gid),
            links: node.links,
            mtime: node.meta.mtime.0,
            number,
        };
        let data: &Data = match &node.kind {
            Kind::File(data) => {
                to_come[*at] -= 1;
                if to_come[*at] == 0 { data } else { &Data::Bytes(Vec::new()) }
            }
            Kind::Symlink(to) => &Data::Bytes(to.clone()),
            _ => &Data::Bytes(Vec::new()),
        };
        out.entry(path, &head, data.size(), &mut data.open()?)?;
    }
    Ok((out.finish()?, lost(tree)))
}

/// What the format has no place for.
fn lost(tree: &Tree) -> Option<String> {
    let with = |at: &usize| !tree.nodes[*at].meta.xattrs.is_empty();
    let first = (0..tree.nodes.len()).find(with)?;
    let count = (0..tree.nodes.len()).filter(with).count();
    let path = tree.path(first);
    Some(format!(
        "cpio holds no extended attributes: {count} files lose theirs, /{} is the first",
        String::from_utf8_lossy(&path)
    ))
}

#[cfg(test)]
mod tests {
    use coracle_store::layer::pack::{Archive, Content, Meta};

    use super::*;

    #[test]
    fn the_last_name_of_a_file_brings_its_bytes() {
        let mut archive = Archive::new();
        for (path, content) in [
            ("a", Content::Bytes(b"text".to_vec())),
            ("b", Content::HardLink("a".into())),
            ("d", Content::Dir),
        ] {
            archive.put(path, Meta { mtime: (-5, 1), ..Meta::new(0o755) }, content).unwrap();
        }
        let (out, warning) = write(&Tree::of(archive).unwrap(), Vec::new()).unwrap();
        assert_eq!((out.len() % 512, warning), (0, None));
        let text = String::from_utf8(out).unwrap();
        let sizes: Vec<(&str, &str)> = text
            .split("070701")
            .skip(1)
            .map(|e| (&e[48..56], e[104..].split('\0').next().unwrap()))
            .collect();
        let none = "00000000";
        assert_eq!(sizes, [(none, "."), (none, "a"), ("00000004", "b"), (none, "d"), (none, "TRAILER!!!")]);
        assert!(text.contains("b\0text"), "names and bytes begin at multiples of four");
    }

    #[test]
    fn a_file_of_four_gibibytes_is_refused_by_name() {
        let e = Writer::new(Vec::new()).entry(b"big", &Head::new(1, FILE), 1 << 32, &mut std::io::empty());
        assert!(e.unwrap_err().to_string().contains("\"big\""));
    }
}
