//! Drivers: how the layers of an image become one tree with a writable top. `overlay` stacks
//! directories by mounting, `vfs` copies them. A store keeps the driver that it was made with.

pub mod overlay;
pub mod vfs;

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;

use crate::layer::{Marks, whiteout};

/// A way to stack layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kernel's overlay file system.
    Overlay,
    /// A copy of everything, where overlay is not to be had.
    Vfs,
}

impl Driver {
    /// The name, as a store remembers it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }

    /// The driver of a new store in `dir`: what CORACLE_DRIVER says, else overlay wherever its layers can
    /// lie. They cannot on another overlay, which holds no whiteouts but its own. Where the upper of a
    /// container can lie is another question, and is answered when one starts.
    pub fn choose(dir: &Path) -> Result<Self> {
        match std::env::var("CORACLE_DRIVER") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ if Self::holds_marks(dir)? => Ok(Self::Overlay),
            _ => Ok(Self::Vfs),
        }
    }

    /// Can a directory hold what stands for deleted files? Answered by making it.
    fn holds_marks(dir: &Path) -> Result<bool> {
        let probe = dir.join(file::unique_name("probe-"));
        std::fs::create_dir(&probe).context(|| format!("mkdir({probe:?})"))?;
        let fd = file::open_dir(&probe)?;
        let key = Marks::of_this_process().opaque();
        let made = whiteout::make(fd.as_fd(), "gone".as_ref())
            .and_then(|()| file::set_xattr(fd.as_fd(), key, b"y").context(|| format!("fsetxattr({key:?})")));
        file::remove_tree(&probe)?;
        match made {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.errno(), Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EINVAL)) => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Are layers applied on top of a copy of those below them, so that one directory is the whole
    /// stack?
    pub fn copies(self) -> bool {
        self == Self::Vfs
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let instead = match s {
            "overlay" | "overlay2" => return Ok(Self::Overlay),
            "vfs" => return Ok(Self::Vfs),
            "aufs" => "AUFS left docker for overlay, which is in every kernel",
            "devicemapper" => "docker removed it",
            "fuse-overlayfs" => "the kernel's overlay works without root since Linux 5.11",
            "zfs" | "btrfs" => "overlay works on top of this file system",
            _ => return Err(Error::usage(format!("use the driver {s:?}: there are overlay and vfs"))),
        };
        Err(Error::usage(format!("use the driver {s:?}: {instead}: use overlay")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_the_past_are_answered_with_the_one_to_use() {
        for old in ["aufs", "devicemapper", "zfs", "btrfs", "fuse-overlayfs"] {
            let e = old.parse::<Driver>().unwrap_err().to_string();
            assert!(e.contains(old) && e.ends_with("use overlay") && !e.contains('\n'), "{e}");
        }
        assert_eq!("overlay2".parse::<Driver>().unwrap(), Driver::Overlay);
        assert!("nfs".parse::<Driver>().is_err());
    }
}
