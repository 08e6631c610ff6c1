//! New file systems: what they are told, and what they begin with.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use coracle_store::driver::vfs;
use coracle_store::layer::Marks;
use coracle_sys::mount::FsContext;
use coracle_sys::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::Mount;
use super::options::{self, Options};
use crate::rootfs::Root;

/// The longest value that fsconfig(2) takes.
const LONGEST: usize = 255;

/// A new instance of a file system, detached.
pub(super) fn new_file_system(kind: &str, source: Option<&str>, options: &Options) -> Result<OwnedFd> {
    let context = FsContext::open(kind)?;
    if let Some(source) = source {
        context.string("source", source)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => context.string(key, value)?,
            None => match context.flag(key) {
                Err(e) if e.errno() == Some(Errno::EINVAL) && options::may_be_unknown(key) => {}
                other => other?,
            },
        }
    }
    let tree = context.create().and_then(|()| context.mount(options.flags.set));
    tree.map_err(|e| explain_new(kind, e))
}

/// The kernel gives a user namespace no whole /proc or /sys where the one around it has parts covered.
fn explain_new(kind: &str, e: Error) -> Error {
    match (kind, e.errno()) {
        ("proc" | "sysfs", Some(Errno::EPERM)) => e.wrap(
            "make it whole (the container around this one hides parts of its own: start that with --security-opt systempaths=unconfined, in podman --security-opt unmask=ALL)",
        ),
        _ => e,
    }
}

/// Whether the file system is told what only mount(2) passes on, as an overlay is of many layers.
pub(super) fn is_long(options: &Options) -> bool {
    options.data.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > LONGEST))
}

/// What mount(2) is told: flags, and the words of the file system.
fn for_mount(options: &Options) -> Result<(MsFlags, String)> {
    // The kernel cuts what is longer.
    const PAGE: usize = 4096;
    let mut flags = MsFlags::empty();
    let mut words = Vec::new();
    for (key, value) in &options.data {
        match (key.as_str(), value) {
            ("ro", None) => flags |= MsFlags::MS_RDONLY,
            ("sync", None) => flags |= MsFlags::MS_SYNCHRONOUS,
            ("dirsync", None) => flags |= MsFlags::MS_DIRSYNC,
            (key, None) => words.push(key.to_owned()),
            (key, Some(value)) if options::is_label(key) => words.push([key, "=\"", value, "\""].concat()),
            (key, Some(value)) => words.push([key, "=", value].concat()),
        }
    }
    let data = words.join(",");
    if data.len() >= PAGE {
        let n = data.len();
        return Err(Error::invalid(format!("the options have {n} bytes, of which mount(2) takes {PAGE}")));
    }
    Ok((flags, data))
}

fn place(at: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", at.as_raw_fd())
}

/// A remount that tells the file system something. The mount keeps its own flags.
pub(super) fn tell(there: &OwnedFd, options: &Options) -> Result<()> {
    let (flags, data) = for_mount(options)?;
    let has = fstatvfs(there).context(|| "fstatvfs(mount)")?.flags();
    let kept = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    let kept = kept.into_iter().filter(|(has_it, _)| has.contains(*has_it)).map(|(_, flag)| flag);
    let flags = kept.fold(flags | MsFlags::MS_REMOUNT, |all, flag| all | flag);
    let none: Option<&str> = None;
    mount(none, place(there).as_str(), none, flags, Some(data.as_str()))
        .context(|| format!("mount(MS_REMOUNT, {data:?})"))
}

impl Mount {
    /// mount(2) on the place itself, which is ours alone still.
    pub(super) fn mount_long(&self, kind: &str, source: Option<&str>, at: &OwnedFd) -> Result<()> {
        let (flags, data) = for_mount(&self.options)?;
        mount(source, place(at).as_str(), Some(kind), flags, Some(data.as_str()))
            .context(|| format!("mount({kind:?}, {data:?})"))
    }

    /// `tmpcopyup`: it begins with what the root has at its place.
    pub(super) fn copy_up(&self, tree: &OwnedFd, root: &Root) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // Nothing there is nothing to copy.
        if let Ok(there) = root.open(&self.at) {
            let from = openat(&there, ".", flags, Mode::empty())
                .context(|| format!("openat({:?}, O_DIRECTORY)", self.at))?;
            vfs::prepare(&[from], tree.as_fd(), Marks::of_this_process())?;
            let mode = self.options.data.iter().find(|(key, _)| key == "mode");
            if let Some(mode) = mode.and_then(|(_, value)| u32::from_str_radix(value.as_deref()?, 8).ok()) {
                let bits = Mode::from_bits_truncate(mode);
                fchmodat(tree, ".", bits, FchmodatFlags::FollowSymlink)
                    .context(|| format!("fchmodat(tmpfs, 0{mode:o})"))?;
            }
        }
        Ok(())
    }

    /// `copy-symlink`: a source that is a link is made anew instead of being mounted.
    pub(super) fn copy_link(&self, source: &Path, root: &Root) -> Result<bool> {
        let Ok(to) = nix::fcntl::readlink(source) else { return Ok(false) };
        let (parent, name) = root.parent_of(&self.at)?;
        match nix::unistd::symlinkat(to.as_os_str(), &parent, name.as_os_str()) {
            Err(Errno::EEXIST) => {
                let there = nix::fcntl::readlinkat(&parent, name.as_os_str());
                match there == Ok(to) {
                    true => Ok(true),
                    false => Err(Error::invalid("something else than that link is there")),
                }
            }
            other => other.map(|()| true).context(|| format!("symlinkat({to:?}, {:?})", self.at)),
        }
    }
}
