//! How a build goes, on standard error: a line when a step begins, what it says with the seconds, how it ended. The
//! same on a terminal and elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use coracle_sys::print::harmless;

/// Lines that are kept of a step that is quiet, for the case that it fails.
const KEPT: usize = 50;

/// Of a whole build.
pub(crate) struct Report {
    quiet: bool,
    steps: AtomicUsize,
}

/// Of one step.
pub(crate) struct Told<'a> {
    report: &'a Report,
    number: usize,
    began: Instant,
    kept: Mutex<VecDeque<String>>,
}

impl Report {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, steps: AtomicUsize::new(0) }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) -> Told<'_> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.quiet {
            coracle_sys::warn!("#{number} {}", harmless(what));
        }
        Told { report: self, number, began: Instant::now(), kept: Mutex::default() }
    }

    /// Something that is worth a word.
    pub(crate) fn warn(&self, what: &str) {
        coracle_sys::warn!("rootfs-tool: warning: {}", harmless(what));
    }
}

impl Told<'_> {
    /// It is the one of an earlier time.
    pub(crate) fn cached(&self) {
        if !self.report.quiet {
            coracle_sys::warn!("#{} CACHED", self.number);
        }
    }

    /// A line of what it says.
    pub(crate) fn says(&self, line: &str) {
        let seconds = self.began.elapsed().as_millis();
        let text = format!("#{} {}.{:03} {}", self.number, seconds / 1000, seconds % 1000, harmless(line));
        if !self.report.quiet {
            coracle_sys::warn!("{text}");
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(text);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// It is done.
    pub(crate) fn done(&self) {
        if !self.report.quiet {
            let ms = self.began.elapsed().as_millis();
            coracle_sys::warn!("#{} DONE {}.{:03}s", self.number, ms / 1000, ms % 1000);
        }
    }

    /// It is not: what it has said is told now.
    pub(crate) fn failed(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().for_each(|line| coracle_sys::warn!("{line}"));
        if !self.report.quiet {
            coracle_sys::warn!("#{} ERROR", self.number);
        }
    }
}
