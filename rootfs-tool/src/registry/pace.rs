//! How fast an answer comes: who sends a byte now and then keeps every single read within its time, and is no
//! faster for it.

use std::time::{Duration, Instant};

use super::http::patience;

/// Who sends less than this, in twice the time in which something has to come, sends nothing.
const SLOWEST: u64 = 16 << 10;
/// What is said of it.
pub(super) const TOO_SLOW: &str = "next to nothing comes";

/// Watches over what has come.
pub(super) struct Pace {
    looked: Instant,
    at: u64,
    window: Duration,
}

impl Pace {
    /// From now on, `at` bytes having come.
    pub(super) fn begin(at: u64) -> Self {
        Self { looked: Instant::now(), at, window: patience() * 2 }
    }

    /// Is it fast enough, now that so many bytes have come in all?
    pub(super) fn goes_on(&mut self, bytes: u64) -> bool {
        if self.looked.elapsed() <= self.window {
            return true;
        }
        let enough = bytes.saturating_sub(self.at) >= SLOWEST;
        (self.looked, self.at) = (Instant::now(), bytes);
        enough
    }
}
