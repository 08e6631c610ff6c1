//! Pieces of files, compressed by all cores and taken in the order in which they came. No more than two a core are on
//! their way, which bounds the memory; the result is the same however many cores do it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use coracle_sys::{Error, Result, interrupt};

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
    let (jobs, todo) = mpsc::sync_channel::<(usize, Piece)>(window);
    let (done, results) = mpsc::channel();
    let todo = Mutex::new(todo);
    thread::scope(|scope| {
        // Owned here, so that the threads see the end of the jobs whatever way this ends.
        let jobs = jobs;
        for _ in 0..workers {
            let (todo, done) = (&todo, done.clone());
            scope.spawn(move || {
                let mut work = worker();
                while let Ok((n, mut piece)) = { todo.lock().unwrap_or_else(PoisonError::into_inner).recv() }
                {
                    let result = match &mut work {
                        Ok(work) => work(&mut piece).map(|()| piece),
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
        let mut early = BTreeMap::new();
        let lost = || Error::invalid("a thread that compressed has ended");
        loop {
            interrupt::check()?;
            while more && sent - taken < window {
                match line.next()? {
                    Some(piece) => jobs.send((sent, piece)).map_err(|_| lost())?,
                    None => {
                        more = false;
                        break;
                    }
                }
                sent += 1;
            }
            if taken == sent {
                return Ok(());
            }
            match early.remove(&taken) {
                Some(piece) => {
                    line.take(piece)?;
                    taken += 1;
                }
                None => {
                    let (n, piece) = results.recv().map_err(|_| lost())?;
                    early.insert(n, piece?);
                }
            }
        }
    })
}
