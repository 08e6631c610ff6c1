//! Being told to stop (SIGINT, SIGTERM, SIGHUP) in the middle of long work: who works asks now and then, and
//! puts things in order. Who does not ask in time is ended.

use std::io::Read;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Context, Error, Kind, Result};

static REQUESTED: AtomicI32 = AtomicI32::new(0);

/// How long putting things in order may take.
const GRACE: Duration = Duration::from_secs(3);

/// Take these signals from now on. To be called before the process has a second thread; those that it makes
/// later do not see them. One that is ignored, as nohup(1) has it, stays so.
pub fn watch() -> Result<()> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
    signals.thread_block().context(|| "pthread_sigmask(SIG_BLOCK)")?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        REQUESTED.store(signal as i32, Relaxed);
        // The second one does not wait.
        let _ended = thread::spawn(move || {
            if signals.wait().is_ok() {
                std::process::exit(128 + signal as i32);
            }
        });
        thread::sleep(GRACE);
        std::process::exit(128 + signal as i32);
    });
    Ok(())
}

/// The signal that was sent, if one was.
pub fn requested() -> Option<i32> {
    Some(REQUESTED.load(Relaxed)).filter(|s| *s != 0)
}

/// An error, once it was asked to stop.
pub fn check() -> Result<()> {
    requested().map_or(Ok(()), |_| Err(Error::new(Kind::System, "interrupted")))
}

/// A reader that ends with an error, once it was asked to stop.
pub struct Stoppable<R>(pub R);

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        check().map_err(std::io::Error::other)?;
        self.0.read(buf)
    }
}
