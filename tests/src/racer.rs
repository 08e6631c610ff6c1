//! Exchange two names as fast as the kernel can: what an attacker does while a runtime walks a path.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Two threads that exchange two names until it is dropped.
pub struct Racer {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Racer {
    /// Exchange `a` and `b` (both exist) with renameat2 RENAME_EXCHANGE.
    pub fn exchange(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Self {
        let (a, b): (PathBuf, PathBuf) = (a.as_ref().into(), b.as_ref().into());
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = Arc::new(AtomicU64::new(0));
        let thread = || {
            let (a, b, stop, swaps) = (a.clone(), b.clone(), stop.clone(), swaps.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).is_ok() {
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let threads = vec![thread(), thread()];
        Self { stop, swaps, threads }
    }

    /// How often they were exchanged: a race that never ran proves nothing.
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
