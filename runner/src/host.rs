//! What a start needs to know of the host: who we are and what we may. Two system calls; everything
//! that costs more is asked for by those who need it, when they need it.

use coracle_sys::{Result, process as sys};
use nix::unistd::{getegid, geteuid};

/// Who runs this process.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Effective capabilities, as a mask.
    pub capabilities: u64,
}

impl Host {
    /// Ask the kernel.
    pub fn probe() -> Result<Self> {
        let (capabilities, _, _) = sys::capget()?;
        Ok(Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), capabilities })
    }

    /// Whether all capabilities of `mask` are ours.
    pub fn has(&self, mask: u64) -> bool {
        self.capabilities & mask == mask
    }
}
