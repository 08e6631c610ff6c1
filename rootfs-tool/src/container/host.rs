//! The host's side of a copy: paths of the caller's, looked at with the caller's rights.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use coracle_sys::{Context, Error, Result, file};
use nix::unistd::{getegid, geteuid};

use super::paths::{self, Source, Target};
use super::write::Owner;

/// Links that a destination may lead through.
const LINKS: usize = 10;

/// A path from the root on, with what its end says.
pub(crate) fn absolute(typed: &str) -> Result<String> {
    let here = std::env::current_dir().context(|| "getcwd()")?;
    Ok(paths::absolute(&here, typed))
}

/// Whose the files are that come out of a container.
pub(crate) fn owner(keep: bool) -> Result<Owner> {
    match keep {
        true if !geteuid().is_root() => {
            Err(Error::usage("--archive: only root can give files out of a container to their owners"))
        }
        true => Ok(Owner::Kept),
        // No id inside is the caller's: a program that runs as its owner does not become one that runs as the caller.
        false => Ok(Owner::One { uid: geteuid().as_raw(), gid: getegid().as_raw(), own: None }),
    }
}

/// Refuse what no copy can be put into.
pub(crate) fn may_be_written(path: &str) -> Result<()> {
    let clean = paths::clean(Path::new(path));
    let invalid = |why: String| Err(Error::invalid(format!("invalid output path: {why}")));
    if let Some(dir) = clean.parent().filter(|dir| !dir.is_dir()) {
        return invalid(format!("directory {dir:?} does not exist"));
    }
    match fs::metadata(&clean) {
        Ok(m) if m.is_dir() || m.is_file() => Ok(()),
        Ok(m) if m.file_type().is_block_device() || m.file_type().is_char_device() => {
            invalid(format!("{path:?} must be a directory or a regular file: got a device"))
        }
        Ok(_) => invalid(format!("{path:?} must be a directory or a regular file: got an irregular file")),
        Err(_) => Ok(()),
    }
}

/// Where a copy goes: links at its end are followed.
pub(crate) fn target(path: &str) -> Result<Target> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match fs::symlink_metadata(&path) {
            Ok(m) if m.is_symlink() => {
                let to = fs::read_link(&path).context(|| format!("readlink({path:?})"))?;
                let to = paths::split(&path).0.join(to);
                path = paths::clean(&to).to_string_lossy().into_owned();
            }
            Ok(m) => return Ok(Target { path, is_dir: Some(m.is_dir()) }),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Target { path, is_dir: None }),
            Err(e) => return Err(e).context(|| format!("lstat({path:?})")),
        }
    }
    Err(Error::invalid(format!("too many symlinks in {path:?}")))
}

/// What is copied into a container.
pub(crate) struct Local {
    pub(crate) source: Source,
    /// The directory that it is in, and its name there.
    pub(crate) dir: OwnedFd,
    pub(crate) name: String,
}

/// Links on the way to it are followed; one at its end where that is asked for, or a slash says so.
pub(crate) fn source(typed: &str, follow: bool) -> Result<Local> {
    let path = absolute(typed)?;
    let real = |path: &str| -> Result<String> {
        let real = fs::canonicalize(path).context(|| format!("lstat({path:?})"))?;
        Ok(real.to_string_lossy().into_owned())
    };
    let (resolved, asked) = if follow {
        paths::rebase(&path, real(&path)?)
    } else {
        let at = path.rfind('/').map_or(0, |at| at + 1);
        let resolved = format!("{}/{}", real(&path[..at])?.trim_end_matches('/'), &path[at..]);
        let other = path.ends_with('/') && paths::base(&path) != paths::base(&resolved);
        (resolved, other.then(|| paths::base(&path).to_owned()))
    };
    let found = fs::symlink_metadata(&resolved).context(|| format!("lstat({resolved:?})"))?;
    let (dir, name) = paths::split(&resolved);
    // The root is in no directory.
    let name = if name == "/" { ".".to_owned() } else { name };
    let source = Source { name: name.clone(), asked, is_dir: found.is_dir() };
    Ok(Local { source, dir: file::open_dir(&dir)?, name })
}
