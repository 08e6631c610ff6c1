//! Paths that are hidden from the container, and paths it may only read. What does not exist needs
//! no hiding.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self as sys, Attrs, FsContext, attr};
use coracle_sys::{Context, Error, Kind, Result};
use nix::errno::Errno;
use nix::sys::stat::{fstat, makedev};
use serde::Serialize;

use crate::rootfs::{Root, clean};

/// Which paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hidden {
    /// Files appear empty like /dev/null, directories empty.
    pub masked: Vec<PathBuf>,
    /// As they are, but nothing can be written.
    pub readonly: Vec<PathBuf>,
    /// The label of what covers directories.
    pub label: Option<String>,
}

/// Absolute paths only: a relative one would mean something else with every working directory.
pub fn plan_hidden(masked: &[PathBuf], readonly: &[PathBuf]) -> Result<Hidden> {
    let check = |list: &[PathBuf], field: &str| -> Result<Vec<PathBuf>> {
        list.iter()
            .map(|path| match path.is_absolute() {
                true => Ok(clean(path)),
                false => Err(Error::invalid(format!("linux.{field}: {path:?} is not absolute"))),
            })
            .collect()
    };
    let (masked, readonly) = (check(masked, "maskedPaths")?, check(readonly, "readonlyPaths")?);
    Ok(Hidden { masked, readonly, label: None })
}

impl Hidden {
    /// Make them so.
    pub fn apply(&self, root: &Root) -> Result<()> {
        for path in &self.readonly {
            if let Some(at) = open(root, path)? {
                make_readonly(at).context(|| format!("make {} read only", path.display()))?;
            }
        }
        let (mut null, mut empty) = (None, None);
        let label = self.label.as_deref();
        for path in &self.masked {
            if let Some(at) = open(root, path)? {
                mask(root, &at, (&mut null, &mut empty), label)
                    .context(|| format!("mask {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// `None`: it is not there.
fn open(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(path) {
        Ok(at) => Ok(Some(at)),
        Err(e) if e.kind() == Kind::NotFound || e.errno() == Some(Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}

fn make_readonly(at: OwnedFd) -> Result<()> {
    let tree = sys::clone_tree(at.as_fd(), Path::new(""), true)?;
    let attrs = Attrs { set: attr::RDONLY, ..Attrs::default() };
    sys::set_attrs(tree.as_fd(), attrs, true)?;
    sys::attach(tree.as_fd(), at.as_fd())
}

/// Cover a file with the container's /dev/null, a directory with an empty read-only tmpfs. One of
/// each is made; every further one is a clone.
fn mask(
    root: &Root,
    at: &OwnedFd,
    (null, empty): (&mut Option<OwnedFd>, &mut Option<OwnedFd>),
    label: Option<&str>,
) -> Result<()> {
    let is_directory = fstat(at).context(|| "fstat(path)")?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if !is_directory {
        let null = match null {
            Some(null) => null,
            None => null.insert(open_null(root)?),
        };
        let tree = sys::clone_tree(null.as_fd(), Path::new(""), false)?;
        return sys::attach(tree.as_fd(), at.as_fd());
    }
    match empty {
        Some(empty) => {
            let tree = sys::clone_tree(empty.as_fd(), Path::new(""), false)?;
            sys::attach(tree.as_fd(), at.as_fd())
        }
        None => {
            let context = FsContext::open("tmpfs")?;
            context.string("size", "0")?;
            context.string("nr_inodes", "1")?;
            context.string("mode", "555")?;
            label.map_or(Ok(()), |label| context.string("context", label))?;
            context.create()?;
            let flags = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let tree = empty.insert(context.mount(flags)?);
            sys::attach(tree.as_fd(), at.as_fd())
        }
    }
}

/// The container's /dev/null, which must be that device: an image may have put anything there.
fn open_null(root: &Root) -> Result<OwnedFd> {
    let null = root.open(Path::new("/dev/null"))?;
    let stat = fstat(&null).context(|| "fstat(\"/dev/null\")")?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        return Err(Error::invalid("the container's /dev/null is not the null device"));
    }
    Ok(null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_refused_and_an_absolute_one_cleaned() {
        let hidden = plan_hidden(&["/proc/../proc/kcore".into()], &[]).unwrap();
        assert_eq!(hidden.masked, [Path::new("/proc/kcore")]);
        assert!(plan_hidden(&[], &["proc/sys".into()]).is_err());
    }
}
