//! Reading a text file of an image whose layers lie side by side, not mounted: the topmost one that
//! has it counts. Links are followed inside their layer, and nothing but a plain file of sane size is
//! read: an image may have put anything there.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

/// An /etc/passwd beyond this is none.
const MAX: u64 = 4 << 20;

/// The text at `path` in a stack of directories, lowest first. Empty where there is none.
pub(crate) fn read(dirs: &[PathBuf], path: &str) -> Result<String> {
    for dir in dirs.iter().rev() {
        if let Some(file) = open(dir, path)? {
            return text(file, path);
        }
    }
    Ok(String::new())
}

fn open(dir: &Path, path: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let root = nix::fcntl::open(dir, flags, Mode::empty()).context(|| format!("open({dir:?}, O_PATH)"))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, path, how) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        // A whiteout is a device that cannot be opened: the file is gone, and lower ones are hidden.
        Err(Errno::ENXIO | Errno::EACCES | Errno::ENODEV) => Ok(None),
        Err(Errno::ENOSYS) => {
            let jail = pathrs::Root::from_fd(root);
            let opened = jail.open_subpath(path, pathrs::flags::OpenFlags::O_NONBLOCK);
            Ok(opened.ok().map(OwnedFd::from))
        }
        Err(e) => Err(e).context(|| format!("openat2({path:?}, O_RDONLY|O_NONBLOCK, RESOLVE_IN_ROOT)")),
    }
}

fn text(file: OwnedFd, path: &str) -> Result<String> {
    let info = fstat(&file).context(|| format!("fstat({path:?})"))?;
    if SFlag::from_bits_truncate(info.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        return Err(Error::invalid(format!("{path} is not a plain file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX + 1).read_to_end(&mut bytes).context(|| format!("read({path:?})"))?;
    if bytes.len() as u64 > MAX {
        return Err(Error::invalid(format!("{path} is larger than {MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
