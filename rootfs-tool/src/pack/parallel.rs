//! Pieces of files, compressed by all cores and taken in the order in which they came. Small ones go to a thread together. No
//! more than two such lots a core are on their way, which bounds the memory; the result is the same however many cores do it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use coracle_sys::{Error, Result, interrupt};

/// A lot is full with so many bytes, or so many pieces: waking a thread takes as long as compressing some KiB.
const LOT: usize = 256 << 10;
const PIECES: usize = 128;
/// Memory of so much is used again: it would be had from the kernel, page by page, and given back, for each piece.
const LARGE: usize = 4 << 10;

/// What goes in, and what comes out in its place.
pub(crate) struct Piece {
    /// Whose it is, as the line numbers them.
    pub(crate) of: usize,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// How many they were before the work.
    pub(crate) was: usize,
    /// What the work tells besides.
    pub(crate) notes: Vec<u32>,
}

impl Piece {
    /// One that is to be worked on.
    pub(crate) fn new(of: usize, bytes: Vec<u8>) -> Self {
        Self { of, was: bytes.len(), bytes, notes: Vec::new() }
    }

    /// Have these bytes.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}

/// Memory of pieces that are done, for the next ones: that of 2^n bytes and more, but less than 2^(n+1), for each n.
#[derive(Default)]
pub(crate) struct Spare(BTreeMap<u32, Vec<Vec<u8>>>);

impl Spare {
    /// So many bytes, of any content.
    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        if size < LARGE {
            return vec![0; size];
        }
        let room = size.next_power_of_two();
        let known = self.0.get_mut(&room.ilog2()).and_then(Vec::pop);
        let mut bytes = known.unwrap_or_else(|| Vec::with_capacity(room));
        bytes.resize(size, 0);
        bytes
    }

    /// What was taken, or what came in its place.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) {
        if bytes.capacity() >= LARGE {
            self.0.entry(bytes.capacity().ilog2()).or_default().push(bytes);
        }
    }
}

/// Both ends of the work, in the caller's thread.
pub(crate) trait Line {
    /// The next piece, if there is one.
    fn next(&mut self) -> Result<Option<Piece>>;
    /// The eldest piece that was not taken yet.
    fn take(&mut self, piece: Piece) -> Result<()>;
}

/// What one thread does to every piece that it gets.
pub(crate) type Work<'a> = Box<dyn FnMut(&mut Piece) -> Result<()> + 'a>;

/// Have every piece of the line worked on. `worker` is called once in each thread.
pub(crate) fn run<'w>(line: &mut dyn Line, worker: &(dyn Fn() -> Result<Work<'w>> + Sync)) -> Result<()> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(64);
    let window = 2 * workers;
    let (jobs, todo) = mpsc::sync_channel::<(usize, Vec<Piece>)>(window);
    let (done, results) = mpsc::channel();
    let todo = Mutex::new(todo);
    thread::scope(|scope| {
        // Owned here, so that the threads see the end of the jobs whatever way this ends.
        let jobs = jobs;
        for _ in 0..workers {
            let (todo, done) = (&todo, done.clone());
            scope.spawn(move || {
                let mut work = worker();
                while let Ok((n, mut lot)) = { todo.lock().unwrap_or_else(PoisonError::into_inner).recv() } {
                    let result = match &mut work {
                        Ok(work) => lot.iter_mut().try_for_each(work).map(|()| lot),
                        Err(e) => Err(Error::new(e.kind(), e.to_string())),
                    };
                    if done.send((n, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let (mut sent, mut taken, mut more) = (0, 0, true);
        let mut early: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
        let lost = || Error::invalid("a thread that compressed has ended");
        loop {
            interrupt::check()?;
            while more && sent - taken < window {
                let (mut lot, mut bytes) = (Vec::new(), 0);
                while more && lot.len() < PIECES && bytes < LOT {
                    match line.next()? {
                        Some(piece) => {
                            bytes += piece.was;
                            lot.push(piece);
                        }
                        None => more = false,
                    }
                }
                if !lot.is_empty() {
                    jobs.send((sent, lot)).map_err(|_| lost())?;
                    sent += 1;
                }
            }
            if taken == sent {
                return Ok(());
            }
            match early.remove(&taken) {
                Some(lot) => {
                    lot.into_iter().try_for_each(|piece| line.take(piece))?;
                    taken += 1;
                }
                None => {
                    let (n, lot) = results.recv().map_err(|_| lost())?;
                    early.insert(n, lot?);
                }
            }
        }
    })
}
