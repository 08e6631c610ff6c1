//! An image's whole tree by number, as file systems have it: every file once, with its names in directories. What
//! packs it reads this and nothing else.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_store::layer::encode;
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_sys::{Context, Error, Result};

/// Parents stand before what is in them, names of a directory in the order of their bytes. The root is the first.
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// A file of any kind.
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
    /// How many names it has; a directory: two, and one for each directory in it.
    pub(crate) links: u32,
    /// The directory where its first name is; the root's is the root.
    pub(crate) parent: usize,
}

/// What it is.
pub(crate) enum Kind {
    /// Names, and whose they are.
    Dir(Vec<(Vec<u8>, usize)>),
    File(Data),
    Symlink(Vec<u8>),
    /// Major and minor number.
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

impl Kind {
    /// What modes have of it (S_IFMT of inode(7)), and what directories of ext4 and erofs have (linux/fs_types.h).
    pub(crate) fn numbers(&self) -> (u32, u8) {
        match self {
            Self::Fifo => (0o010_000, 5),
            Self::Char(..) => (0o020_000, 3),
            Self::Dir(_) => (0o040_000, 2),
            Self::Block(..) => (0o060_000, 4),
            Self::File(_) => (0o100_000, 1),
            Self::Symlink(_) => (0o120_000, 7),
        }
    }
}

/// The bytes of a file.
pub(crate) enum Data {
    Bytes(Vec<u8>),
    /// Those of this file, which lies in a layer.
    File {
        path: PathBuf,
        size: u64,
    },
}

impl Data {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// To be read: as many bytes as its size says, or an error that names the file.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + '_>> {
        self.open_at(0)
    }

    /// As [`Data::open`], from this byte on.
    pub(crate) fn open_at(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(&bytes[(from as usize).min(bytes.len())..])),
            Self::File { path, size } => {
                let (mut file, _) = encode::open(path)?;
                if from > 0 {
                    file.seek(SeekFrom::Start(from)).context(|| format!("lseek({path:?}, {from})"))?;
                }
                Ok(Box::new(Exactly { file, path, left: size.saturating_sub(from) }))
            }
        }
    }
}

/// Read the next bytes of a content, as many as there is room for. At its `end` it is an error that there are more.
pub(crate) fn fill(input: &mut dyn Read, into: &mut [u8], end: bool) -> std::io::Result<()> {
    input.read_exact(into)?;
    match end && input.read(&mut [0])? > 0 {
        true => Err(std::io::Error::other("it has more bytes than its size says")),
        false => Ok(()),
    }
}

/// Reads a file that is expected to have a size.
struct Exactly<'a> {
    file: std::fs::File,
    path: &'a std::path::Path,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        // At its end one byte more is asked for, to see that there is none.
        let mut one = [0];
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let read = match (buf.is_empty(), self.left) {
            (true, _) => return Ok(0),
            (_, 0) => self.file.read(&mut one)?,
            _ => self.file.read(&mut buf[..most])?,
        };
        if (read == 0) != (self.left == 0) {
            return Err(std::io::Error::other(format!("the size of {:?} has changed", self.path)));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Tree {
    /// What an archive without whiteouts amounts to.
    pub(crate) fn of(mut archive: Archive) -> Result<Self> {
        archive.put_parents();
        if archive.get("").is_none() {
            archive.put("", Meta::new(0o755), Content::Dir)?;
        }
        let mut tree = Self { nodes: Vec::new() };
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut links = Vec::new();
        for path in archive.in_order() {
            let Some((meta, content)) = archive.get(std::ffi::OsStr::from_bytes(path)) else { continue };
            let (parent, name) = split(path, &known)?;
            let kind = match content {
                Content::HardLink(to) => {
                    links.push((parent, name.to_vec(), to.as_os_str().as_bytes().to_vec()));
                    continue;
                }
                Content::Dir => Kind::Dir(Vec::new()),
                Content::Bytes(bytes) => Kind::File(Data::Bytes(bytes.clone())),
                Content::File { path, size, .. } => {
                    Kind::File(Data::File { path: path.clone(), size: *size })
                }
                Content::Symlink(to) => Kind::Symlink(to.as_bytes().to_vec()),
                Content::Char(major, minor) => Kind::Char(*major, *minor),
                Content::Block(major, minor) => Kind::Block(*major, *minor),
                Content::Fifo => Kind::Fifo,
            };
            let is_dir = matches!(kind, Kind::Dir(_));
            let node = tree.nodes.len();
            tree.nodes.push(Node { meta: meta.clone(), kind, links: if is_dir { 2 } else { 0 }, parent });
            known.insert(path.to_vec(), node);
            if node > 0 {
                tree.name(parent, name.to_vec(), node)?;
                if is_dir {
                    tree.nodes[parent].links += 1;
                } else {
                    tree.nodes[node].links += 1;
                }
            }
        }
        for (parent, name, to) in links {
            let file = known.get(&to).copied().filter(|at| !matches!(tree.nodes[*at].kind, Kind::Dir(_)));
            let Some(file) = file else {
                let to = String::from_utf8_lossy(&to);
                return Err(Error::invalid(format!(
                    "a hard link leads to {to:?}, which is no file of the image"
                )));
            };
            tree.name(parent, name, file)?;
            tree.nodes[file].links += 1;
        }
        for node in &mut tree.nodes {
            if let Kind::Dir(names) = &mut node.kind {
                coracle_sys::order::sort(names);
            }
        }
        Ok(tree)
    }

    fn name(&mut self, dir: usize, name: Vec<u8>, node: usize) -> Result<()> {
        match &mut self.nodes[dir].kind {
            Kind::Dir(names) => {
                names.push((name, node));
                Ok(())
            }
            _ => Err(Error::invalid(format!(
                "{:?} is in what is no directory",
                String::from_utf8_lossy(&name)
            ))),
        }
    }

    /// The path of a file's first name, without a slash in front; the root's is empty.
    pub(crate) fn path(&self, node: usize) -> Vec<u8> {
        if node == 0 {
            return Vec::new();
        }
        let parent = self.nodes[node].parent;
        let mut path = self.path(parent);
        if let Kind::Dir(names) = &self.nodes[parent].kind
            && let Some((name, _)) = names.iter().find(|(_, at)| *at == node)
        {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// Every name but the root's, a directory before what is in it: its path, and whose it is.
    pub(crate) fn names(&self) -> Vec<(Vec<u8>, usize)> {
        let mut out = Vec::new();
        let mut left = vec![(Vec::new(), 0)];
        while let Some((path, node)) = left.pop() {
            if let Kind::Dir(names) = &self.nodes[node].kind {
                let start = if path.is_empty() { Vec::new() } else { [&path[..], b"/"].concat() };
                left.extend(names.iter().rev().map(|(name, at)| ([&start[..], name].concat(), *at)));
            }
            if !path.is_empty() {
                out.push((path, node));
            }
        }
        out
    }
}

/// The directory that a path is in, and its name there.
fn split<'a>(path: &'a [u8], known: &HashMap<Vec<u8>, usize>) -> Result<(usize, &'a [u8])> {
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None if path.is_empty() => return Ok((0, path)),
        None => (&path[..0], path),
    };
    let missing = || Error::invalid(format!("{:?} is in no directory", String::from_utf8_lossy(path)));
    known.get(dir).map(|dir| (*dir, name)).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(all: &[(&str, Content)]) -> Archive {
        let mut out = Archive::new();
        all.iter().for_each(|(path, content)| out.put(path, Meta::new(0o644), content.clone()).unwrap());
        out
    }

    #[test]
    fn files_have_one_number_and_all_their_names_in_order() {
        let tree = Tree::of(archive(&[
            ("b", Content::HardLink("z/file".into())),
            ("a", Content::Dir),
            ("a/x", Content::Fifo),
            ("a.b", Content::Symlink("a".into())),
            ("z/file", Content::Bytes(b"text".to_vec())),
        ]))
        .unwrap();
        let names: Vec<(String, usize)> =
            tree.names().into_iter().map(|(p, n)| (String::from_utf8(p).unwrap(), n)).collect();
        let expected = [("a", 1), ("a/x", 2), ("a.b", 3), ("b", 5), ("z", 4), ("z/file", 5)];
        assert_eq!(names, expected.map(|(p, n)| (p.to_owned(), n)));
        assert_eq!(tree.nodes.iter().map(|n| n.links).collect::<Vec<_>>(), [4, 2, 1, 1, 2, 2]);
        assert_eq!((tree.path(5), tree.nodes[5].parent), (b"z/file".to_vec(), 4));
    }

    #[test]
    fn what_is_no_tree_is_refused_by_name() {
        for (all, says) in [
            (archive(&[("l", Content::HardLink("gone".into()))]), "\"gone\""),
            (archive(&[("d", Content::Dir), ("l", Content::HardLink("d".into()))]), "\"d\""),
            (archive(&[("f", Content::Fifo), ("f/x", Content::Fifo)]), "\"x\""),
        ] {
            let e = Tree::of(all).err().unwrap().to_string();
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn a_file_whose_size_changed_is_named() {
        let path = std::env::temp_dir().join(format!("coracle-pack-{}", std::process::id()));
        std::fs::write(&path, b"four").unwrap();
        for size in [0, 3, 5] {
            let mut out = Vec::new();
            let data = Data::File { path: path.clone(), size };
            let e = data.open().unwrap().read_to_end(&mut out).unwrap_err();
            assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
        }
        let mut out = Vec::new();
        Data::File { path: path.clone(), size: 4 }.open().unwrap().read_to_end(&mut out).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(out, b"four");
    }
}
