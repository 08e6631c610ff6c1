//! How much a tree holds: the bytes of its files, each counted once however many names it has. The tree may be changed
//! meanwhile by whoever it belongs to: nothing in it is found by a path.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};

use crate::error::{Context, Error, Result};
use crate::file::open_dir;

/// What lies deeper is refused: each level takes a descriptor.
const DEEPEST: usize = 200;

/// The bytes of all files in a folder. What vanishes meanwhile is not counted, nor is what may not be read.
pub fn of(path: &Path) -> Result<u64> {
    let top = open_dir(path)?;
    Count::default().all(top.as_fd(), 0).map_err(|e| e.wrap(format!("look how large {path:?} is")))
}

#[derive(Default)]
struct Count {
    seen: BTreeSet<(u64, u64)>,
}

impl Count {
    fn all(&mut self, at: BorrowedFd<'_>, depth: usize) -> Result<u64> {
        if depth == DEEPEST {
            return Err(Error::unsupported(format!("folders are nested more than {DEEPEST} deep")));
        }
        let mut dir = Dir::from_fd(at.try_clone_to_owned().context(|| "dup()")?).context(|| "fdopendir()")?;
        let mut names: Vec<CString> = Vec::new();
        for entry in dir.iter() {
            let entry = entry.context(|| "getdents()")?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        drop(dir);
        let mut sum = 0;
        for name in names {
            let Ok(stat) = fstatat(at, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
            let once =
                stat.st_nlink < 2 || kind == SFlag::S_IFDIR || self.seen.insert((stat.st_dev, stat.st_ino));
            match kind {
                SFlag::S_IFDIR => {
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    match openat(at, name.as_c_str(), flags, Mode::empty()) {
                        Ok(below) => sum += self.all(below.as_fd(), depth + 1)?,
                        Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR | Errno::ELOOP) => {}
                        Err(e) => return Err(e).context(|| format!("openat({name:?}, O_DIRECTORY)")),
                    }
                }
                SFlag::S_IFREG if once => sum += u64::try_from(stat.st_size).unwrap_or(0),
                _ => {}
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_link_leads_nowhere() {
        let dir = std::env::temp_dir().join(crate::file::unique_name("usage-"));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/file"), [0; 300]).unwrap();
        std::fs::hard_link(dir.join("a/b/file"), dir.join("again")).unwrap();
        std::fs::write(dir.join("other"), [0; 7]).unwrap();
        std::os::unix::fs::symlink("/", dir.join("root")).unwrap();
        assert_eq!(of(&dir).unwrap(), 307);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(of(&dir).is_err());
    }
}
