//! Whiteouts: how an archive says that something below is gone, and how overlay says it on disk.
//! In an archive it is a file `.wh.NAME`, or `.wh..wh..opq` in a directory that hides all below
//! it; for overlay it is a character device 0:0, or the opaque mark on the directory.

use std::os::fd::BorrowedFd;

use coracle_sys::{Context, Error, Result};
use nix::sys::stat::{Mode, SFlag, mknodat};

/// The prefix of a whiteout's name in an archive.
pub const PREFIX: &[u8] = b".wh.";
/// The name of an opaque whiteout in an archive.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a file's name in an archive means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A file of that name.
    Name,
    /// What is below under this name is gone.
    Gone(&'a [u8]),
    /// What is below in this directory is gone.
    Opaque,
    /// AUFS's own book-keeping: nothing.
    Nothing,
}

/// Read the last component of an archive's path. Whiteouts of nothing, of `.` and of `..` are
/// refused: they would remove a directory from within.
pub fn read(name: &[u8]) -> Result<Meaning<'_>> {
    let Some(gone) = name.strip_prefix(PREFIX) else { return Ok(Meaning::Name) };
    match gone {
        b"" | b"." | b".." => {
            let shown = String::from_utf8_lossy(name);
            Err(Error::invalid(format!("read the archive: the whiteout {shown:?} names no file")))
        }
        _ if name == OPAQUE => Ok(Meaning::Opaque),
        _ if gone.starts_with(PREFIX) => Ok(Meaning::Nothing),
        _ => Ok(Meaning::Gone(gone)),
    }
}

/// Make overlay's whiteout. Needs no privilege since Linux 5.8.
pub fn make(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<()> {
    mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0).context(|| format!("mknodat({name:?}, S_IFCHR, 0)"))
}

/// Is a file with this status overlay's whiteout?
pub fn is_one(st: &nix::sys::stat::FileStat) -> bool {
    st.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && st.st_rdev == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_of_nothing_and_of_directories_from_within_are_refused() {
        for bad in [".wh.", ".wh..", ".wh..."] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(read(b".wh.a").unwrap(), Meaning::Gone(b"a"));
        assert_eq!(read(b".wh....").unwrap(), Meaning::Gone(b"..."));
        assert_eq!(read(b".wh..wh..opq").unwrap(), Meaning::Opaque);
        assert_eq!(read(b".wh").unwrap(), Meaning::Name);
        for aufs in [".wh..wh.plnk", ".wh..wh.aufs", ".wh..wh.orph", ".wh..wh..opq.x"] {
            assert_eq!(read(aufs.as_bytes()).unwrap(), Meaning::Nothing, "{aufs}");
        }
    }
}
