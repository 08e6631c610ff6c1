//! Which layer came of which step: a step whose input is as it was is not done again. A key is made of the key of the
//! step before and of everything that goes into this one, files by their content and not by their times. Entries lie in
//! `cache/build/`; one that is lost, or whose layer is gone, costs time and nothing else.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use coracle_store::digest::Hashing;
use coracle_store::image::Descriptor;
use coracle_store::layer::pack::{Archive, Content, Seen};
use coracle_store::{Digest, Store, Transaction};
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file, json};
use serde::Serialize;

/// A file that was changed so lately may be changed again without its status telling: as long as the kernel's clock for
/// files stands still.
const YOUNG: Duration = Duration::from_millis(20);
/// The same where the file system may know no more than seconds.
const YOUNG_OF_SECONDS: Duration = Duration::from_secs(3);

/// What came of a step.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Made {
    /// The blob.
    pub(crate) descriptor: Descriptor,
    /// The digest of the archive.
    pub(crate) diff_id: Digest,
    /// When, RFC 3339.
    pub(crate) created: String,
}

read_json!(Made {
    descriptor: must "descriptor",
    diff_id: must "diff_id",
    created: must "created",
});

/// A key of these parts, each with its length.
pub(crate) fn key(parts: &[&str]) -> Digest {
    let mut text = String::from("build 1\n");
    for part in parts {
        let _ = writeln!(text, "{} {part}", part.len());
    }
    Digest::of(text.as_bytes())
}

/// The directory of the cache.
pub(crate) fn dir(store: &Store) -> Result<PathBuf> {
    let path = store.main().builds();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.context(|| format!("mkdir({path:?})"))?;
    Ok(path)
}

/// What came of this input before, if the store still has it, applied over the stack `below`.
pub(crate) fn look(tx: &Transaction<'_>, key: &Digest, below: &[Digest]) -> Option<Made> {
    let path = dir(tx.store()).ok()?.join(key.hex());
    let made: Made = json::from_slice(&file::read(&path).ok()?).ok()?;
    used(&path);
    (tx.has_blob(&made.descriptor) && tx.is_applied(&made.diff_id, below)).then_some(made)
}

/// Note that it is used at this moment, for a prune of what nobody has used for long.
pub(crate) fn used(path: &Path) {
    let _ = std::fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Remember what came of an input.
pub(crate) fn remember(store: &Store, key: &Digest, made: &Made) -> Result<()> {
    let text = serde_json::to_vec(made).map_err(|e| Error::invalid(e.to_string()))?;
    let path = dir(store)?.join(key.hex());
    // Half an entry is none: it needs no sync.
    let temp = path.with_extension(file::unique_name("").to_string_lossy().into_owned());
    std::fs::write(&temp, text).context(|| format!("write({temp:?})"))?;
    std::fs::rename(&temp, &path).context(|| format!("rename({temp:?}, {path:?})"))
}

/// By path: the file's status, and the digest that it had then.
type Known = HashMap<Vec<u8>, (String, Digest)>;

/// Digests of files that were read before, known again by their status.
pub(crate) struct Contents {
    /// Of which folder, and where it is kept: not that of what goes with the build.
    place: Option<(PathBuf, PathBuf)>,
    /// And whether more is known than is kept.
    known: Mutex<(Known, bool)>,
}

impl Contents {
    /// Those of one context.
    pub(crate) fn of(store: &Store, context: Option<&Path>) -> Result<Self> {
        let mut known = HashMap::new();
        let Some(context) = context else {
            return Ok(Self { place: None, known: Mutex::new((known, false)) });
        };
        let name = format!("files-{}", Digest::of(context.as_os_str().as_bytes()).hex());
        let place = dir(store)?.join(name);
        for line in file::read(&place).unwrap_or_default().split(|b| *b == 0) {
            let mut parts = line.splitn(3, |b| *b == b' ');
            let text = |part: Option<&[u8]>| Some(std::str::from_utf8(part?).ok()?.to_owned());
            let (digest, stamp, path) = (text(parts.next()), text(parts.next()), parts.next());
            if let (Some(digest), Some(stamp), Some(path)) =
                (digest.and_then(|d| Digest::from_hex(&d)), stamp, path)
            {
                known.insert(path.to_vec(), (stamp, digest));
            }
        }
        Ok(Self { place: Some((context.to_owned(), place)), known: Mutex::new((known, false)) })
    }

    /// The digest of a file's content, by how it was found.
    fn digest(&self, path: &Path, size: u64, seen: Option<&Seen>) -> Result<Digest> {
        let (size, seen) = match seen {
            Some(seen) => (size, *seen),
            None => {
                let st = nix::sys::stat::lstat(path).context(|| format!("lstat({path:?})"))?;
                (st.st_size as u64, Seen::of(&st))
            }
        };
        let Seen { dev, ino, mtime, ctime } = seen;
        let stamp = format!("{dev}:{ino}:{size}:{}.{}:{}.{}", mtime.0, mtime.1, ctime.0, ctime.1);
        let name = path.as_os_str().as_bytes();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, digest)) = known().0.get(name).filter(|(s, _)| *s == stamp) {
            return Ok(*digest);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut hash = Hashing::new(file::open_plain(path)?);
        std::io::copy(&mut hash, &mut std::io::sink()).context(|| format!("read({path:?})"))?;
        let digest = hash.finish().0;
        let changed = Duration::new(ctime.0.max(0) as u64, ctime.1);
        let young = if ctime.1 == 0 { YOUNG_OF_SECONDS } else { YOUNG };
        let stays = self.place.as_ref().is_some_and(|(context, _)| path.starts_with(context));
        if stays && now.saturating_sub(changed) > young {
            let mut known = known();
            known.0.insert(name.to_vec(), (stamp, digest));
            known.1 = true;
        }
        Ok(digest)
    }

    /// Keep what was learned.
    pub(crate) fn keep(&self) -> Result<()> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, place)) = self.place.as_ref().filter(|_| known.1) else { return Ok(()) };
        let mut text = Vec::new();
        for (path, (stamp, digest)) in &known.0 {
            text.extend_from_slice(format!("{} {stamp} ", digest.hex()).as_bytes());
            text.extend_from_slice(path);
            text.push(0);
        }
        let temp = place.with_extension(file::unique_name("").to_string_lossy().into_owned());
        std::fs::write(&temp, text).context(|| format!("write({temp:?})"))?;
        std::fs::rename(&temp, place).context(|| format!("rename({temp:?}, {place:?})"))
    }

    /// What an archive holds, but for its times.
    pub(crate) fn of_archive(&self, archive: &Archive) -> Result<Digest> {
        let mut text = String::new();
        for path in archive.paths() {
            let Some((meta, content)) = archive.get(path) else { continue };
            let (mode, uid, gid) = (meta.mode, meta.uid, meta.gid);
            let _ = write!(text, "{path:?} {mode:o} {uid} {gid} {:?} ", meta.xattrs);
            let _ = match content {
                Content::File { path, size, seen } => {
                    writeln!(text, "f {}", self.digest(path, *size, seen.as_ref())?)
                }
                Content::Bytes(bytes) => writeln!(text, "f {}", Digest::of(bytes)),
                other => writeln!(text, "{other:?}"),
            };
        }
        Ok(Digest::of(text.as_bytes()))
    }
}
