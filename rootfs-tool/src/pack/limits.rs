//! What Linux cannot hand out of any file system is refused by its path before anything is written.

use coracle_sys::{Error, Result};

use super::tree::{Kind, Node, Tree};

/// NAME_MAX of linux/limits.h.
const NAME: usize = 255;
/// PATH_MAX of linux/limits.h, without the NUL.
const TARGET: usize = 4095;
/// XATTR_NAME_MAX of linux/limits.h.
const XATTR_NAME: usize = 255;
/// XATTR_SIZE_MAX of linux/limits.h.
const XATTR_VALUE: usize = 65536;
/// Device numbers have 12 and 20 bits.
const MAJOR: u32 = 0xfff;
const MINOR: u32 = 0xf_ffff;

/// An error about a node, which names it.
pub(crate) fn refuse(tree: &Tree, node: usize, why: &str) -> Error {
    Error::unsupported(format!("pack {:?}: {why}", String::from_utf8_lossy(&tree.path(node))))
}

/// Refuse what is beyond the limits.
pub(crate) fn check(tree: &Tree) -> Result<()> {
    for (n, node) in tree.nodes.iter().enumerate() {
        beyond(node).map_or(Ok(()), |why| Err(refuse(tree, n, &why)))?;
    }
    Ok(())
}

fn beyond(node: &Node) -> Option<String> {
    for (name, value) in &node.meta.xattrs {
        let shown = String::from_utf8_lossy(name);
        if name.len() > XATTR_NAME {
            return Some(format!("the name of its attribute {shown:?} has more than {XATTR_NAME} bytes"));
        }
        if value.len() > XATTR_VALUE {
            return Some(format!("its attribute {shown:?} has more than {XATTR_VALUE} bytes"));
        }
    }
    match &node.kind {
        Kind::Dir(entries) => entries.iter().find(|(name, _)| name.len() > NAME).map(|(name, _)| {
            format!("the name {:?} in it has more than {NAME} bytes", String::from_utf8_lossy(name))
        }),
        Kind::Symlink(target) if target.len() > TARGET => {
            Some(format!("its target has more than {TARGET} bytes"))
        }
        Kind::Char(major, minor) | Kind::Block(major, minor) if *major > MAJOR || *minor > MINOR => {
            Some(format!("the device number {major}:{minor} is beyond {MAJOR}:{MINOR}"))
        }
        _ => None,
    }
}

/// A device number as all formats have it, new_encode_dev() of linux/kdev_t.h.
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::PathBuf;

    use coracle_store::layer::pack::{Archive, Content, Meta};

    use super::*;
    use crate::pack::{erofs, ext4, format::Codec, squashfs};

    fn tree(path: &str, meta: Meta, content: Content) -> Tree {
        let mut archive = Archive::new();
        archive.put("d", Meta::new(0o755), Content::Dir).unwrap();
        archive.put(PathBuf::from("d").join(path), meta, content).unwrap();
        Tree::of(archive).unwrap()
    }

    /// What erofs and squashfs say to a tree of one entry.
    fn refused(path: &str, meta: Meta, content: Content) -> [String; 2] {
        let tree = tree(path, meta, content);
        let mut out = Cursor::new(Vec::new());
        let erofs = erofs::How::new(Codec::None, None, None, "").unwrap();
        let said = [
            erofs::write(&tree, &erofs, &mut out),
            squashfs::write(&tree, &squashfs::How::new(Codec::Gzip, None), &mut out),
        ];
        said.map(|result| result.err().map(|e| e.to_string()).unwrap_or_default())
    }

    #[test]
    fn what_no_file_system_holds_is_refused_by_its_path() {
        let with = |name: &str, bytes: usize| {
            let xattrs = [(name.as_bytes().to_vec(), vec![1; bytes])];
            Meta { xattrs: xattrs.into_iter().collect(), ..Meta::new(0o644) }
        };
        let plain = || Meta::new(0o644);
        let long = "n".repeat(256);
        for (path, meta, content, says) in [
            (&long[..], plain(), Content::Fifo, "255 bytes"),
            ("f", with(&format!("user.{}", "k".repeat(251)), 1), Content::Fifo, "255 bytes"),
            ("f", with("user.k", 65537), Content::Fifo, "65536 bytes"),
            ("f", plain(), Content::Symlink("x".repeat(4096).into()), "4095 bytes"),
            ("f", plain(), Content::Char(4096, 0), "4096:0"),
            ("f", plain(), Content::Block(0, 1 << 20), "0:1048576"),
        ] {
            for said in refused(path, meta.clone(), content.clone()) {
                assert!(said.contains(says) && said.contains("\"d"), "{path}: {said}");
            }
            let ext4 =
                ext4::write(&tree(path, meta, content), &ext4::How::default(), &mut Cursor::new(Vec::new()));
            let said = ext4.unwrap_err().to_string();
            assert!(said.contains(says) && said.contains("\"d"), "ext4, {path}: {said}");
        }
        assert_eq!(refused("f", plain(), Content::Symlink("x".repeat(4095).into())), ["", ""]);
        assert_eq!(refused(&long[1..], with("user.k", 65535), Content::Char(4095, 0xf_ffff)), ["", ""]);
    }

    #[test]
    fn what_one_format_does_not_hold_is_refused_by_that_one() {
        let with = |name: &str, bytes: usize| {
            let xattrs = [(name.as_bytes().to_vec(), vec![1; bytes])];
            Meta { xattrs: xattrs.into_iter().collect(), ..Meta::new(0o644) }
        };
        let [erofs, squashfs] = refused("f", with("system.posix_acl_access", 28), Content::Fifo);
        assert!(
            erofs.is_empty() && squashfs.contains("\"d/f\"") && squashfs.contains("posix_acl"),
            "{squashfs}"
        );
        let [erofs, squashfs] = refused("f", with("user.k", 65536), Content::Fifo);
        assert!(squashfs.is_empty() && erofs.contains("\"d/f\"") && erofs.contains("65535 bytes"), "{erofs}");
        let huge = Content::File { path: "/nowhere".into(), size: 17 << 40, seen: None };
        let [erofs, squashfs] = refused("f", Meta::new(0o644), huge);
        assert!(erofs.contains("\"d/f\"") && erofs.contains("16 TiB"), "{erofs}");
        assert!(squashfs.contains("/nowhere"), "it is read: {squashfs}");
    }

    #[test]
    fn a_file_whose_size_has_changed_is_named_wherever_its_bytes_go() {
        let path = std::env::temp_dir().join(format!("coracle-limits-{}", std::process::id()));
        for (size, expected) in
            [(100, 99), (100, 101), (200_000, 131_072), (200_000, 200_001), (200_000, 262_145)]
        {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            for said in refused(
                "f",
                Meta::new(0o644),
                Content::File { path: path.clone(), size: expected, seen: None },
            ) {
                assert!(said.contains(path.to_str().unwrap()), "{expected} of {size}: {said}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
