//! Copies of files and trees, with owners, modes, attributes, times and hard links; blocks are shared
//! where the file system can. Links are copied and never followed. Sockets are left out.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use coracle_sys::file;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, Whence, fchownat, linkat, lseek, symlinkat};

use super::attributes::{is_overlays, set_times};
use super::tree::{is, list, open_dir};

/// Copy one file that is not a directory.
pub fn file(
    from: BorrowedFd<'_>,
    name: &OsStr,
    st: &FileStat,
    to: BorrowedFd<'_>,
    new: &OsStr,
) -> Result<()> {
    let type_bits = SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits());
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    match type_bits {
        SFlag::S_IFREG => {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let input = openat(from, name, flags, Mode::empty()).context(|| format!("openat({name:?})"))?;
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let output = openat(to, new, flags, private).context(|| format!("openat({new:?}, O_CREAT)"))?;
            if file::reflink(input.as_fd(), output.as_fd()).is_err() {
                data(&File::from(input), &File::from(output)).context(|| format!("copy {name:?}"))?;
            }
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).context(|| format!("readlinkat({name:?})"))?;
            symlinkat(&*target, to, new).context(|| format!("symlinkat({new:?})"))?;
        }
        SFlag::S_IFCHR | SFlag::S_IFBLK | SFlag::S_IFIFO => {
            mknodat(to, new, type_bits, private, st.st_rdev).context(|| format!("mknodat({new:?})"))?;
        }
        _ => return Ok(()),
    }
    attributes(from, name, st, to, new)
}

/// Copy what is written of a file; what is a hole stays one.
fn data(mut input: &File, mut output: &File) -> std::io::Result<()> {
    let size = input.metadata()?.len();
    let mut at = 0;
    while at < size {
        let (start, end) = match lseek(input, at as i64, Whence::SeekData) {
            Ok(start) => (start as u64, lseek(input, start, Whence::SeekHole)? as u64),
            Err(Errno::ENXIO) => break,
            // A file system that does not know its holes.
            Err(Errno::EINVAL) => (at, size),
            Err(e) => return Err(e.into()),
        };
        input.seek(SeekFrom::Start(start))?;
        output.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut input.take(end - start), &mut output)?;
        at = end;
    }
    output.set_len(size)
}

/// Give a copy the attributes of its original.
pub(crate) fn attributes(
    from: BorrowedFd<'_>,
    name: &OsStr,
    st: &FileStat,
    to: BorrowedFd<'_>,
    new: &OsStr,
) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(st.st_uid), Gid::from_raw(st.st_gid));
    match fchownat(to, new, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW) {
        // Without privilege everything belongs to the one user, in the original as well.
        Err(Errno::EPERM) => {}
        other => other.context(|| format!("fchownat({new:?}, {uid}, {gid})"))?,
    }
    if !is(st, SFlag::S_IFLNK) {
        let mode = Mode::from_bits_truncate(st.st_mode);
        fchmodat(to, new, mode, FchmodatFlags::FollowSymlink).context(|| format!("fchmodat({new:?})"))?;
    }
    for key in file::xattr_names_at(from, name).context(|| format!("llistxattr({name:?})"))? {
        if is_overlays(key.as_bytes()) {
            continue;
        }
        let value = file::xattr_at(from, name, &key).context(|| format!("lgetxattr({name:?}, {key:?})"))?;
        let Some(value) = value else { continue };
        match file::set_xattr_at(to, new, &key, &value) {
            Ok(()) | Err(Errno::EPERM | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e).context(|| format!("lsetxattr({new:?}, {key:?})")),
        }
    }
    set_times(to, new, (st.st_mtime, st.st_mtime_nsec as u32))
}

/// Copy everything in the directory `from` into the empty directory `to`, and its own attributes.
pub fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut links = HashMap::new();
    contents(from, to, &mut links, to, &OsString::new(), 0)?;
    let here = OsStr::new(".");
    let st = fstatat(from, here, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| "fstatat(\".\")")?;
    attributes(from, here, &st, to, here)
}

/// [`tree`] of directories given by their paths.
pub fn tree_at(from: &Path, to: &Path) -> Result<()> {
    let (source, target) = (file::open_dir(from)?, file::open_dir(to)?);
    tree(source.as_fd(), target.as_fd()).map_err(|e| e.wrap(format!("copy {from:?} to {to:?}")))
}

/// Where the first name of a file with more than one was copied to, from the root of the copy.
pub(super) type Links = HashMap<(u64, u64), OsString>;

fn contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    links: &mut Links,
    root: BorrowedFd<'_>,
    path: &OsString,
    depth: usize,
) -> Result<()> {
    if depth > 1000 {
        return Err(Error::invalid("copy a directory: it is deeper than 1000"));
    }
    for name in list(from)? {
        let name = OsString::from_vec(name);
        let st =
            fstatat(from, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).context(|| format!("fstatat({name:?})"))?;
        let mut here = path.clone();
        if !here.is_empty() {
            here.push("/");
        }
        here.push(&name);
        if is(&st, SFlag::S_IFDIR) {
            mkdirat(to, &*name, Mode::S_IRWXU).context(|| format!("mkdirat({name:?})"))?;
            let open = |at| -> Result<OwnedFd> {
                open_dir(at, &name).context(|| format!("openat({name:?}, O_DIRECTORY)"))
            };
            let (a, b) = (open(from)?, open(to)?);
            contents(a.as_fd(), b.as_fd(), links, root, &here, depth + 1)?;
            attributes(from, &name, &st, to, &name)?;
            continue;
        }
        let first = (st.st_nlink > 1).then(|| links.get(&(st.st_dev, st.st_ino))).flatten();
        if let Some(first) = first {
            linkat(root, &**first, to, &*name, AtFlags::empty()).context(|| format!("linkat({name:?})"))?;
            continue;
        }
        file(from, &name, &st, to, &name)?;
        if st.st_nlink > 1 {
            links.insert((st.st_dev, st.st_ino), here);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_copied_tree_keeps_modes_times_and_hard_links() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-copy-"));
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::create_dir_all(a.join("d")).unwrap();
        fs::create_dir(&b).unwrap();
        fs::write(a.join("d/f"), "x").unwrap();
        fs::set_permissions(a.join("d/f"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(a.join("d/f"), a.join("g")).unwrap();
        symlink("/etc/passwd", a.join("l")).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7);
        File::open(a.join("d")).unwrap().set_modified(old).unwrap();
        tree_at(&a, &b).unwrap();
        let m = fs::metadata(b.join("d/f")).unwrap();
        assert_eq!((m.permissions().mode() & 0o7777, m.nlink()), (0o4711, 2));
        assert_eq!(m.ino(), fs::metadata(b.join("g")).unwrap().ino());
        assert_eq!(fs::read_link(b.join("l")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(b.join("d")).unwrap().mtime(), 7);
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_hole_of_a_terabyte_is_copied_as_a_hole() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-copy-"));
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let sparse = File::create(a.join("f")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 39).unwrap();
        tree_at(&a, &b).unwrap();
        let m = fs::metadata(b.join("f")).unwrap();
        assert!(m.len() == 1 << 40 && m.blocks() < 1 << 11, "{} blocks", m.blocks());
        let mut there = [0; 8];
        let copy = File::open(b.join("f")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&copy, &mut there, (1 << 39) - 1).unwrap();
        assert_eq!(&there, b"\0middle\0");
        file::remove_tree(&dir).unwrap();
    }
}
