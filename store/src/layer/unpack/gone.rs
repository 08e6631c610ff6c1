//! Whiteouts: what an archive says is gone. Under overlay that is marked, and what is below stays as it is; in
//! a copy of all that is below it is removed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};

use super::Layer;
use crate::layer::tree::{self, Missing, is, open_dir};
use crate::layer::whiteout;

impl Layer<'_> {
    /// What is below under this name is gone; what this layer brought stays.
    pub(super) fn gone(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        let place = self.tree.dir(parent, Missing::Follow)?;
        self.take_implied()?;
        let Some(place) = place else { return Ok(()) };
        self.keep_attributes(&place)?;
        let os = OsStr::from_bytes(name);
        let dir = place.dir.as_fd();
        let path = [&place.path[..], &[name.to_vec()]].concat();
        if self.options.plain {
            return self.remove_foreign(dir, os, &path);
        }
        match fstatat(dir, os, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => whiteout::make(dir, os),
            Ok(st) if is(&st, SFlag::S_IFDIR) => {
                let fd = open_dir(dir, os).context(|| format!("openat({os:?}, O_DIRECTORY)"))?;
                self.tree.set_opaque(fd.as_fd())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(e).context(|| format!("fstatat({os:?})")),
        }
    }

    /// Everything that is below in this directory is gone.
    pub(super) fn opaque(&mut self, dir: &[u8]) -> Result<()> {
        let place = self.tree.dir(dir, Missing::Make)?;
        self.take_implied()?;
        let Some(place) = place else { return Ok(()) };
        self.keep_attributes(&place)?;
        if self.options.plain {
            for name in tree::list(place.dir.as_fd())? {
                let path = [&place.path[..], std::slice::from_ref(&name)].concat();
                self.remove_foreign(place.dir.as_fd(), OsStr::from_bytes(&name), &path)?;
            }
            return Ok(());
        }
        if place.path.is_empty() {
            // Overlay reads no mark on a layer's root: see `finish`.
            self.opaque_root = true;
            return Ok(());
        }
        self.tree.set_opaque(place.dir.as_fd())
    }

    /// With a copying driver: remove what came from below, at a path and under it.
    pub(super) fn remove_foreign(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[Vec<u8>],
    ) -> Result<()> {
        let below = |p: &Vec<Vec<u8>>| p.starts_with(path);
        let mine = self.own.range(path.to_vec()..).next().is_some_and(below);
        if !mine {
            return self.remove(dir, name, path);
        }
        let Ok(fd) = open_dir(dir, name) else { return Ok(()) };
        for child in tree::list(fd.as_fd())? {
            let path = [path, std::slice::from_ref(&child)].concat();
            self.remove_foreign(fd.as_fd(), OsStr::from_bytes(&child), &path)?;
        }
        Ok(())
    }

    pub(super) fn hide_all_below(&mut self) -> Result<()> {
        let root = self.tree.root();
        for name in self.tree.root_names_below()? {
            let os = OsStr::from_bytes(&name);
            match open_dir(root.dir.as_fd(), os) {
                Ok(fd) => self.tree.set_opaque(fd.as_fd())?,
                Err(Errno::ENOENT) => whiteout::make(root.dir.as_fd(), os)?,
                Err(_) => {}
            }
        }
        Ok(())
    }
}
