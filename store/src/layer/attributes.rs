//! Attributes of files: which extended ones are carried, times, and paths as the table of owners has
//! them.

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;

use coracle_sys::file;
use coracle_sys::{Context, Result};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// An archive's attributes without overlay's own, which would graft and hide what they like.
pub(super) fn wanted_xattrs(all: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (CString, Vec<u8>)> + '_ {
    all.iter()
        .filter(|(k, _)| !is_overlays(k))
        .filter_map(|(k, v)| Some((CString::new(k.clone()).ok()?, v.clone())))
}

/// Does this attribute belong to the overlay file system, or to the program that does its work?
pub(crate) fn is_overlays(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 4] =
        [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"security.fuseoverlayfs."];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The attributes of a directory below, for its likeness in this layer.
pub(super) fn copied_xattrs(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut out = Vec::new();
    for key in file::xattr_names_at(dir, name).context(|| format!("llistxattr({name:?})"))? {
        if is_overlays(key.as_bytes()) {
            continue;
        }
        let value = file::xattr_at(dir, name, &key).context(|| format!("lgetxattr({name:?}, {key:?})"))?;
        out.extend(value.map(|v| (key, v)));
    }
    Ok(out)
}

/// Set the access and modification time of a file, a link itself.
pub(crate) fn set_times(dir: BorrowedFd<'_>, name: &OsStr, mtime: (i64, u32)) -> Result<()> {
    let time = TimeSpec::new(mtime.0, mtime.1.into());
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .context(|| format!("utimensat({name:?}, {}.{:09})", mtime.0, mtime.1))
}

/// A path as the table of owners has it.
pub(super) fn shown(path: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for chunk in path.join(&b'/').utf8_chunks() {
        out.push_str(&chunk.valid().replace('%', "%25"));
        for b in chunk.invalid() {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The components of a path of the table; the root has none.
pub(super) fn unshown(path: &str) -> Vec<Vec<u8>> {
    let component = |text: &str| {
        let mut rest = text.as_bytes();
        let mut out = Vec::new();
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
            match digits.filter(|_| *first == b'%').and_then(|d| u8::from_str_radix(d, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    rest = &after[2..];
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    };
    path.split('/').filter(|c| !c.is_empty()).map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_table_is_read_back_whatever_its_bytes() {
        for path in [&[][..], &[&b"a"[..], b"b"], &[b"%"], &[b"50%25", b"\xff\xfe%"], &["\u{e9}".as_bytes()]]
        {
            let path: Vec<Vec<u8>> = path.iter().map(|c| c.to_vec()).collect();
            assert_eq!(unshown(&shown(&path)), path);
        }
    }
}
