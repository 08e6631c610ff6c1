//! The fuse-overlayfs driver: the directories of the overlay driver, stacked by the program of that name, where the kernel
//! gives an ordinary user no overlay. The mount is made here, detached, and the program answers for it from outside of
//! the container: it is nobody's child, and ends when the last that holds the mount is gone.
//!
//! What is removed is on disk what it is for the kernel's overlay, where the program may make that; else it is a file
//! `.wh.NAME`, as in an archive. What was written through it is to be read with [`crate::layer::Marks::Fuse`].

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::mount::FsContext;
use coracle_sys::program::{self, Program};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use nix::unistd::{AccessFlags, access, getegid, geteuid};

use super::overlay::Top;

/// The program, and its package.
const NAME: &str = "fuse-overlayfs";

/// The file beside an upper that tells that it was written through the program.
const MARK: &str = "fuse";

/// The program, in PATH.
pub fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(NAME))
        .find(|p| p.is_absolute() && p.is_file() && access(p, AccessFlags::X_OK).is_ok());
    let none = "run fuse-overlayfs: it is not in PATH: install the package fuse-overlayfs";
    found.ok_or_else(|| Error::new(Kind::Unsupported, none))
}

/// The device through which the kernel asks the program.
fn device() -> Result<File> {
    const DEVICE: &str = "/dev/fuse";
    let opened = File::options().read(true).write(true).open(DEVICE).context(|| format!("open({DEVICE:?})"));
    opened.map_err(|e| {
        let hint = match e.errno() {
            Some(Errno::EACCES | Errno::EPERM) => {
                "everybody is to read and write it, as udev has it: chmod 0666"
            }
            _ => "the kernel has no FUSE: modprobe fuse",
        };
        e.with_kind(Kind::Unsupported).wrap(hint)
    })
}

/// Are the program and the device there? Where it is, else what to do.
pub fn works() -> Result<PathBuf> {
    let found = find()?;
    device()?;
    Ok(found)
}

/// Was the upper written through the program?
pub fn is_marked(upper: &Path) -> bool {
    upper.with_file_name(MARK).exists()
}

/// Note beside an upper that it is written through the program from here on.
pub fn mark(upper: &Path) -> Result<()> {
    let path = upper.with_file_name(MARK);
    std::fs::write(&path, "").context(|| format!("write({path:?})"))
}

/// Mount layers, lowest first, under a writable top; without one the mount is read only. It is detached, and belongs to
/// the user namespace that this process is in. `over` are trees that the program is to see in the place of what lies at
/// their paths. The caller must have the right to mount.
pub fn mount(
    lower: &[PathBuf],
    top: Option<Top<'_>>,
    volatile: bool,
    over: &[(OwnedFd, PathBuf)],
) -> Result<OwnedFd> {
    serve(lower, top, volatile, over).context(|| "mount the layers by fuse-overlayfs")
}

fn serve(
    lower: &[PathBuf],
    top: Option<Top<'_>>,
    volatile: bool,
    over: &[(OwnedFd, PathBuf)],
) -> Result<OwnedFd> {
    let mut program = Program::new(&find()?);
    let device = device()?;
    let fs = FsContext::open("fuse")?;
    for (key, value) in [
        ("source", NAME.to_owned()),
        ("subtype", NAME.to_owned()),
        ("fd", device.as_raw_fd().to_string()),
        ("rootmode", "40000".to_owned()),
        ("user_id", geteuid().to_string()),
        ("group_id", getegid().to_string()),
    ] {
        fs.string(key, &value)?;
    }
    fs.flag("allow_other")?;
    fs.flag("default_permissions")?;
    fs.create()?;
    let tree = fs.mount(0)?;
    let mut options = String::from("lowerdir=");
    for (n, path) in lower.iter().rev().enumerate() {
        options += if n > 0 { ":" } else { "" };
        options += plain(path)?;
    }
    if let Some(top) = top {
        options += &format!(",upperdir={},workdir={}", plain(top.upper)?, plain(top.work)?);
        options += if volatile { ",volatile" } else { "" };
    }
    // What is written is in the upper at once, for whoever looks at a running container.
    options += ",writeback=0";
    // The kernel hands over what was opened: libfuse takes it by its number.
    for word in ["-f", "-o", &options, &format!("/dev/fd/{}", device.as_raw_fd())] {
        program.word(word);
    }
    let said = program::memory()?;
    program.leave(device.as_fd(), said.as_fd(), over)?;
    drop(device);
    // It answers, or it is gone, and the kernel knows.
    match fstatfs(&tree) {
        Ok(_) => Ok(tree),
        Err(errno) => {
            let said = program::heard(said)?;
            let said = String::from_utf8_lossy(&said);
            let last =
                said.lines().rfind(|line| !line.is_empty()).unwrap_or("it does not say why").to_owned();
            Err(Error::syscall("fstatfs(mount)", errno).wrap(last))
        }
    }
}

/// A path as its options take it.
fn plain(path: &Path) -> Result<&str> {
    let bad = |b: &u8| matches!(b, b',' | b':' | b'\\');
    let text = path.to_str().filter(|_| !path.as_os_str().as_bytes().iter().any(bad));
    text.ok_or_else(|| {
        Error::unsupported(format!(
            "{path:?}: it takes no path with a comma, a colon, a backslash, or not in UTF-8"
        ))
    })
}
