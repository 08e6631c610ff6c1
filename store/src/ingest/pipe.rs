//! A pipe between two threads: filled buffers one way, empty ones back, so that a stream of any length
//! takes a few buffers and no copy.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::layer::fill;

/// The bytes of one buffer.
const CHUNK: usize = 256 << 10;
/// How many may be under way.
const DEPTH: usize = 6;

/// The end that is written. Dropping it ends the stream.
pub(crate) struct Feed {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The end that is read.
pub(crate) struct Drain {
    full: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

/// A new pipe.
pub(crate) fn pipe() -> (Feed, Drain) {
    let (full, filled) = sync_channel(DEPTH);
    // As many as there are buffers, so that giving one back never waits.
    let (back, empty) = sync_channel(DEPTH + 2);
    for _ in 0..DEPTH + 2 {
        let _ = back.send(Vec::new());
    }
    (Feed { full, empty }, Drain { full: filled, empty: back, chunk: Vec::new(), at: 0 })
}

impl Feed {
    /// Fill a buffer from `input`, let `seen` look at it, and pass it on. How many bytes it was; none when
    /// nobody reads any more.
    pub(super) fn pass(
        &self,
        input: &mut impl Read,
        mut seen: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<usize>> {
        let Ok(mut buf) = self.empty.recv() else { return Ok(None) };
        buf.resize(CHUNK, 0);
        let n = fill(input, &mut buf)?;
        buf.truncate(n);
        seen(&buf)?;
        if n > 0 && self.full.send(buf).is_err() {
            return Ok(None);
        }
        Ok(Some(n))
    }

    /// Pass these bytes on. False when nobody reads any more.
    pub(crate) fn push(&self, bytes: &[u8]) -> bool {
        let Ok(mut buf) = self.empty.recv() else { return false };
        buf.clear();
        buf.extend_from_slice(bytes);
        self.full.send(buf).is_ok()
    }
}

impl BufRead for Drain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len()
            && let Ok(next) = self.full.recv()
        {
            let _ = self.empty.send(std::mem::replace(&mut self.chunk, next));
            self.at = 0;
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Drain {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(out.len());
        out[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fed_is_drained_in_order_and_who_stops_reading_stops_the_feed() {
        let bytes: Vec<u8> = (0..5 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
        let (feed, mut drain) = pipe();
        std::thread::scope(|s| {
            s.spawn(|| {
                let feed = feed;
                let mut input = &bytes[..];
                while feed.pass(&mut input, |_| Ok(())).unwrap().unwrap() > 0 {}
            });
            let mut out = Vec::new();
            drain.read_to_end(&mut out).unwrap();
            assert_eq!(out, bytes);
        });
        let (feed, drain) = pipe();
        drop(drain);
        while feed.pass(&mut io::repeat(0), |_| Ok(())).unwrap().is_some() {}
    }
}
