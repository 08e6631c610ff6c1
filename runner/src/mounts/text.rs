//! Small files that are this container's own, in memory: they cost the disk nothing and go with the
//! container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self as sys, FsContext, attr};
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::options::Options;
use super::{Mount, Source};
use crate::rootfs::Root;

/// The file system that holds them, once there is one.
#[derive(Default)]
pub(crate) struct Memory {
    tree: Option<OwnedFd>,
    attached: bool,
}

impl Mount {
    /// A file with this text at `at`.
    pub(crate) fn text(at: PathBuf, text: String) -> Self {
        Self { at, from: Source::Text(text), options: Options::default(), sealed_late: false, ids: None }
    }

    /// A file of the host's, as it is, at `at`.
    pub(crate) fn file(at: PathBuf, path: PathBuf) -> Self {
        let from = Source::Bind { path, recursive: false };
        Self { at, from, options: Options::default(), sealed_late: false, ids: None }
    }

    /// Make the file, if that is what is mounted, and open it as a tree. The umask is 0.
    pub(crate) fn open_text(&self, memory: &mut Memory, root: &Root) -> Result<Option<OwnedFd>> {
        let (Source::Text(text), Some(name)) = (&self.from, self.at.file_name()) else { return Ok(None) };
        let mut make = || -> Result<OwnedFd> {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o644);
            let file =
                openat(memory.make()?, name, flags, mode).context(|| format!("openat({name:?}, O_CREAT)"))?;
            nix::unistd::write(&file, text.as_bytes()).context(|| format!("write({name:?})"))?;
            memory.open(Path::new(name), root)
        };
        make().map(Some).context(|| format!("make {}", self.at.display()))
    }
}

impl Memory {
    fn make(&mut self) -> Result<&OwnedFd> {
        if self.tree.is_none() {
            let context = FsContext::open("tmpfs")?;
            for (key, value) in [("source", "tmpfs"), ("mode", "755"), ("size", "1m")] {
                context.string(key, value)?;
            }
            context.create()?;
            self.tree = Some(context.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?);
        }
        self.tree.as_ref().ok_or_else(|| coracle_sys::Error::invalid("the file system is not there"))
    }

    fn open(&mut self, name: &Path, root: &Root) -> Result<OwnedFd> {
        let attached = self.attached;
        let tree = self.make()?;
        match sys::clone_tree(tree.as_fd(), name, false) {
            // Before Linux 6.15 only what is attached can be cloned: for a moment it is, where all is ours.
            Err(e) if e.errno() == Some(Errno::EINVAL) && !attached => {
                let dev = root.make_directory(Path::new("/dev"))?;
                sys::attach(tree.as_fd(), dev.as_fd())?;
                let clone = sys::clone_tree(tree.as_fd(), name, false);
                self.attached = true;
                clone
            }
            other => other,
        }
    }

    /// Leave no trace of it but the files. The working directory is lost.
    pub(crate) fn finish(self) -> Result<()> {
        match self.tree {
            Some(tree) if self.attached => {
                nix::unistd::fchdir(&tree).context(|| "fchdir(tmpfs)")?;
                umount2(".", MntFlags::MNT_DETACH).context(|| "umount2(\".\", MNT_DETACH)")
            }
            _ => Ok(()),
        }
    }
}
