//! Quotas of projects: how much of a disk the files of one number may take. A folder passes its number on to what is made
//! in it. Nothing here decides; each function is one call. ioctl_xfs_fsgetxattr(2), quotactl(2).
#![allow(unsafe_code)] // ioctls and a system call that neither nix nor libc wraps

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::{Context, Result};

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// What is made in the folder is of its project.
const PASSED_ON: u32 = 0x200;

fn attributes(dir: BorrowedFd<'_>) -> Result<Attributes> {
    let mut all = Attributes::default();
    // SAFETY: the ioctl writes one fsxattr, of 28 bytes as its number says, which `all` is and which outlives the call.
    let r = unsafe { libc::ioctl(dir.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut all) };
    Errno::result(r).context(|| "ioctl(FS_IOC_FSGETXATTR)")?;
    Ok(all)
}

/// The project of a folder; 0 is none.
pub fn project(dir: BorrowedFd<'_>) -> Result<u32> {
    attributes(dir).map(|all| all.project)
}

/// Make a folder, and what is made in it from now on, a project's.
pub fn set_project(dir: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut all = attributes(dir)?;
    all.project = project;
    all.flags |= PASSED_ON;
    // SAFETY: as above; the ioctl reads it.
    let r = unsafe { libc::ioctl(dir.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const all) };
    Errno::result(r).map(drop).context(|| format!("ioctl(FS_IOC_FSSETXATTR, project={project})"))
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Limits {
    hard: u64,
    soft: u64,
    used: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
/// A block of quotas, in bytes.
const BLOCK: u64 = 1024;

fn quotactl(dir: BorrowedFd<'_>, command: u32, project: u32, limits: &mut Limits) -> nix::Result<()> {
    const PROJECTS: u32 = 2;
    const SYS_QUOTACTL_FD: libc::c_long = 443;
    let command = command << 8 | PROJECTS;
    // SAFETY: `limits` is a whole if_dqblk, which the call reads or writes and which outlives it.
    let r = unsafe {
        libc::syscall(SYS_QUOTACTL_FD, dir.as_raw_fd(), command, project, std::ptr::from_mut(limits))
    };
    Errno::result(r).map(drop)
}

/// Let the files of a project take so many bytes of the disk that `dir` is on; 0 is without a limit. `ENOSYS` before
/// Linux 5.14, `ESRCH` where the file system counts no projects.
pub fn limit(dir: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    const BLOCKS: u32 = 1;
    let hard = bytes.div_ceil(BLOCK);
    let mut limits = Limits { hard, soft: hard, valid: BLOCKS, ..Limits::default() };
    quotactl(dir, Q_SETQUOTA, project, &mut limits)
        .context(|| format!("quotactl_fd(Q_SETQUOTA, {project}, {bytes})"))
}

/// Whether a project has neither a limit nor files.
pub fn is_free(dir: BorrowedFd<'_>, project: u32) -> Result<bool> {
    let mut limits = Limits::default();
    match quotactl(dir, Q_GETQUOTA, project, &mut limits) {
        Err(Errno::ENOENT) => Ok(true),
        told => {
            told.context(|| format!("quotactl_fd(Q_GETQUOTA, {project})"))?;
            Ok(limits.hard == 0 && limits.used == 0 && limits.inodes == 0)
        }
    }
}
