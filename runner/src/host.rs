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

    /// Whether containers of images are made in a user namespace: who is root of the host needs none.
    pub fn needs_user_namespace(&self) -> bool {
        self.uid != 0 || !self.has(crate::caps::SYS_ADMIN)
    }

    /// The capabilities that a container can be given. In a user namespace of its own, all.
    pub fn grantable(&self) -> u64 {
        if self.needs_user_namespace() { u64::MAX } else { self.capabilities }
    }

    /// Whether all capabilities of `mask` are ours.
    pub fn has(&self, mask: u64) -> bool {
        self.capabilities & mask == mask
    }
}
