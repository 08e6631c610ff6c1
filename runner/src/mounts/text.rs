//! Small files that are this container's own, in memory: they cost the disk nothing and go with the
//! container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_sys::mount::{self as sys, Attrs, FsContext, attr};
use coracle_sys::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use serde::Serialize;

use super::options::Options;
use super::{Mount, Source};
use crate::rootfs::Root;

/// What a file holds that nobody but the container is to see, and who it belongs to inside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Secret {
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

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

    /// An empty directory in memory, read only once all is in it that is mounted there.
    pub(crate) fn sealed_memory(at: PathBuf) -> Result<Self> {
        let words = ["nosuid", "nodev", "noexec", "mode=755", "size=64k"].map(str::to_owned);
        let from = Source::Fs { kind: "tmpfs".into(), source: Some("tmpfs".into()) };
        let options = super::options::parse(&words)?;
        Ok(Self { at, from, options, sealed_late: true, ids: None })
    }

    /// A secret at `at`.
    pub(crate) fn secret(at: PathBuf, secret: Secret) -> Self {
        let from = Source::Secret(secret);
        Self { at, from, options: Options::default(), sealed_late: false, ids: None }
    }

    /// Make the file, if that is what is mounted, and open it as a tree. The umask is 0.
    pub(crate) fn open_text(&self, memory: &mut Memory, root: &Root) -> Result<Option<OwnedFd>> {
        let (bytes, secret) = match &self.from {
            Source::Text(text) => (text.as_bytes(), None),
            Source::Secret(secret) => (&secret.bytes[..], Some(secret)),
            _ => return Ok(None),
        };
        // One file for each place, all in one directory.
        let name = self.at.to_string_lossy().replace('/', "!");
        let mut make = || -> Result<OwnedFd> {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(secret.map_or(0o644, |s| s.mode));
            let file = openat(memory.make()?, name.as_str(), flags, mode)
                .context(|| format!("openat({name:?}, O_CREAT)"))?;
            let mut left = bytes;
            while !left.is_empty() {
                let written = nix::unistd::write(&file, left).context(|| format!("write({name:?})"))?;
                left = &left[written..];
            }
            if let Some(Secret { uid, gid, .. }) = secret {
                nix::unistd::fchown(&file, Some((*uid).into()), Some((*gid).into()))
                    .context(|| format!("fchown({name:?}, {uid}, {gid})"))?;
            }
            let tree = memory.open(Path::new(&name), root)?;
            if secret.is_some() {
                sys::set_attrs(tree.as_fd(), Attrs { set: attr::RDONLY, ..Attrs::default() }, false)?;
            }
            Ok(tree)
        };
        make().map(Some).context(|| format!("make {}", self.at.display()))
    }
}

impl Memory {
    fn make(&mut self) -> Result<&OwnedFd> {
        if self.tree.is_none() {
            let context = FsContext::open("tmpfs")?;
            for (key, value) in [("source", "tmpfs"), ("mode", "755"), ("size", "32m")] {
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
