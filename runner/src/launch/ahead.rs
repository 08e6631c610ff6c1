//! The network namespace takes the kernel as long as all other namespaces and mounts of a start together.
//! One that will be wanted for certain is made on another processor while the rest of the container is
//! still being decided. It is an offer: a start without it makes its own.

use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

use coracle_sys::{Context, Result, process};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

/// What the thread needs is a few frames.
const STACK: usize = 64 * 1024;

/// A network namespace in the making, with its loopback device up.
pub struct Ahead(JoinHandle<Result<OwnedFd>>);

impl Ahead {
    /// Begin. This needs root in the user namespace that the container is to be in.
    pub fn begin() -> Option<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).context(|| "unshare(CLONE_NEWNET)")?;
            process::loopback_up()?;
            let path = "/proc/thread-self/ns/net";
            nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .context(|| format!("open({path:?})"))
        };
        let thread = Builder::new().stack_size(STACK).spawn(make).ok()?;
        process::run_beside(&thread);
        Some(Self(thread))
    }

    /// The namespace, if there is one. After this the process has one thread again.
    pub fn finish(self) -> Option<OwnedFd> {
        self.0.join().ok()?.ok()
    }
}
