//! Files and directories.

use core::ffi::{CStr, c_int, c_long};

use super::super::Errno;
use super::super::raw::check_long;

/// Open a file of the tree at `dir`, with the mode of one that is made.
pub(crate) fn open_at(dir: c_int, path: &CStr, flags: c_int, mode: u32) -> Result<c_int, Errno> {
    call!(SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode).map(|fd| fd as c_int)
}

/// Write all of it, waiting where need be.
pub(crate) fn write_all(fd: c_int, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = call!(SYS_write, fd, bytes.as_ptr(), bytes.len())?;
        bytes = bytes.get(count as usize..).unwrap_or_default();
        if count == 0 {
            return Err(Errno(libc::EIO));
        }
    }
    Ok(())
}

/// pread(2) or pwrite(2).
#[cfg(target_pointer_width = "64")]
fn transfer(fd: c_int, bytes: *mut u8, size: usize, at: u64, write: bool) -> Result<c_int, Errno> {
    match write {
        true => call!(SYS_pwrite64, fd, bytes, size, at),
        false => call!(SYS_pread64, fd, bytes, size, at),
    }
}

/// The same where a place does not fit into a register: of these two calls the halves are where they are on all machines.
#[cfg(target_pointer_width = "32")]
fn transfer(fd: c_int, bytes: *mut u8, size: usize, at: u64, write: bool) -> Result<c_int, Errno> {
    let part = libc::iovec { iov_base: bytes.cast(), iov_len: size };
    match write {
        true => call!(SYS_pwritev, fd, &raw const part, 1, at as u32, (at >> 32) as u32),
        false => call!(SYS_preadv, fd, &raw const part, 1, at as u32, (at >> 32) as u32),
    }
}

/// Read from a place of a file, until the buffer is full or the file ends. How much that was.
pub(crate) fn read_at(fd: c_int, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(done..) {
        match transfer(fd, rest.as_mut_ptr(), rest.len(), at + done as u64, false)? {
            0 => break,
            count => done += count as usize,
        }
    }
    Ok(done)
}

/// Write all of it at a place of a file.
pub(crate) fn write_at(fd: c_int, bytes: &[u8], at: u64) -> Result<(), Errno> {
    match transfer(fd, bytes.as_ptr().cast_mut(), bytes.len(), at, true)? as usize {
        count if count == bytes.len() => Ok(()),
        _ => Err(Errno(libc::EIO)),
    }
}

/// Bring what was written to a file to its disk.
pub(crate) fn fsync(fd: c_int) -> Result<(), Errno> {
    done!(SYS_fsync, fd)
}

/// Make a directory.
#[inline(never)]
pub(crate) fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    done!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode)
}

/// Make a symbolic link.
pub(crate) fn symlink(to: &CStr, path: &CStr) -> Result<(), Errno> {
    done!(SYS_symlinkat, to.as_ptr(), libc::AT_FDCWD, path.as_ptr())
}

/// Give a file another name.
pub(crate) fn rename(from: &CStr, to: &CStr) -> Result<(), Errno> {
    done!(SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 0)
}

/// Remove a name from the directory `dir`; `flags` may be AT_REMOVEDIR.
pub(crate) fn unlink_at(dir: c_int, name: &CStr, flags: c_int) -> Result<(), Errno> {
    done!(SYS_unlinkat, dir, name.as_ptr(), flags)
}

/// Change a file's owner.
pub(crate) fn chown(path: &CStr, user: u32, group: u32) -> Result<(), Errno> {
    done!(SYS_fchownat, libc::AT_FDCWD, path.as_ptr(), user, group, 0)
}

/// Change an open file's owner.
pub(crate) fn give(fd: c_int, user: u32, group: u32) -> Result<(), Errno> {
    done!(SYS_fchown, fd, user, group)
}

/// Change a file's mode.
pub(crate) fn chmod(path: &CStr, mode: u32) -> Result<(), Errno> {
    done!(SYS_fchmodat, libc::AT_FDCWD, path.as_ptr(), mode)
}

/// What a file is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Stat {
    /// The file system that it lies on.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Of the mode only the kind: S_IFDIR and its like.
    pub(crate) kind: u32,
}

/// Look at a name of the directory `dir`; a link is not followed unless `follow`.
pub(crate) fn stat_at(dir: c_int, name: &CStr, follow: bool) -> Result<Stat, Errno> {
    // struct statx is 256 bytes: mode at 28, inode at 32, device's numbers at 136 and 140.
    let mut statx = [0u32; 64];
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(SYS_statx, dir, name.as_ptr(), flags, libc::STATX_BASIC_STATS, statx.as_mut_ptr())?;
    let word = |at: usize| u64::from(statx.get(at / 4).copied().unwrap_or(0));
    let (low, high) = if cfg!(target_endian = "little") { (32, 36) } else { (36, 32) };
    let mode = word(28).to_ne_bytes();
    Ok(Stat {
        device: word(136) << 32 | word(140),
        inode: word(low) | word(high) << 32,
        kind: u32::from(u16::from_ne_bytes([mode[0], mode[1]])) & libc::S_IFMT,
    })
}

/// The kind of file system that a path lies on: a magic number of statfs(2).
pub(crate) fn file_system(path: &CStr) -> Result<u32, Errno> {
    // struct statfs is at most 120 bytes; its type is the first word.
    let mut statfs: [c_long; 16] = [0; 16];
    call!(SYS_statfs, path.as_ptr(), statfs.as_mut_ptr())?;
    Ok(statfs[0] as u32)
}

/// Two ends of a pipe: what is written to the second is read from the first.
pub(crate) fn pipe(flags: c_int) -> Result<[c_int; 2], Errno> {
    let mut ends: [c_int; 2] = [0; 2];
    call!(SYS_pipe2, ends.as_mut_ptr(), flags | libc::O_CLOEXEC)?;
    Ok(ends)
}

/// Make `to` the same open file as `from`; both stay open, and an execve does not close `to`.
pub(crate) fn duplicate_to(from: c_int, to: c_int) -> Result<(), Errno> {
    if from == to {
        return done!(SYS_fcntl, from, libc::F_SETFD, 0);
    }
    done!(SYS_dup3, from, to, 0)
}

/// Let calls on a descriptor wait (or not).
pub(crate) fn set_blocking(fd: c_int, blocking: bool) {
    let Ok(flags) = call!(SYS_fcntl, fd, libc::F_GETFL) else { return };
    let flags = flags as c_int & !libc::O_NONBLOCK;
    let _ = call!(SYS_fcntl, fd, libc::F_SETFL, if blocking { flags } else { flags | libc::O_NONBLOCK });
}

/// How much is in an open file. Where it is read or written next is its end then.
pub(crate) fn file_size(fd: c_int) -> Result<u64, Errno> {
    check_long(answer!(SYS_lseek, fd, 0, libc::SEEK_END)).map(|size| size as u64)
}
