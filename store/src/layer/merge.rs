//! What a stack of layers amounts to, as a copy: what overlay would show, where it cannot be mounted.
//! Of each name the topmost counts, directories are one with those below them until one is opaque, and
//! a whiteout ends what is below it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::linkat;

use super::copy::{self, Links};
use super::tree::{is, list, open_dir};
use super::{Marks, whiteout};

/// Copy the stack, top first, into the empty directory `to`, which gets the attributes of the topmost.
pub fn copy(top_first: &[BorrowedFd<'_>], to: BorrowedFd<'_>, marks: Marks) -> Result<()> {
    let mut merge = Merge { root: to, marks, links: HashMap::new() };
    merge.directory(top_first, to, &OsString::new(), 0).map_err(|e| e.wrap("copy the layers"))
}

struct Merge<'a> {
    root: BorrowedFd<'a>,
    marks: Marks,
    links: Links,
}

impl Merge<'_> {
    fn directory(
        &mut self,
        layers: &[BorrowedFd<'_>],
        to: BorrowedFd<'_>,
        path: &OsString,
        depth: usize,
    ) -> Result<()> {
        if depth > 1000 {
            return Err(Error::invalid("copy a directory: it is deeper than 1000"));
        }
        // Who has a name, top first.
        let mut names: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (n, layer) in layers.iter().enumerate() {
            for name in list(*layer)? {
                names.entry(name).or_default().push(n);
            }
        }
        for (name, holders) in names {
            let name = OsString::from_vec(name);
            let mut here = path.clone();
            if !here.is_empty() {
                here.push("/");
            }
            here.push(&name);
            let from = layers[holders[0]];
            let st = status(from, &name)?;
            if is(&st, SFlag::S_IFDIR) {
                let holders: Vec<BorrowedFd<'_>> = holders.iter().map(|n| layers[*n]).collect();
                let parts = self.parts(&holders, &name)?;
                mkdirat(to, &*name, Mode::S_IRWXU).context(|| format!("mkdirat({name:?})"))?;
                let sub = open(to, &name)?;
                let parts: Vec<BorrowedFd<'_>> = parts.iter().map(AsFd::as_fd).collect();
                self.directory(&parts, sub.as_fd(), &here, depth + 1)?;
            } else if !whiteout::is_one(&st) {
                self.file(from, &name, &st, to, here)?;
            }
        }
        let Some(top) = layers.first() else { return Ok(()) };
        let here = OsStr::new(".");
        copy::attributes(*top, here, &status(*top, here)?, to, here)
    }

    /// The directories of this name that are seen as one, top first.
    fn parts(&self, holders: &[BorrowedFd<'_>], name: &OsStr) -> Result<Vec<OwnedFd>> {
        let mut parts = Vec::new();
        for from in holders {
            if !is(&status(*from, name)?, SFlag::S_IFDIR) {
                break;
            }
            let part = open(*from, name)?;
            let key = self.marks.opaque();
            let mark = file::xattr_at(part.as_fd(), OsStr::new("."), key)
                .context(|| format!("lgetxattr({name:?}, {key:?})"))?;
            parts.push(part);
            if mark.as_deref() == Some(b"y") {
                break;
            }
        }
        Ok(parts)
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        name: &OsStr,
        st: &FileStat,
        to: BorrowedFd<'_>,
        here: OsString,
    ) -> Result<()> {
        let id = (st.st_dev, st.st_ino);
        if let Some(first) = self.links.get(&id).filter(|_| st.st_nlink > 1) {
            return linkat(self.root, &**first, to, name, AtFlags::empty())
                .context(|| format!("linkat({name:?})"));
        }
        copy::file(from, name, st, to, name)?;
        if st.st_nlink > 1 {
            self.links.insert(id, here);
        }
        Ok(())
    }
}

fn status(dir: BorrowedFd<'_>, name: &OsStr) -> Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({name:?})"))
}

fn open(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    open_dir(dir, name).context(|| format!("openat({name:?}, O_DIRECTORY)"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;

    #[test]
    fn a_copy_of_a_stack_is_what_overlay_would_show() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-merge-"));
        let at = |path: &str| dir.join(path);
        for path in
            ["low/d/sub", "low/gone", "low/hidden", "mid/d", "mid/hidden", "top/d", "top/low-file", "to"]
        {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, text) in [
            ("low/d/kept", "low"),
            ("low/d/both", "low"),
            ("low/d/sub/deep", "low"),
            ("low/gone/x", "low"),
            ("low/gone-file", "low"),
            ("low/hidden/old", "low"),
            ("low/low-file", "low"),
            ("mid/hidden/new", "mid"),
            ("mid/d/both", "mid"),
            ("top/d/own", "top"),
        ] {
            fs::write(at(path), text).unwrap();
        }
        fs::hard_link(at("low/d/kept"), at("low/second")).unwrap();
        fs::set_permissions(at("top/d"), fs::Permissions::from_mode(0o711)).unwrap();
        let marks = Marks::of_this_process();
        let fd = |path: &str| file::open_dir(&at(path)).unwrap();
        let (top, mid, low) = (fd("top"), fd("mid"), fd("low"));
        whiteout::make(mid.as_fd(), OsStr::new("gone")).unwrap();
        whiteout::make(top.as_fd(), OsStr::new("gone-file")).unwrap();
        file::set_xattr(fd("mid/hidden").as_fd(), marks.opaque(), b"y").unwrap();
        copy(&[top.as_fd(), mid.as_fd(), low.as_fd()], fd("to").as_fd(), marks).unwrap();
        let mut seen = Vec::new();
        let mut todo = vec![at("to")];
        while let Some(here) = todo.pop() {
            for entry in fs::read_dir(here).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(at("to")).unwrap().display().to_string();
                if path.is_dir() {
                    seen.push(name + "/");
                    todo.push(path);
                } else {
                    seen.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
                }
            }
        }
        seen.sort();
        let whole = ["d/", "d/both=mid", "d/kept=low", "d/own=top", "d/sub/", "d/sub/deep=low", "hidden/"];
        assert_eq!(seen, [&whole[..], &["hidden/new=mid", "low-file/", "second=low"]].concat());
        let ino = |path: &str| fs::metadata(at(path)).unwrap().ino();
        assert_eq!(ino("to/d/kept"), ino("to/second"));
        assert_eq!(fs::metadata(at("to/d")).unwrap().mode() & 0o777, 0o711);
        let mark = file::xattr_at(fd("to/hidden").as_fd(), OsStr::new("."), marks.opaque()).unwrap();
        assert_eq!(mark, None, "overlay's marks stay behind");
        assert!(Path::new(&at("low/gone/x")).exists(), "the layers are as before");
        file::remove_tree(&dir).unwrap();
    }
}
