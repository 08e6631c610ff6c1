//! What is being made: an entry of `tmp/`, which its maker holds locked until it has its name.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Kind, Result};

use crate::layout::Layout;
use crate::lock::Lock;

/// An entry of `tmp/`, locked while it is made, removed when it is dropped.
pub(crate) struct Temp {
    path: PathBuf,
    lock: Lock,
}

impl Temp {
    /// An empty file.
    pub(crate) fn file(layout: &Layout) -> Result<Self> {
        Self::make(layout, |path| {
            File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .context(|| format!("open({path:?}, O_CREAT)"))?;
            Ok(())
        })
    }

    /// An empty directory, of this user alone.
    pub(crate) fn dir(layout: &Layout) -> Result<Self> {
        Self::make(layout, |path| {
            fs::DirBuilder::new().mode(0o700).create(path).context(|| format!("mkdir({path:?})"))
        })
    }

    /// Between its making and its locking a sweep may take the entry away: then make another.
    fn make(layout: &Layout, make: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        loop {
            let path = layout.tmp().join(file::unique_name(""));
            make(&path)?;
            match Lock::try_existing(&path) {
                Ok(Some(lock)) if lock.is_at(&path) => return Ok(Self { path, lock }),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The file, to write.
    pub(crate) fn create(&self) -> Result<File> {
        File::options().write(true).open(&self.path).context(|| format!("open({:?})", self.path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Give it its name: from then on it stays.
    pub(crate) fn rename(mut self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).context(|| format!("rename({:?}, {to:?})", self.path))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && self.lock.is_at(&self.path) {
            let _ = file::remove_tree(&self.path);
        }
    }
}
