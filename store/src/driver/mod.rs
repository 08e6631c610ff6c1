//! Drivers: how the layers of an image become one tree with a writable top. `overlay` stacks directories by mounting,
//! and `fuse-overlayfs` the same directories by a program; `vfs` copies them, `btrfs` makes snapshots. A store keeps
//! the driver that it was made with.

pub mod asked;
pub mod btrfs;
pub mod fuse;
pub mod overlay;
pub mod vfs;

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;
use serde::{Serialize, Serializer};

use crate::layer::{Marks, whiteout};

/// A way to stack layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kernel's overlay file system.
    Overlay,
    /// A copy of everything, where overlay is not to be had.
    Vfs,
    /// Subvolumes of btrfs.
    Btrfs,
    /// Overlay's directories, mounted by the program fuse-overlayfs.
    Fuse,
}

impl Driver {
    /// The name, as a store remembers it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
            Self::Btrfs => "btrfs",
            Self::Fuse => "fuse-overlayfs",
        }
    }

    /// The folder of its layers, which two drivers share that keep them alike.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Fuse => Self::Overlay.name(),
            other => other.name(),
        }
    }

    /// The driver of a new store in `dir`: what was asked for, else overlay wherever its layers can lie. They cannot
    /// on another overlay, which holds no whiteouts but its own. Where the upper of a container can lie is another
    /// question, and is answered when one starts.
    pub fn choose(dir: &Path) -> Result<Self> {
        match asked::of_a_new_store()? {
            Some(driver) => Ok(driver),
            None if Self::holds_marks(dir)? => Ok(Self::Overlay),
            None => Ok(Self::Vfs),
        }
    }

    /// Refuse to make a store at `root`, whose nearest folder that is there is looked at, where this driver cannot
    /// work.
    pub fn check(self, root: &Path) -> Result<()> {
        match self {
            Self::Overlay | Self::Vfs => Ok(()),
            Self::Btrfs => btrfs::check(root),
            Self::Fuse => fuse::works().map(drop).context(|| "use the driver fuse-overlayfs"),
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
        matches!(self, Self::Vfs | Self::Btrfs)
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Driver {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let instead = match s {
            "overlay" | "overlay2" => return Ok(Self::Overlay),
            "vfs" => return Ok(Self::Vfs),
            "btrfs" => return Ok(Self::Btrfs),
            "fuse-overlayfs" => return Ok(Self::Fuse),
            "aufs" => "AUFS left docker for overlay, which is in every kernel",
            "devicemapper" => "docker removed it",
            "zfs" => "overlay works on top of this file system since OpenZFS 2.2, and vfs on every one",
            "windowsfilter" => "it is for Windows",
            _ => {
                return Err(Error::usage(format!(
                    "use the driver {s:?}: there are overlay, fuse-overlayfs, btrfs and vfs"
                )));
            }
        };
        Err(Error::usage(format!("use the driver {s:?}: {instead}: use overlay")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_the_past_are_answered_with_the_one_to_use() {
        for old in ["aufs", "devicemapper", "zfs"] {
            let e = old.parse::<Driver>().unwrap_err().to_string();
            assert!(e.contains(old) && e.ends_with("use overlay") && !e.contains('\n'), "{e}");
        }
        assert_eq!("overlay2".parse::<Driver>().unwrap(), Driver::Overlay);
        assert!("nfs".parse::<Driver>().is_err());
        for driver in [Driver::Overlay, Driver::Vfs, Driver::Btrfs, Driver::Fuse] {
            assert_eq!(driver.name().parse::<Driver>().unwrap(), driver);
        }
    }
}
