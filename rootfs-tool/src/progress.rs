//! How it goes: a bar for each layer on a terminal, a line for each otherwise, nothing when it is to be quiet.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use coracle_store::image::Descriptor;
use coracle_store::ingest::{State, Watch};
use coracle_sys::interrupt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The words for a direction.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    doing: &'static str,
    done: &'static str,
    exists: &'static str,
}

/// Layers that come here from a registry, in docker's words.
pub(crate) const PULL: Words = Words { doing: "Pulling", done: "Pull complete", exists: "Already exists" };
/// Layers that are read from an archive.
pub(crate) const LOAD: Words = Words { doing: "Loading", done: "Loaded", exists: "Already exists" };
/// Layers whose blobs lie here already.
pub(crate) const APPLY: Words = Words { doing: "Applying", done: "Applied", exists: "Already applied" };
/// Layers that are written to an archive.
pub(crate) const SAVE: Words = Words { doing: "Saving", done: "Saved", exists: "Already there" };
/// Layers on their way from any place to any.
pub(crate) const COPY: Words = Words { doing: "Copying", done: "Copied", exists: "Already there" };
/// Layers on their way to a registry.
pub(crate) const PUSH: Words = Words { doing: "Pushing", done: "Pushed", exists: "Layer already exists" };

/// Shows how it goes with the layers of one image.
pub(crate) struct Progress {
    words: Words,
    names: Vec<String>,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
    quiet: bool,
    last: Mutex<Vec<Option<State>>>,
}

impl Progress {
    /// Of these layers, bottom first.
    pub(crate) fn new(words: Words, layers: &[Descriptor], quiet: bool) -> Self {
        let names: Vec<String> = layers.iter().map(|d| d.digest.short()).collect();
        let bars =
            (!quiet && std::io::stderr().is_terminal() && std::io::stdout().is_terminal()).then(|| {
                let all = MultiProgress::new();
                let style = ProgressStyle::with_template(
                    "{prefix}: {msg:20} {bar:30} {decimal_bytes:>10}/{decimal_total_bytes:10}",
                )
                .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bars = layers.iter().zip(&names).map(|(d, name)| {
                    let bar = all.add(ProgressBar::new(d.size).with_style(style.clone()));
                    bar.set_prefix(name.clone());
                    bar.set_message("Waiting");
                    bar
                });
                let bars = bars.collect();
                (all, bars)
            });
        let last = Mutex::new(vec![None; names.len()]);
        Self { words, names, bars, quiet, last }
    }

    /// Say something of a layer in place of its bar, or as a line.
    pub(crate) fn say(&self, n: usize, what: &str) {
        match &self.bars {
            Some((_, bars)) => {
                bars[n].set_style(
                    ProgressStyle::with_template("{prefix}: {msg}")
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bars[n].finish_with_message(what.to_owned());
            }
            None if self.quiet => {}
            None => coracle_sys::say!("{}: {what}", self.names[n]),
        }
    }
}

impl Watch for Progress {
    fn state(&self, n: usize, state: State) {
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner)[n].replace(state);
        if before == Some(state) {
            return;
        }
        match state {
            State::Exists => self.say(n, self.words.exists),
            State::Done => self.say(n, self.words.done),
            State::Waiting => match &self.bars {
                Some((_, bars)) => bars[n].set_message("Waiting for another"),
                None if self.quiet => {}
                None => coracle_sys::say!("{}: Waiting for another that is getting it", self.names[n]),
            },
            State::Coming(have) => {
                if let Some((_, bars)) = &self.bars {
                    bars[n].set_message(self.words.doing);
                    bars[n].set_position(have);
                }
            }
        }
    }

    fn received(&self, n: usize, bytes: u64) {
        if let Some((_, bars)) = &self.bars {
            bars[n].inc(bytes);
        }
    }

    fn stop(&self) -> bool {
        interrupt::requested().is_some()
    }
}
