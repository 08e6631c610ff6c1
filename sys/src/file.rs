//! Files: reading small ones in three calls, replacing them whole, extended attributes, reflinks,
//! and the removal of trees. Paths are the caller's; nothing here follows a link at its last
//! component unless it says so.

#![allow(unsafe_code)] // extended attributes and FICLONE, which nix lacks

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Context, Error, Kind, Result};

/// A directory's descriptor, good for paths below it only.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({path:?}, O_DIRECTORY)"))
}

/// A descriptor that the caller has passed on by its number: the very one, so that what is written goes
/// where the caller's own next byte would, be it a file's end, a pipe or a socket. Denied where it is
/// not open for writing.
pub fn inherited_for_writing(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFL takes no pointer, and a number that is not open is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
    let flags = Errno::result(flags).context(|| format!("fcntl({number}, F_GETFL)"))?;
    if flags & libc::O_PATH != 0 || flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(Error::new(Kind::Denied, format!("descriptor {number} is not open for writing")));
    }
    // SAFETY: as above, and the kernel makes the descriptor that is owned from here on.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let fd = Errno::result(fd).context(|| format!("fcntl({number}, F_DUPFD_CLOEXEC)"))?;
    // SAFETY: it was made in the line above, and nobody else has seen it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What [`read`] takes for a small file.
const SMALL: usize = 64 << 20;

/// All of a small file. Files of /proc too, whose size nobody knows beforehand, and which come in pieces:
/// only a read that gives nothing is the end.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open({path:?})"))?;
    all_of(file.as_fd(), path)
}

/// [`read`] of a plain file alone: a pipe in its place is not waited for.
pub fn read_plain(path: &Path) -> Result<Vec<u8>> {
    all_of(open_plain(path)?.as_fd(), path)
}

fn all_of(file: BorrowedFd<'_>, path: &Path) -> Result<Vec<u8>> {
    let mut piece = [0; 4096];
    let mut out = Vec::new();
    loop {
        match nix::unistd::read(file, &mut piece) {
            Ok(0) => return Ok(out),
            Ok(n) if out.len() + n > SMALL => {
                return Err(Error::invalid(format!("read {path:?}: it has more than {SMALL} bytes")));
            }
            Ok(n) => out.extend_from_slice(&piece[..n]),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| format!("read({path:?})")),
        }
    }
}

/// Open a plain file to read. Anything else is refused, and a pipe is not waited for.
pub fn open_plain(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.context(|| format!("open({path:?})"))?;
    match file.metadata().context(|| format!("fstat({path:?})"))?.is_file() {
        true => Ok(file),
        false => Err(Error::invalid(format!("open({path:?}): it is no plain file"))),
    }
}

/// Replace `path` by a file with these bytes: a reader sees the old one or the new one, and so does
/// whoever comes after a power cut. What stands in the directory under other names is not touched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("write {path:?}: it is no file name")));
    };
    let mut temp_name = OsStr::new(".").to_owned();
    temp_name.push(name);
    temp_name.push(unique_name("."));
    let temp = dir.join(temp_name);
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp)
            .context(|| format!("open({temp:?}, O_CREAT|O_EXCL)"))?;
        file.write_all(bytes).context(|| format!("write({temp:?})"))?;
        file.sync_all().context(|| format!("fsync({temp:?})"))?;
        std::fs::rename(&temp, path).context(|| format!("rename({temp:?}, {path:?})"))?;
        sync_dir(dir)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written
}

/// Rename a directory to a name that nothing has: EEXIST where something does. A file system that cannot
/// tell replaces an empty directory.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("renameat2({from:?}, {to:?}, RENAME_NOREPLACE)");
    let (a, b) = (c_name(from.as_os_str())?, c_name(to.as_os_str())?);
    let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_renameat2, here, a.as_ptr(), here, b.as_ptr(), flags as libc::c_uint)
    };
    match Errno::result(ret) {
        Err(Errno::EINVAL | Errno::ENOSYS) => match std::fs::rename(from, to) {
            Err(e) if e.raw_os_error() == Some(Errno::ENOTEMPTY as i32) => Err(Errno::EEXIST).context(what),
            other => other.context(what),
        },
        other => other.map(drop).context(what),
    }
}

/// Make the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let fd = open_dir(dir)?;
    nix::unistd::fsync(fd).context(|| format!("fsync({dir:?})"))
}

/// Make everything in the file system of this descriptor durable.
pub fn sync_fs(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: an integer is all that is passed; the descriptor is open.
    let ret = unsafe { libc::syscall(libc::SYS_syncfs, fd.as_raw_fd()) };
    Errno::result(ret).map(drop).context(|| format!("syncfs({})", fd.as_raw_fd()))
}

/// Make `to` share the blocks of `from`. Fails where the file system cannot; copy then.
pub fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    const FICLONE: libc::c_ulong = 0x4004_9409;
    // SAFETY: FICLONE takes a descriptor by value; both are open.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), FICLONE as _, from.as_raw_fd()) }).map(drop)
}

/// Set an extended attribute of an open file.
pub fn set_xattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> std::result::Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated, `value` has the length given, both outlive the call.
    let ret =
        unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// Take an extended attribute of an open file away.
pub fn remove_xattr(fd: BorrowedFd<'_>, name: &CStr) -> std::result::Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    Errno::result(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Take an extended attribute of `name` in `dir` away, of a symbolic link itself. Needs /proc.
pub fn remove_xattr_at(dir: BorrowedFd<'_>, file: &OsStr, name: &CStr) -> std::result::Result<(), Errno> {
    let path = through_proc(dir, file)?;
    // SAFETY: both strings are NUL-terminated and outlive the call.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Set an extended attribute of `name` in `dir`, a symbolic link itself. Needs /proc.
pub fn set_xattr_at(
    dir: BorrowedFd<'_>,
    file: &OsStr,
    name: &CStr,
    value: &[u8],
) -> std::result::Result<(), Errno> {
    let path = through_proc(dir, file)?;
    // SAFETY: both strings are NUL-terminated, `value` has the length given, all outlive the call.
    let ret = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// One extended attribute of `file` in `dir`, a symbolic link itself; `None` when it has not got
/// it. Needs /proc.
pub fn xattr_at(
    dir: BorrowedFd<'_>,
    file: &OsStr,
    name: &CStr,
) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let path = through_proc(dir, file)?;
    let got = grow(|buf, len| {
        // SAFETY: both strings are NUL-terminated, `buf` has room for `len` bytes, all outlive the call.
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buf.cast(), len) }
    });
    match got {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The names of all extended attributes of `file` in `dir`, a symbolic link itself. Needs /proc.
pub fn xattr_names_at(dir: BorrowedFd<'_>, file: &OsStr) -> std::result::Result<Vec<CString>, Errno> {
    let path = through_proc(dir, file)?;
    let got = grow(|buf, len| {
        // SAFETY: the path is NUL-terminated, `buf` has room for `len` bytes, both outlive the call.
        unsafe { libc::llistxattr(path.as_ptr(), buf.cast(), len) }
    });
    let all = match got {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        other => other?,
    };
    let mut names: Vec<CString> =
        all.split(|b| *b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok()).collect();
    crate::order::sort(&mut names);
    Ok(names)
}

/// Call with a buffer that grows until the answer fits.
fn grow(mut call: impl FnMut(*mut u8, usize) -> isize) -> std::result::Result<Vec<u8>, Errno> {
    let mut buf = vec![0u8; 256];
    loop {
        match Errno::result(call(buf.as_mut_ptr(), buf.len())) {
            Ok(n) => {
                buf.truncate(n as usize);
                return Ok(buf);
            }
            Err(Errno::ERANGE) if buf.len() < 1 << 20 => buf.resize(buf.len() * 8, 0),
            Err(e) => return Err(e),
        }
    }
}

fn through_proc(dir: BorrowedFd<'_>, file: &OsStr) -> std::result::Result<CString, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(file.as_bytes());
    CString::new(path).map_err(|_| Errno::EINVAL)
}

/// Remove `path` and everything below it, never through a symbolic link, nor a mount's own root. Subvolumes of btrfs
/// go at once where that is allowed, and file by file where not.
/// What is not there is no error. Directories that their owner may not read are opened up first.
pub fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("remove {path:?}: it is no file name")));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match open_dir(parent) {
        Ok(dir) => remove_at(dir.as_fd(), name).map_err(|e| e.wrap(format!("remove {path:?}"))),
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// [`remove_tree`] of `name` in an open directory.
pub fn remove_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e).context(|| format!("unlinkat({name:?})")),
    }
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => {}
        Err(e) => return Err(e).context(|| format!("unlinkat({name:?}, AT_REMOVEDIR)")),
    }
    let top = c_name(name)?;
    if crate::btrfs::destroy(dir, &top) {
        return Ok(());
    }
    // A list of what is still to do, rather than recursion: a hostile tree may be deep. One directory
    // a level is kept open; what lies deeper than MAX_OPEN is moved up first.
    const MAX_OPEN: usize = 100;
    let mut stack: Vec<(OwnedFd, CString)> = Vec::new();
    let mut todo: Vec<Vec<CString>> = Vec::new();
    descend(dir, &top, &mut stack, &mut todo)?;
    while let Some(names) = todo.last_mut() {
        let Some((fd, _)) = stack.last() else { break };
        let Some(child) = names.pop() else {
            todo.pop();
            let Some((_, done)) = stack.pop() else { break };
            let at = stack.last().map_or(dir, |(fd, _)| fd.as_fd());
            match unlinkat(at, done.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(e) => return Err(e).context(|| format!("unlinkat({done:?}, AT_REMOVEDIR)")),
            }
        };
        match unlinkat(fd, child.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Most directories that containers leave are empty, and need not be opened.
            Err(Errno::EISDIR | Errno::EPERM)
                if unlinkat(fd, child.as_c_str(), UnlinkatFlags::RemoveDir).is_ok()
                    || crate::btrfs::destroy(fd.as_fd(), &child) => {}
            Err(Errno::EISDIR | Errno::EPERM) if stack.len() >= MAX_OPEN => {
                let moved = c_name(unique_name(".removed-").as_os_str())?;
                let top = &stack[0].0;
                renameat(fd, child.as_c_str(), top, moved.as_c_str())
                    .context(|| format!("renameat({child:?}, {moved:?})"))?;
                todo[0].push(moved);
            }
            Err(Errno::EISDIR | Errno::EPERM) => {
                let at = fd.try_clone().context(|| "dup()")?;
                descend(at.as_fd(), &child, &mut stack, &mut todo)?;
            }
            Err(e) => return Err(e).context(|| format!("unlinkat({child:?})")),
        }
    }
    Ok(())
}

fn descend(
    at: BorrowedFd<'_>,
    name: &CStr,
    stack: &mut Vec<(OwnedFd, CString)>,
    todo: &mut Vec<Vec<CString>>,
) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = match openat(at, name, flags, Mode::empty()) {
        Err(Errno::EACCES) if is_dir(at, name) => {
            let all = Mode::S_IRWXU;
            fchmodat(at, name, all, FchmodatFlags::FollowSymlink)
                .context(|| format!("fchmodat({name:?}, 0700)"))?;
            openat(at, name, flags, Mode::empty())
        }
        other => other,
    };
    let fd = match fd {
        // Somebody else is removing it too.
        Err(Errno::ENOENT) => return Ok(()),
        other => other.context(|| format!("openat({name:?}, O_DIRECTORY)"))?,
    };
    crate::btrfs::make_writable(fd.as_fd());
    let mut dir = Dir::from_fd(fd.try_clone().context(|| "dup()")?).context(|| "fdopendir()")?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.context(|| format!("getdents({name:?})"))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    stack.push((fd, name.to_owned()));
    todo.push(names);
    Ok(())
}

fn is_dir(at: BorrowedFd<'_>, name: &CStr) -> bool {
    fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|st| SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR)
}

fn c_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Error::invalid(format!("use {name:?}: it holds a NUL byte")))
}

/// A path made unique enough for a temporary name: process, clock, counter.
pub fn unique_name(prefix: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64 & 0xffff_ffff_ffff);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("{prefix}{}-{nanos:x}-{n}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(unique_name("coracle-file-"));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_tree_is_removed_without_following_its_links() {
        let dir = scratch();
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(dir.join("kept")).unwrap();
        fs::write(dir.join("kept/file"), "x").unwrap();
        symlink("../../kept", tree.join("a/out")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        fs::set_permissions(tree.join("a/b/c"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(dir.join("kept/file").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_files_may_be_open_is_removed() {
        let dir = scratch();
        let tree = dir.join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = open_dir(&tree).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            drop(openat(&at, "f", OFlag::O_CREAT | OFlag::O_CLOEXEC, Mode::S_IRUSR).unwrap());
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_link_is_removed_and_not_what_it_names() {
        let dir = scratch();
        fs::create_dir(dir.join("kept")).unwrap();
        symlink("kept", dir.join("link")).unwrap();
        remove_tree(&dir.join("link")).unwrap();
        assert!(dir.join("kept").exists());
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn files_of_every_size_are_read_whole() {
        let dir = scratch();
        for size in [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 300_000] {
            let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
            write_atomic(&dir.join("f"), &bytes, 0o644).unwrap();
            assert_eq!(read(&dir.join("f")).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        remove_tree(&dir).unwrap();
    }
}
