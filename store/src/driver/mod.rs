//! Drivers: how the layers of an image become one tree with a writable top. `overlay` stacks
//! directories by mounting, `vfs` copies them. A store keeps the driver that it was made with.

pub mod overlay;
pub mod vfs;

use std::fmt;
use std::str::FromStr;

use coracle_sys::{Error, Result};

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

    /// The driver of a new store: what CORACLE_DRIVER says, else overlay. Layers lie well on any file
    /// system; where the upper of a container does not, it goes to a tmpfs.
    pub fn choose() -> Result<Self> {
        match std::env::var("CORACLE_DRIVER") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::Overlay),
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
