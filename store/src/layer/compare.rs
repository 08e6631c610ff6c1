//! Two trees of one layer, compared name by name: what differs is told, and nothing is changed.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result, order};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::fill;
use super::tree::{is, list, open_dir};
use super::whiteout;

/// Differences that are told of one layer.
const MOST: usize = 20;

/// What differs in the tree `is` from the tree `should`, a sentence each, at most twenty.
pub(crate) fn compare(is: BorrowedFd<'_>, should: BorrowedFd<'_>) -> Result<Vec<String>> {
    let mut out = Vec::new();
    directory(is, should, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn directory(
    a: BorrowedFd<'_>,
    b: BorrowedFd<'_>,
    path: &mut Vec<Vec<u8>>,
    out: &mut Vec<String>,
) -> Result<()> {
    if path.len() > 1000 {
        return Err(Error::invalid("compare a directory: it is deeper than 1000"));
    }
    Pair::of(a, b, OsStr::new("."))?.attributes(path, out)?;
    let (mine, wanted) = (list(a)?, list(b)?);
    for name in mine.iter().filter(|n| wanted.binary_search(n).is_err()) {
        tell(out, path, Some(name), "it is not in the archive");
    }
    for name in wanted {
        if out.len() >= MOST {
            return Ok(());
        }
        if mine.binary_search(&name).is_err() {
            tell(out, path, Some(&name), "it is missing");
            continue;
        }
        let os = OsStr::from_bytes(&name);
        let pair = Pair::of(a, b, os)?;
        let kind = |st: &FileStat| st.st_mode & SFlag::S_IFMT.bits();
        path.push(name.clone());
        if kind(&pair.is.1) != kind(&pair.should.1)
            || whiteout::is_one(&pair.is.1) != whiteout::is_one(&pair.should.1)
        {
            tell(out, path, None, "it is of another type");
        } else if is(&pair.should.1, SFlag::S_IFDIR) {
            let open = |dir| open_dir(dir, os).context(|| format!("openat({os:?}, O_DIRECTORY)"));
            directory(open(a)?.as_fd(), open(b)?.as_fd(), path, out)?;
        } else if !whiteout::is_one(&pair.should.1) {
            // Of a whiteout nothing is seen but that it is one.
            pair.attributes(path, out)?;
            pair.content(path, out)?;
        }
        path.pop();
    }
    Ok(())
}

fn tell(out: &mut Vec<String>, path: &[Vec<u8>], name: Option<&Vec<u8>>, what: &str) {
    if out.len() < MOST {
        let whole: Vec<&[u8]> = path.iter().chain(name).map(Vec::as_slice).collect();
        out.push(format!("/{}: {what}", String::from_utf8_lossy(&whole.join(&b'/'))));
    }
}

/// The same name in both trees, and what each has there.
struct Pair<'a> {
    name: &'a OsStr,
    is: (BorrowedFd<'a>, FileStat),
    should: (BorrowedFd<'a>, FileStat),
}

impl<'a> Pair<'a> {
    fn of(is: BorrowedFd<'a>, should: BorrowedFd<'a>, name: &'a OsStr) -> Result<Self> {
        let look = |dir| -> Result<_> {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            Ok((dir, fstatat(dir, name, flags).context(|| format!("fstatat({name:?})"))?))
        };
        Ok(Self { name, is: look(is)?, should: look(should)? })
    }

    fn attributes(&self, path: &[Vec<u8>], out: &mut Vec<String>) -> Result<()> {
        let (name, (a, is), (b, should)) = (self.name, &self.is, &self.should);
        if is.st_mode != should.st_mode {
            let (is, should) = (is.st_mode & 0o7777, should.st_mode & 0o7777);
            tell(out, path, None, &format!("its mode is {is:04o}, the archive has {should:04o}"));
        }
        if (is.st_uid, is.st_gid) != (should.st_uid, should.st_gid) {
            tell(out, path, None, &format!("its owner is {}:{}", is.st_uid, is.st_gid));
        }
        if (is.st_mtime, is.st_mtime_nsec) != (should.st_mtime, should.st_mtime_nsec) {
            tell(out, path, None, "its time is another");
        }
        if is.st_rdev != should.st_rdev {
            tell(out, path, None, "its device is another");
        }
        let xattrs = |dir| -> Result<Vec<_>> {
            let mut keys = file::xattr_names_at(dir, name).context(|| format!("llistxattr({name:?})"))?;
            keys.retain(|k| k.as_bytes() != b"security.selinux");
            order::sort(&mut keys);
            let value = |k: &std::ffi::CString| {
                file::xattr_at(dir, name, k).context(|| format!("lgetxattr({name:?}, {k:?})"))
            };
            let values = keys.iter().map(value).collect::<Result<Vec<_>>>()?;
            Ok(keys.into_iter().zip(values).collect())
        };
        if xattrs(*a)? != xattrs(*b)? {
            tell(out, path, None, "its extended attributes are others");
        }
        Ok(())
    }

    fn content(&self, path: &[Vec<u8>], out: &mut Vec<String>) -> Result<()> {
        let (name, (a, sa), (b, sb)) = (self.name, &self.is, &self.should);
        let differs = if is(sb, SFlag::S_IFLNK) {
            let link = |dir| readlinkat(dir, name).context(|| format!("readlinkat({name:?})"));
            link(*a)? != link(*b)?
        } else if is(sb, SFlag::S_IFREG) {
            sa.st_size != sb.st_size || !same_bytes(*a, *b, name)?
        } else {
            false
        };
        if differs {
            tell(out, path, None, "its content is another");
        }
        Ok(())
    }
}

fn same_bytes(a: BorrowedFd<'_>, b: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    let open = |dir| -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(dir, name, flags, Mode::empty()).context(|| format!("openat({name:?})"))?))
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = || format!("read({name:?})");
        let n = fill(&mut a, &mut left).context(read)?;
        let m = fill(&mut b, &mut right).context(read)?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}
