//! What was fetched before, in the store's `cache/deb/`: indexes and packages by their SHA-256, and of each suite the
//! date of the newest index that was seen. A lost file costs time; a changed one is fetched again.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_store::Digest;
use coracle_store::Transaction;
use coracle_sys::{Context, Error, Kind, Result, file};
use ring::digest::{Context as Hasher, SHA256};

use crate::registry::Downloads;

/// The folder.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// That of a store.
    pub(crate) fn of(tx: &Transaction<'_>) -> Result<Self> {
        let dir = tx.store().main().root().join("cache").join("deb");
        for name in ["sha256", "seen"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).context(|| format!("mkdir({path:?})"))?;
        }
        Ok(Self { dir })
    }

    /// The file with this sum, fetched from the first of these addresses that has it. It is checked either way.
    pub(crate) fn file(
        &self,
        downloads: &Downloads,
        urls: &[String],
        sum: &str,
        size: u64,
    ) -> Result<PathBuf> {
        let path = self.dir.join("sha256").join(sum);
        if path.metadata().is_ok_and(|m| m.len() == size) && sum_of(&path)?.0 == sum {
            return Ok(path);
        }
        let mut missing = None;
        for url in urls {
            let temp = self.dir.join(file::unique_name(".new-"));
            let fetched = downloads.file(url, size, &temp).and_then(|()| {
                let (have, bytes) = sum_of(&temp)?;
                if have == sum && bytes == size {
                    fs::rename(&temp, &path).context(|| format!("rename({temp:?}, {path:?})"))
                } else {
                    let why =
                        format!("GET {url}: it is not what the index says: its SHA-256 is {have}, not {sum}");
                    Err(Error::new(Kind::Denied, why))
                }
            });
            match fetched {
                Ok(()) => return Ok(path),
                Err(e) => {
                    let _ = fs::remove_file(&temp);
                    match e.kind() {
                        Kind::NotFound => missing.get_or_insert(e),
                        _ => return Err(e),
                    };
                }
            }
        }
        Err(missing.unwrap_or_else(|| Error::not_found(format!("fetch {sum}: no repository is named"))))
    }

    /// The date of the index that was seen last.
    pub(crate) fn seen(&self, dists: &str) -> Option<i64> {
        fs::read_to_string(self.seen_path(dists)).ok()?.lines().next()?.parse().ok()
    }

    /// Note the date of an index that was checked.
    pub(crate) fn see(&self, dists: &str, date: i64) -> Result<()> {
        file::write_atomic(&self.seen_path(dists), format!("{date}\n{dists}\n").as_bytes(), 0o644)
    }

    fn seen_path(&self, dists: &str) -> PathBuf {
        self.dir.join("seen").join(Digest::of(dists.as_bytes()).hex())
    }
}

/// SHA-256 and size of a file.
fn sum_of(path: &Path) -> Result<(String, u64)> {
    use std::io::Read;
    let mut input = file::open_plain(path)?;
    let (mut hasher, mut size) = (Hasher::new(&SHA256), 0);
    let mut part = vec![0; 128 << 10];
    loop {
        let n = input.read(&mut part).context(|| format!("read({path:?})"))?;
        if n == 0 {
            break;
        }
        hasher.update(&part[..n]);
        size += n as u64;
    }
    Ok((super::hex(hasher.finish().as_ref()), size))
}
