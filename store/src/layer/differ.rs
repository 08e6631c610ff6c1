//! What was changed in a snapshot of a tree. A file that nobody touched has the number and the change time that it has in
//! the tree, and no other has: neither can be set. A directory is compared by its attributes.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::attributes::copied_xattrs;
use super::gather::Gather;
use super::pack::{Archive, FromDir};
use super::tree::{is, list, open_dir};

/// What differs.
#[derive(Default)]
pub struct Difference {
    changed: BTreeMap<Vec<u8>, Changed>,
    gone: Vec<Vec<u8>>,
    files: HashSet<u64>,
    bytes: u64,
    /// What may not be read is passed over.
    lenient: bool,
}

/// Something that is another than it was.
struct Changed {
    /// There was nothing of this name.
    new: bool,
    /// It is a file without a byte, or a directory.
    bare: bool,
}

impl Difference {
    /// Between a tree, which need not be there, and its snapshot. The `places` were laid into the snapshot to be mounted
    /// on: what is still as it was laid is no difference.
    pub fn between(below: Option<&Path>, above: &Path, places: &[PathBuf]) -> Result<Self> {
        let mut out = Self::default();
        out.find(below, above, places)?;
        Ok(out)
    }

    /// The bytes of the files that were written, each counted once, as far as they can be read.
    pub fn bytes(below: Option<&Path>, above: &Path, places: &[PathBuf]) -> Result<u64> {
        let mut out = Self { lenient: true, ..Self::default() };
        out.find(below, above, places)?;
        Ok(out.bytes)
    }

    fn find(&mut self, below: Option<&Path>, above: &Path, places: &[PathBuf]) -> Result<()> {
        let compare = |out: &mut Self| -> Result<()> {
            let fd = file::open_dir(above)?;
            let below = below.map(file::open_dir).transpose()?;
            let here = OsStr::new(".");
            if let Some(below) = &below
                && !same_directory(
                    (below.as_fd(), here, &status(below, here)?),
                    (fd.as_fd(), here, &status(&fd, here)?),
                )?
            {
                out.changed.insert(Vec::new(), Changed { new: false, bare: true });
            }
            out.walk(below.as_ref().map(AsFd::as_fd), fd.as_fd(), &[], 0)?;
            places.iter().try_for_each(|tree| out.leave_out(file::open_dir(tree)?.as_fd(), &[]))
        };
        compare(self).map_err(|e| e.wrap(format!("look what was changed in {above:?}")))
    }

    /// As a layer over the tree; directories on the way to a change are in it, as they are in an overlay's upper.
    pub fn archive(&self, above: &Path, how: FromDir) -> Result<Archive> {
        let mut ways: HashSet<&[u8]> = HashSet::new();
        for path in self.changed.keys().chain(&self.gone) {
            let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
            ways.extend(slashes.map(|(at, _)| &path[..at]));
        }
        let mut out = Archive::new();
        let mut wanted = |path: &[u8], _| self.changed.contains_key(path) || ways.contains(path);
        let mut gather = Gather::of_snapshot(how).only(&mut wanted);
        let read = gather.fill(&mut out, above, Path::new(""));
        read.map_err(|e| e.wrap(format!("read the snapshot {above:?}")))?;
        if !self.changed.contains_key(&b""[..]) {
            out.remove("")?;
        }
        self.gone.iter().try_for_each(|path| out.whiteout(OsStr::from_bytes(path)))?;
        Ok(out)
    }

    fn walk(
        &mut self,
        below: Option<BorrowedFd<'_>>,
        above: BorrowedFd<'_>,
        at: &[u8],
        depth: usize,
    ) -> Result<()> {
        if depth > 1000 {
            return Err(Error::invalid("it is deeper than 1000"));
        }
        let mut seen = HashSet::new();
        for name in list(above)? {
            let os = OsStr::from_bytes(&name);
            let st = match fstatat(above, os, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // Of one that runs.
                Err(Errno::ENOENT) => continue,
                other => other.context(|| format!("fstatat({os:?})"))?,
            };
            // A layer has none.
            if is(&st, SFlag::S_IFSOCK) {
                continue;
            }
            let old = match below.map(|dir| fstatat(dir, os, AtFlags::AT_SYMLINK_NOFOLLOW)) {
                None | Some(Err(Errno::ENOENT)) => None,
                Some(other) => Some(other.context(|| format!("fstatat({os:?})"))?),
            };
            let path = join(at, &name);
            let dir = is(&st, SFlag::S_IFDIR);
            let both = below.zip(old.as_ref()).filter(|(_, old)| dir && is(old, SFlag::S_IFDIR));
            let same = match (both, &old) {
                (Some((below, old)), _) => same_directory((below, os, old), (above, os, &st))?,
                (None, Some(old)) => same_file(old, &st),
                (None, None) => false,
            };
            if !same {
                let bare = dir || is(&st, SFlag::S_IFREG) && st.st_size == 0;
                if is(&st, SFlag::S_IFREG) && (st.st_nlink < 2 || self.files.insert(st.st_ino)) {
                    self.bytes += st.st_size as u64;
                }
                self.changed.insert(path.clone(), Changed { new: old.is_none(), bare });
            }
            if dir {
                let open = |at: BorrowedFd<'_>| -> Result<OwnedFd> {
                    open_dir(at, os).context(|| format!("openat({os:?}, O_DIRECTORY)"))
                };
                let opened =
                    both.map(|(below, _)| open(below)).transpose().and_then(|b| Ok((b, open(above)?)));
                match opened {
                    Err(e) if self.lenient && e.errno() == Some(Errno::EACCES) => {}
                    opened => {
                        let (below, above) = opened?;
                        self.walk(below.as_ref().map(AsFd::as_fd), above.as_fd(), &path, depth + 1)?;
                    }
                }
            }
            seen.insert(name);
        }
        for name in below.map_or_else(|| Ok(Vec::new()), list)? {
            if !seen.contains(&name) {
                self.gone.push(join(at, &name));
            }
        }
        Ok(())
    }

    /// What is deepest first: a directory is left out that nothing else is in.
    fn leave_out(&mut self, places: BorrowedFd<'_>, at: &[u8]) -> Result<()> {
        for name in list(places)? {
            let path = join(at, &name);
            if let Ok(sub) = open_dir(places, OsStr::from_bytes(&name)) {
                self.leave_out(sub.as_fd(), &path)?;
            }
            let inside = join(&path, b"");
            let next = self.changed.range(inside.clone()..).next();
            let holds = next.is_some_and(|(other, _)| other.starts_with(&inside));
            if !holds && self.changed.get(&path).is_some_and(|c| c.new && c.bare) {
                self.changed.remove(&path);
            }
        }
        Ok(())
    }
}

fn join(at: &[u8], name: &[u8]) -> Vec<u8> {
    if at.is_empty() { name.to_vec() } else { [at, b"/", name].concat() }
}

fn status(dir: &OwnedFd, name: &OsStr) -> Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({name:?})"))
}

fn same_file(old: &FileStat, new: &FileStat) -> bool {
    let of = |st: &FileStat| (st.st_ino, st.st_ctime, st.st_ctime_nsec, st.st_mode);
    of(old) == of(new)
}

fn same_directory(
    old: (BorrowedFd<'_>, &OsStr, &FileStat),
    new: (BorrowedFd<'_>, &OsStr, &FileStat),
) -> Result<bool> {
    let of = |st: &FileStat| (st.st_mode, st.st_uid, st.st_gid, st.st_mtime, st.st_mtime_nsec);
    Ok(of(old.2) == of(new.2) && copied_xattrs(old.0, old.1)? == copied_xattrs(new.0, new.1)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::layer::pack::Content;

    #[test]
    fn what_was_changed_is_a_layer_and_places_that_nobody_used_are_not_in_it() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-differ-"));
        let at = |path: &str| dir.join(path);
        for path in ["old/a", "old/gone/deep", "old/kept", "places/proc", "places/etc", "places/usr"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("old/a/file"), "old").unwrap();
        fs::write(at("old/kept/file"), "").unwrap();
        // A snapshot of everything, as hard links are to files: the same numbers and times.
        fs::create_dir_all(at("new/a")).unwrap();
        fs::create_dir(at("new/kept")).unwrap();
        fs::hard_link(at("old/kept/file"), at("new/kept/file")).unwrap();
        fs::write(at("new/a/file"), "new bytes").unwrap();
        symlink("x", at("new/link")).unwrap();
        fs::write(at("places/etc/hosts"), "").unwrap();
        for path in ["new/proc", "new/etc", "new/usr"] {
            fs::create_dir(at(path)).unwrap();
        }
        fs::write(at("new/etc/hosts"), "").unwrap();
        fs::write(at("new/usr/own"), "x").unwrap();
        fs::set_permissions(at("new/usr/own"), fs::Permissions::from_mode(0o600)).unwrap();
        for path in ["a", "kept", "."] {
            let (old, new) = (file::open_dir(&at("old").join(path)).unwrap(), at("new").join(path));
            let st = status(&old, OsStr::new(".")).unwrap();
            let new = file::open_dir(&new).unwrap();
            super::super::attributes::set_times(
                new.as_fd(),
                OsStr::new("."),
                (st.st_mtime, st.st_mtime_nsec as u32),
            )
            .unwrap();
        }
        let found = Difference::between(Some(&at("old")), &at("new"), &[at("places")]).unwrap();
        assert_eq!(found.bytes, 10);
        let how = FromDir { owner: None, latest: None, xattrs: true };
        let archive = found.archive(&at("new"), how).unwrap();
        let mut paths: Vec<String> = archive.paths().map(|p| p.display().to_string()).collect();
        paths.sort();
        assert_eq!(paths.join(" "), ".wh.gone a a/file link usr usr/own");
        assert!(matches!(archive.get("link"), Some((_, Content::Symlink(_)))));
        let same = Difference::between(Some(&at("old")), &at("old"), &[]).unwrap();
        assert!(same.changed.is_empty() && same.gone.is_empty());
        let all = Difference::between(None, &at("old"), &[]).unwrap();
        assert_eq!((all.changed.len(), all.bytes), (6, 3));
        file::remove_tree(&dir).unwrap();
    }
}
