//! What became of each layer of an image so far, for the threads that take in the others.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use coracle_sys::{Error, Result};

use crate::layer::{key, unpack::Applied};
use crate::temp::Temp;

/// A layer that was taken in, and has no name yet.
pub(super) struct Made {
    /// Its tree, where it was there before.
    pub(super) tree: PathBuf,
    /// Its blob, where that came just now.
    pub(super) blob: Option<PathBuf>,
    /// Its files, where they were written just now.
    pub(super) layer: Option<(Temp, Applied)>,
}

impl Made {
    /// One that is there.
    pub(super) fn there(tree: PathBuf) -> Self {
        Self { tree, blob: None, layer: None }
    }

    fn tree(&self) -> PathBuf {
        self.layer.as_ref().map_or_else(|| self.tree.clone(), |(temp, _)| temp.path().join(key::TREE))
    }
}

/// One for each layer, bottom first.
pub(super) struct Slots {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    made: Vec<Option<Made>>,
    /// The first error. All stops at it.
    error: Option<Error>,
}

impl Slots {
    pub(super) fn new(layers: usize) -> Self {
        let made = (0..layers).map(|_| None).collect();
        Self { inner: Mutex::new(Inner { made, error: None }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn done(&self, n: usize, made: Made) {
        self.lock().made[n] = Some(made);
        self.changed.notify_all();
    }

    pub(super) fn failed(&self, e: Error) {
        self.lock().error.get_or_insert(e);
        self.changed.notify_all();
    }

    /// Has anything failed?
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().error.is_some()
    }

    /// Are the first `n` there?
    pub(super) fn are_there(&self, n: usize) -> bool {
        self.lock().made[..n].iter().all(Option::is_some)
    }

    /// Wait for a layer.
    fn wait_for<T>(&self, n: usize, answer: impl Fn(&Made) -> T) -> Result<T> {
        let mut inner = self.lock();
        loop {
            if inner.error.is_some() {
                return Err(Error::invalid("a layer below was not taken in"));
            }
            if let Some(made) = &inner.made[n] {
                return Ok(answer(made));
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The tree of a layer, once it is there.
    pub(super) fn tree(&self, n: usize) -> Result<PathBuf> {
        self.wait_for(n, Made::tree)
    }

    /// A layer that is the same elsewhere in the stack, once it is there: its blob, where that came just now,
    /// and its tree, unless it leans on what is below it.
    pub(super) fn twin(&self, n: usize) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
        self.wait_for(n, |made| {
            let stands = made.layer.as_ref().is_some_and(|(_, applied)| !applied.leans);
            (made.blob.clone(), stands.then(|| made.tree()))
        })
    }

    /// All layers, or the first error.
    pub(super) fn finish(&self) -> Result<Vec<Made>> {
        let mut inner = self.lock();
        match inner.error.take() {
            Some(e) => Err(e),
            None => Ok(std::mem::take(&mut inner.made).into_iter().flatten().collect()),
        }
    }
}
