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

/// A device number as both formats have it, new_encode_dev() of linux/kdev_t.h.
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
