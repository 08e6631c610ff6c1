//! Reading a text file of an image whose layers lie side by side, not mounted: it is the one that the
//! container will see. Nothing but a plain file of sane size is read: an image may have put anything
//! there.

mod stacked;

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
    let file = match dirs {
        [only] => open(only, path)?,
        _ => find(dirs, path)?,
    };
    file.map_or_else(|| Ok(String::new()), |file| text(file, path))
}

/// Mostly the topmost layer has it, or none does: then no marks and links are to be looked at.
fn find(dirs: &[PathBuf], path: &str) -> Result<Option<OwnedFd>> {
    for (depth, dir) in dirs.iter().rev().enumerate() {
        // In the layer, however the path is written: an absolute one leads to the host's otherwise.
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match openat2(root(dir)?, path, plain().resolve(resolve)) {
            Ok(file) if depth == 0 => return Ok(Some(file)),
            Err(Errno::ENOENT) => {}
            _ => return stacked::open(dirs, path),
        }
    }
    Ok(None)
}

fn root(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    nix::fcntl::open(dir, flags, Mode::empty()).context(|| format!("open({dir:?}, O_PATH)"))
}

/// To read what an image has put there, whatever it is.
fn plain() -> OpenHow {
    OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

fn open(dir: &Path, path: &str) -> Result<Option<OwnedFd>> {
    let root = root(dir)?;
    let how = plain().resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, path, how) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        // A device that cannot be opened, an overlay's whiteout among them.
        Err(Errno::ENXIO | Errno::EACCES | Errno::ENODEV) => Ok(None),
        Err(Errno::ENOSYS) => {
            let jail = pathrs::Root::from_fd(root);
            let opened = jail.open_subpath(path, pathrs::flags::OpenFlags::O_NONBLOCK);
            Ok(opened.ok().map(OwnedFd::from))
        }
        Err(e) => Err(e).context(|| format!("openat2({path:?}, O_RDONLY|O_NONBLOCK, RESOLVE_IN_ROOT)")),
    }
}

/// What is no plain file has no text.
fn text(file: OwnedFd, path: &str) -> Result<String> {
    let info = fstat(&file).context(|| format!("fstat({path:?})"))?;
    if SFlag::from_bits_truncate(info.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        // A folder, say: it names nobody, and whoever needs no name can run all the same.
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX + 1).read_to_end(&mut bytes).context(|| format!("read({path:?})"))?;
    if bytes.len() as u64 > MAX {
        return Err(Error::invalid(format!("{path} is larger than {MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_users_are_never_those_of_an_image() {
        let dir = std::env::temp_dir().join(coracle_sys::file::unique_name("coracle-passwd-"));
        let layers: Vec<PathBuf> = ["lower", "upper"].iter().map(|name| dir.join(name)).collect();
        layers.iter().for_each(|layer| std::fs::create_dir_all(layer.join("etc")).unwrap());
        assert_eq!(read(&layers, "/etc/passwd").unwrap(), "");
        std::fs::write(layers[0].join("etc/passwd"), "pg:x:101:102::/:/bin/sh\n").unwrap();
        assert_eq!(read(&layers, "/etc/passwd").unwrap(), "pg:x:101:102::/:/bin/sh\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
