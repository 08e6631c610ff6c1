//! Subvolumes of btrfs, by its ioctls: made, snapshot, destroyed. A subvolume is a directory to everybody else: it
//! is renamed as one, and an empty one is removed as one.

#![allow(unsafe_code)] // ioctls, which nix lacks

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Result};

/// The inode number of every subvolume's root.
const ROOT: u64 = 256;

const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;
const SUBVOL_SETFLAGS: libc::c_ulong = 0x4008_941a;
const SNAP_DESTROY_V2: libc::c_ulong = 0x5000_943f;

/// `struct btrfs_ioctl_vol_args` of <linux/btrfs.h>.
#[repr(C)]
struct Args {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, without what quota groups take.
#[repr(C)]
struct ArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// Is the directory on btrfs?
pub fn is_on(dir: BorrowedFd<'_>) -> bool {
    fstatfs(dir).is_ok_and(|fs| fs.filesystem_type() == BTRFS_SUPER_MAGIC)
}

/// Is it the root of a subvolume, as far as its number tells?
fn is_root(st: &FileStat) -> bool {
    st.st_ino == ROOT && SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
}

/// Make an empty subvolume.
pub fn create(path: &Path) -> Result<()> {
    let (dir, name) = split(path)?;
    let mut args = Args { fd: 0, name: [0; 4088] };
    fill(&mut args.name, name)
        .and_then(|()| ioctl(dir.as_fd(), SUBVOL_CREATE, &args))
        .context(|| format!("ioctl({path:?}, BTRFS_IOC_SUBVOL_CREATE)"))
}

/// Make a snapshot of the subvolume at `of`, which can be written to. EXDEV where that is on another file system,
/// EINVAL where it is no subvolume.
pub fn snapshot(of: &Path, path: &Path) -> Result<()> {
    let what = || format!("ioctl({path:?}, BTRFS_IOC_SNAP_CREATE_V2, {of:?})");
    let source = open_dir(of)?;
    // A directory in a subvolume would be taken for the whole of it.
    if !is_on(source.as_fd()) || !fstat(&source).is_ok_and(|st| is_root(&st)) {
        return Err(Errno::EINVAL).context(what);
    }
    let (dir, name) = split(path)?;
    let mut args =
        ArgsV2 { fd: source.as_raw_fd().into(), transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    fill(&mut args.name, name).and_then(|()| ioctl(dir.as_fd(), SNAP_CREATE_V2, &args)).context(what)
}

/// Remove `name` in `dir` with all its files at once, where it is a subvolume, holds no other, and we may: root, or
/// who owns it on a file system that is mounted with `user_subvol_rm_allowed`. Otherwise nothing is done.
pub(crate) fn destroy(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    if !fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|st| is_root(&st)) {
        return false;
    }
    let mut args = ArgsV2 { fd: 0, transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    if fill(&mut args.name, name.to_bytes()).is_err() {
        return false;
    }
    match ioctl(dir, SNAP_DESTROY_V2, &args) {
        // Before Linux 5.7.
        Err(Errno::ENOTTY) => {
            let mut args = Args { fd: 0, name: [0; 4088] };
            fill(&mut args.name, name.to_bytes()).is_ok() && ioctl(dir, SNAP_DESTROY, &args).is_ok()
        }
        done => done.is_ok(),
    }
}

/// Let files be removed from a subvolume that was made read only. Of anything else nothing is changed.
pub(crate) fn make_writable(dir: BorrowedFd<'_>) {
    if fstat(dir).is_ok_and(|st| is_root(&st)) {
        let _ = ioctl(dir, SUBVOL_SETFLAGS, &0u64);
    }
}

/// The parent, open, and the name in it.
fn split(path: &Path) -> Result<(OwnedFd, &[u8])> {
    let dir = open_dir(path.parent().unwrap_or(Path::new("/")))?;
    Ok((dir, path.file_name().unwrap_or(OsStr::new("")).as_bytes()))
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).context(|| format!("open({path:?}, O_DIRECTORY)"))
}

/// A name and the NUL after it, which is there already.
fn fill(at: &mut [u8], name: &[u8]) -> std::result::Result<(), Errno> {
    match at.get_mut(..name.len()) {
        Some(room) if name.len() < 256 => room.copy_from_slice(name),
        _ => return Err(Errno::ENAMETOOLONG),
    }
    Ok(())
}

fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::c_ulong, args: &T) -> std::result::Result<(), Errno> {
    // SAFETY: each request is called with the struct, or the integer, that it reads, laid out as the kernel's header
    // has it; nothing is written to it, and it outlives the call. Other file systems answer ENOTTY.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_ref(args)) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structs_have_a_page() {
        assert_eq!((size_of::<Args>(), size_of::<ArgsV2>()), (4096, 4096));
    }

    #[test]
    fn a_directory_that_is_no_subvolume_is_left_alone() {
        let dir = std::env::temp_dir().join(crate::file::unique_name("coracle-btrfs-"));
        std::fs::create_dir_all(dir.join("plain")).unwrap();
        let fd = open_dir(&dir).unwrap();
        assert!(!destroy(fd.as_fd(), c"plain") && !destroy(fd.as_fd(), c"none"));
        assert_eq!(snapshot(&dir.join("plain"), &dir.join("new")).unwrap_err().errno(), Some(Errno::EINVAL));
        assert!(dir.join("plain").exists() && !dir.join("new").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
