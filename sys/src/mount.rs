//! The new mount calls, which nix lacks: fsopen, fsconfig, fsmount, open_tree, move_mount,
//! mount_setattr. A tree is built detached, and attached last. When a call on a file-system context fails, the kernel's own messages, read from the
//! context, go into the error. What to mount where is decided by the callers.

#![allow(unsafe_code)] // raw system calls; nothing else is done here

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

/// `MOUNT_ATTR_*` flags, for [`FsContext::mount`] and [`set_attrs`] (mount_setattr(2)).
pub mod attr {
    /// Read only.
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Ignore setuid bits and file capabilities.
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// No device can be opened.
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// The field that holds how access times are kept.
    pub const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
    /// Access times are kept when older than the modification: the default, all bits clear.
    pub const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
    /// Access times are not kept.
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Ids are mapped by the user namespace in `userns_fd`.
    pub const IDMAP: u64 = libc::MOUNT_ATTR_IDMAP;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
}

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSPICK_CLOEXEC: libc::c_uint = 1;
const FSPICK_NO_AUTOMOUNT: libc::c_uint = 4;
const FSPICK_EMPTY_PATH: libc::c_uint = 8;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;

/// A file-system context: a superblock being described (fsopen(2)), or reconfigured (fspick(2)).
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
}

impl FsContext {
    /// `fsopen(kind)`: a new superblock of this type. ENOSYS before Linux 5.2.
    pub fn open(kind: &str) -> Result<Self> {
        let name = c_string(kind)?;
        // SAFETY: `name` is NUL-terminated and outlives the call; the kernel keeps no pointer.
        let ret = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
        Ok(Self { fd: owned(ret).context(|| format!("fsopen({kind:?})"))? })
    }

    /// `fspick(dir)`: the superblock that is mounted there, to be reconfigured.
    pub fn pick(at: BorrowedFd<'_>) -> Result<Self> {
        let flags = FSPICK_CLOEXEC | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH;
        // SAFETY: the path is a NUL-terminated literal; `at` is open for the whole call.
        let ret = unsafe { libc::syscall(libc::SYS_fspick, at.as_raw_fd(), c"".as_ptr(), flags) };
        Ok(Self { fd: owned(ret).context(|| format!("fspick({})", at.as_raw_fd()))? })
    }

    /// `key` alone, such as `ro`.
    pub fn flag(&self, key: &str) -> Result<()> {
        let k = c_string(key)?;
        self.config(FSCONFIG_SET_FLAG, Some(&k), None, 0)
            .map_err(|e| self.explain(format!("fsconfig({key:?})"), e))
    }

    /// `key=value`. The kernel takes values of up to 255 bytes.
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        let (k, v) = (c_string(key)?, c_string(value)?);
        self.config(FSCONFIG_SET_STRING, Some(&k), Some(&v), 0)
            .map_err(|e| self.explain(format!("fsconfig({key:?}, {value:?})"), e))
    }

    /// `key` as an open descriptor. Overlay takes it for its layers since Linux 6.13.
    pub fn fd(&self, key: &str, fd: BorrowedFd<'_>) -> Result<()> {
        let k = c_string(key)?;
        let raw = fd.as_raw_fd();
        self.config(FSCONFIG_SET_FD, Some(&k), None, raw)
            .map_err(|e| self.explain(format!("fsconfig({key:?}, fd {raw})"), e))
    }

    /// Make the superblock.
    pub fn create(&self) -> Result<()> {
        self.config(FSCONFIG_CMD_CREATE, None, None, 0)
            .map_err(|e| self.explain("fsconfig(FSCONFIG_CMD_CREATE)".into(), e))
    }

    /// Change the superblock to the parameters given.
    pub fn reconfigure(&self) -> Result<()> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None, 0)
            .map_err(|e| self.explain("fsconfig(FSCONFIG_CMD_RECONFIGURE)".into(), e))
    }

    /// `fsmount`: the superblock as a detached mount, with `MOUNT_ATTR_*` flags.
    pub fn mount(&self, attrs: u64) -> Result<OwnedFd> {
        // SAFETY: plain integers; the descriptor is open as long as `self`.
        let ret = unsafe {
            libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), FSMOUNT_CLOEXEC, attrs as libc::c_uint)
        };
        owned(ret).map_err(|e| self.explain(format!("fsmount({attrs:#x})"), e))
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
        aux: i32,
    ) -> std::result::Result<(), Errno> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: `key` and `value` are null or NUL-terminated strings that outlive the call.
        let ret = unsafe { libc::syscall(libc::SYS_fsconfig, self.fd.as_raw_fd(), command, key, value, aux) };
        Errno::result(ret).map(drop)
    }

    /// The error of a call, with what the kernel had to say about it.
    fn explain(&self, call: String, errno: Errno) -> Error {
        let said = self.messages();
        let e = Error::syscall(call, errno);
        if said.is_empty() { e } else { e.wrap(said) }
    }

    /// The messages that the kernel left in the context, in order. Reading takes them away.
    pub fn messages(&self) -> String {
        let mut all = String::new();
        let mut line = [0u8; 1024];
        while let Ok(n) = nix::unistd::read(&self.fd, &mut line) {
            if n == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line[..n]);
            // Every message is "e text", "w text" or "i text".
            let text = text.trim_end().get(2..).unwrap_or("").to_owned();
            if !all.is_empty() {
                all.push_str("; ");
            }
            all.push_str(&text);
        }
        all
    }
}

/// The context's descriptor, to be handed to another process.
impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `open_tree(at, path, OPEN_TREE_CLONE)`: a detached copy of the mount (with `recursive`, of the
/// tree) at `path`; an empty `path` is `at` itself. The last component is not followed when it is
/// a symbolic link.
pub fn clone_tree(at: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let c = c_path(path)?;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC as libc::c_uint
        | (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) as libc::c_uint
        | if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    // SAFETY: `c` is NUL-terminated and outlives the call; `at` is open for the whole call.
    let ret = unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), c.as_ptr(), flags) };
    owned(ret).context(|| format!("open_tree({}, {path:?}, {flags:#x})", at.as_raw_fd()))
}

/// [`clone_tree`] of a path of the host, followed through symbolic links.
pub fn clone_host_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let c = c_path(path)?;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC as libc::c_uint
        | if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    // SAFETY: `c` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c.as_ptr(), flags) };
    owned(ret).context(|| format!("open_tree({path:?}, {flags:#x})"))
}

/// `move_mount(tree, "", target, "")`: attach a detached tree on the object that `target` is open on.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are NUL-terminated literals; both descriptors are open for the whole call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(ret)
        .map(drop)
        .context(|| format!("move_mount({}, {})", tree.as_raw_fd(), target.as_raw_fd()))
}

/// `move_mount(tree, "", at, name)`: attach a detached tree on `name` in the directory `at`, a
/// symbolic link not followed.
pub fn attach_at(tree: BorrowedFd<'_>, at: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let c = c_path(name)?;
    // SAFETY: the paths are NUL-terminated and outlive the call; both descriptors are open.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at.as_raw_fd(),
            c.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(ret).map(drop).context(|| format!("move_mount({}, {name:?})", tree.as_raw_fd()))
}

/// What [`set_attrs`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attrs<'a> {
    /// `MOUNT_ATTR_*` flags to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` flags to clear; [`attr::ATIME`] when `set` holds an access-time mode.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for none of them.
    pub propagation: u64,
    /// The user namespace that maps ids; [`attr::IDMAP`] is set with it.
    pub userns: Option<BorrowedFd<'a>>,
}

/// Is something mounted on the directory, as this process sees it? What is not there is none. `statx(2)`, Linux 5.8.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let c = c_path(path)?;
    let mut about = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `c` is NUL-terminated and `about` is room for one statx; both outlive the call.
    let ret =
        unsafe { libc::statx(libc::AT_FDCWD, c.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, 0, about.as_mut_ptr()) };
    match Errno::result(ret) {
        Err(Errno::ENOENT) => return Ok(false),
        other => other.context(|| format!("statx({path:?})"))?,
    };
    // SAFETY: the kernel has filled it, and all its bytes were zero before.
    let about = unsafe { about.assume_init() };
    Ok(about.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
}

/// Where an open file is: its mount, the numbers of its device, its own number. Two that are open on the same place have the
/// same. `statx(2)`; before Linux 5.8 mounts are not told apart.
pub fn place(file: BorrowedFd<'_>) -> Result<(u64, u32, u32, u64)> {
    let mut about = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_INO | libc::STATX_MNT_ID;
    // SAFETY: an empty path that is NUL-terminated, and `about` is room for one statx that outlives the call.
    let ret =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, about.as_mut_ptr()) };
    Errno::result(ret).context(|| "statx(AT_EMPTY_PATH, STATX_INO|STATX_MNT_ID)")?;
    // SAFETY: the kernel has filled it, and all its bytes were zero before.
    let about = unsafe { about.assume_init() };
    Ok((about.stx_mnt_id, about.stx_dev_major, about.stx_dev_minor, about.stx_ino))
}

/// `mount_setattr(tree, "", ...)`: change a mount, or the tree below it. ENOSYS before Linux 5.12.
pub fn set_attrs(tree: BorrowedFd<'_>, attrs: Attrs<'_>, recursive: bool) -> Result<()> {
    let mut raw = libc::mount_attr {
        attr_set: attrs.set,
        attr_clr: attrs.clear,
        propagation: attrs.propagation,
        userns_fd: 0,
    };
    if let Some(fd) = attrs.userns {
        raw.attr_set |= attr::IDMAP;
        raw.userns_fd = fd.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `raw` is an initialised mount_attr of the size given, and outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw as *const libc::mount_attr,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(ret).map(drop).context(|| {
        format!("mount_setattr({}, set {:#x}, clear {:#x})", tree.as_raw_fd(), raw.attr_set, raw.attr_clr)
    })
}

fn owned(ret: libc::c_long) -> std::result::Result<OwnedFd, Errno> {
    let fd = Errno::result(ret)?;
    // SAFETY: the kernel has just returned this descriptor to us: it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn c_string(s: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Error::invalid(format!("use {s:?}: it holds a NUL byte")))
}

fn c_path(p: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(p.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("use {p:?}: it holds a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_file_system_is_named_in_the_error() {
        let e = FsContext::open("no-such-fs").unwrap_err().to_string();
        assert!(e.starts_with("fsopen(\"no-such-fs\"): "), "{e}");
    }

    #[test]
    fn a_name_with_a_nul_byte_never_reaches_the_kernel() {
        assert!(FsContext::open("a\0b").unwrap_err().to_string().contains("NUL"));
    }
}
