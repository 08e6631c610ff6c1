//! The container's side of a copy, in the child that does it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use coracle_store::Store;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::Container;
use super::confined::{Confined, is};
use super::paths::{self, Landing, Source, Target, land};
use super::read::Tar;
use super::root::{self, Running};
use super::write::{Owner, Unpack};

/// A path in a container.
pub(crate) struct Inside {
    pub(crate) store: Store,
    pub(crate) container: Container,
    pub(crate) running: Option<Running>,
    /// The container as it was typed.
    pub(crate) named: String,
    /// The path as it was typed.
    pub(crate) path: String,
}

impl Inside {
    /// Write what is there as a tar; `head` is told first what it is. `follow` a link at the path's end.
    pub(crate) fn pack(&self, follow: bool, head: Option<&mut File>, out: impl Write) -> Result<()> {
        let held = root::enter(&self.store, &self.container, self.running)?;
        let root = &held.root;
        let mut path = self.absolute()?;
        let mut asked = None;
        let mut st = root.look(&path)?.ok_or_else(|| self.missing(&path))?;
        if follow && is(&st, SFlag::S_IFLNK) {
            let target = root.evaluate(Path::new(&path))?;
            (path, asked) = paths::rebase(&path, target.to_string_lossy().into_owned());
            st = root.look(&path)?.ok_or_else(|| self.missing(&path))?;
        }
        let is_dir = is(&st, SFlag::S_IFDIR);
        // Of the root the name is none.
        let name = Some(paths::base(&path)).filter(|name| *name != "/").unwrap_or(".");
        let source = Source { name: name.to_owned(), asked, is_dir };
        if let Some(head) = head {
            source.write(head)?;
        }
        let (parent, own) = paths::split(&path);
        let (dir, own) = if is_dir { (Path::new(&path), ".") } else { (&*parent, &*own) };
        let dir = root.dir(dir).context(|| format!("open({dir:?})"))?;
        let mut tar = Tar::new(out);
        tar.put(dir.as_fd(), OsStr::new(own), &source.name)?;
        tar.finish()
    }

    /// Put the files of a tar there: those of `source`, or whatever a stream has, `keep`ing their owners.
    pub(crate) fn unpack(&self, source: Option<&Source>, keep: bool, input: impl Read) -> Result<()> {
        let held = root::enter(&self.store, &self.container, self.running)?;
        let root = &held.root;
        let (path, there) = self.target(root)?;
        let target = Target { path, is_dir: there.as_ref().map(|st| is(st, SFlag::S_IFDIR)) };
        let landing = match source {
            Some(source) => land(source, &target)?,
            None if target.is_dir == Some(true) => {
                Landing { dir: paths::clean(Path::new(&target.path)), rename: None }
            }
            None => {
                let what = format!("destination \"{}:{}\" must be a directory", self.named, self.path);
                return Err(Error::invalid(what));
            }
        };
        let base = root.evaluate(&landing.dir)?;
        let dir = root.dir(&base).map_err(|e| match e {
            Errno::ENOENT => self.missing(&landing.dir.display().to_string()),
            e => Error::syscall(format!("open({base:?}, O_DIRECTORY)"), e),
        })?;
        let fs = fstatvfs(&dir).context(|| format!("statvfs({base:?})"))?;
        if fs.flags().contains(FsFlags::ST_RDONLY) {
            let device = |fd| fstat(fd).map(|st| st.st_dev).context(|| "fstat()");
            return Err(Error::invalid(match device(dir.as_fd())? == device(root.as_fd())? {
                true => "container rootfs is marked read-only",
                false => "mounted volume is marked read-only",
            }));
        }
        drop(dir);
        let owner = if keep { Owner::Kept } else { Owner::One { uid: 0, gid: 0, own: Some(0) } };
        Unpack::new(root, &base, landing.rename, owner).run(input)
    }

    /// Where a copy goes, a link at its end followed, and what is there.
    fn target(&self, root: &Confined) -> Result<(String, Option<FileStat>)> {
        let mut path = self.absolute()?;
        let mut there = root.look(&path)?;
        if there.as_ref().is_some_and(|st| is(st, SFlag::S_IFLNK)) {
            path = root.evaluate(Path::new(&path))?.to_string_lossy().into_owned();
            there = root.look(&path)?;
        }
        let what = match there.as_ref().map(|st| SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()))
        {
            None | Some(SFlag::S_IFDIR | SFlag::S_IFREG) => return Ok((path, there)),
            Some(SFlag::S_IFCHR | SFlag::S_IFBLK) => "got a device",
            Some(_) => "got an irregular file",
        };
        let (named, typed) = (&self.named, &self.path);
        Err(Error::invalid(format!(
            "destination \"{named}:{typed}\" must be a directory or a regular file: {what}"
        )))
    }

    fn absolute(&self) -> Result<String> {
        match self.path.as_str() {
            "" => Err(Error::usage(format!("{}: names no path in the container", self.named))),
            path => Ok(paths::absolute(Path::new("/"), path)),
        }
    }

    /// Docker's words.
    fn missing(&self, path: &str) -> Error {
        Error::not_found(format!("Could not find the file {path} in container {}", self.named))
    }
}
