//! One layer on its way from a stream to files, by up to three threads at once: one receives, hashes and
//! keeps the blob, one decompresses and hashes the archive, and the caller's applies it.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::thread;

use coracle_sys::{Context, Error, Kind, Result};

use super::pipe::{Drain, Feed, pipe};
use crate::digest::{Digest, Hashing};
use crate::image::Descriptor;
use crate::layer::{Compression, decompress};

/// Where a stream comes from.
pub(crate) struct Begin<'a> {
    /// The blob, from its first byte.
    pub(crate) input: Box<dyn Read + Send + 'a>,
    /// How many of its bytes need not be kept, since they are.
    pub(crate) have: u64,
    /// What the media type says of its compression: other content is refused.
    pub(crate) claimed: Option<Compression>,
    /// What it must be.
    pub(crate) expect: Option<&'a Descriptor>,
}

/// Where what is behind has failed, the blob is read on for so many bytes, to learn whether it is the blob.
const BEHIND: u64 = 64 << 20;

/// Where it goes.
pub(crate) struct End<'a, T> {
    /// Where the blob is kept, unless it is.
    pub(crate) out: Option<&'a File>,
    /// Told how many bytes came; false stops it.
    pub(crate) watch: &'a (dyn Fn(u64) -> bool + Sync),
    /// What becomes of the archive, which it reads to the end.
    pub(crate) apply: &'a dyn Fn(&mut dyn Read) -> Result<T>,
}

/// What came of it.
pub(crate) struct Reached<T> {
    /// The blob's digest and size.
    pub(crate) blob: (Digest, u64),
    /// The archive's digest.
    pub(crate) diff_id: Digest,
    /// How the blob is compressed.
    pub(crate) compression: Compression,
    /// What became of the archive.
    pub(crate) end: T,
}

impl Begin<'_> {
    /// Send the stream through. Of several errors the one that lies nearest to the source is told: those
    /// behind it follow from it.
    pub(crate) fn run<T>(self, to: End<'_, T>) -> Result<Reached<T>> {
        let (feed, mut drain) = pipe();
        let claimed = self.claimed;
        thread::scope(|scope| {
            let receiver = scope.spawn(move || self.receive(feed, to.out, to.watch));
            let seen = Compression::of_bytes(drain.fill_buf().unwrap_or_default());
            let (archive, end) = if seen == Compression::None && claimed.is_none_or(|c| c == seen) {
                let end = (to.apply)(&mut drain);
                // Who is not read to the end must learn it: else the receiver waits for ever.
                drop(drain);
                (Ok(None), end)
            } else {
                let (feed, mut inflated) = pipe();
                let inflater = scope.spawn(move || inflate(drain, claimed, feed));
                let end = (to.apply)(&mut inflated);
                drop(inflated);
                (inflater.join().unwrap_or_else(|_| Err(lost())).map(Some), end)
            };
            let blob = receiver.join().unwrap_or_else(|_| Err(lost()))?;
            let diff_id = archive?.unwrap_or(blob.0);
            Ok(Reached { blob, diff_id, compression: seen, end: end? })
        })
    }

    fn receive(
        self,
        feed: Feed,
        out: Option<&File>,
        watch: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Digest, u64)> {
        let mut hash = Hashing::new(io::sink());
        let most = self.expect.map_or(u64::MAX, |d| d.size.saturating_add(1));
        let mut input = self.input.take(most);
        let mut known = self.have;
        let whole = loop {
            let passed = feed.pass(&mut input, |bytes| {
                hash.write_all(bytes)?;
                let skip = known.min(bytes.len() as u64);
                known -= skip;
                if let Some(mut out) = out {
                    out.write_all(&bytes[skip as usize..])?;
                }
                Ok(())
            });
            // A source that breaks off says nothing of the content, which may come another time.
            let passed = match passed {
                Err(e) if e.raw_os_error().is_none() => {
                    return Err(Error::new(Kind::System, e.to_string()));
                }
                other => other.context(|| "receive the blob")?,
            };
            match passed {
                Some(0) => break true,
                Some(n) if !watch(n as u64) => return Err(Error::new(Kind::System, "interrupted")),
                Some(_) => {}
                // Who reads has an error of its own to tell, unless all of it is wrong.
                None => {
                    let read = std::io::copy(&mut (&mut input).take(BEHIND), &mut hash).unwrap_or(BEHIND);
                    break read < BEHIND;
                }
            }
        };
        let (digest, size, _) = hash.finish();
        if let Some(d) = self.expect.filter(|_| whole) {
            d.expect(digest, size)?;
        }
        Ok((digest, size))
    }
}

fn inflate(drain: Drain, claimed: Option<Compression>, feed: Feed) -> Result<Digest> {
    let mut archive = decompress(drain, claimed)?;
    let mut hash = Hashing::new(io::sink());
    while feed
        .pass(&mut archive, |bytes| hash.write_all(bytes))
        .context(|| "decompress the layer")?
        .is_some_and(|n| n > 0)
    {}
    Ok(hash.finish().0)
}

fn lost() -> Error {
    Error::invalid("a thread of the pipeline has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_that_is_no_archive_is_an_error_and_no_wait() {
        let input = Box::new(io::repeat(7).take(16 << 20));
        let begin = Begin { input, have: 0, claimed: None, expect: None };
        let apply = |archive: &mut dyn Read| -> Result<()> {
            let mut head = [0; 512];
            archive.read_exact(&mut head).context(|| "read the head")?;
            Err(Error::invalid("this is no archive"))
        };
        let e = begin.run(End { out: None, watch: &|_| true, apply: &apply }).err().expect("an error");
        assert_eq!(e.to_string(), "this is no archive");
    }
}
