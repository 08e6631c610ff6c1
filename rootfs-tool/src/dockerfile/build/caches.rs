//! The directories of `RUN --mount=type=cache`, which stay from build to build.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coracle_store::digest::Digest;
use coracle_store::lock::Lock;
use coracle_sys::{Context, Error, Kind as ErrorKind, Result};

use super::Stage;
use super::files::{own, spread};
use crate::dockerfile::cache;
use crate::dockerfile::mounts::{Mount, Sharing};

impl Stage<'_, '_> {
    /// The directory of a cache. Caches of one id that begin with another content, owner or mode are different ones,
    /// as in BuildKit.
    pub(super) fn cache_dir(&self, id: &str, m: &Mount) -> Result<(PathBuf, Option<Lock>)> {
        let all = cache::dir(self.build.tx.store())?.join("mounts");
        let mut name = id.to_owned();
        if m.from.is_some() {
            name += &format!("\n{} {:?}", self.identity(m)?, m.source);
        }
        if m.uid.is_some() || m.gid.is_some() || m.mode.is_some() {
            let (uid, gid) = (m.uid.unwrap_or(0), m.gid.unwrap_or(0));
            name += &format!("\n{uid}:{gid} {:o}", m.mode.unwrap_or(0o755));
        }
        let named = all.join(Digest::of(name.as_bytes()).hex());
        for other in 0..100u32 {
            let dir = if other == 0 { named.clone() } else { named.with_extension(other.to_string()) };
            if !dir.exists() {
                self.begin_cache(&all, &dir, m)?;
            }
            cache::used(&dir);
            let beside = dir.with_extension(format!("{other}.lock"));
            match m.sharing {
                Sharing::Shared => return Ok((dir, None)),
                Sharing::Locked => return Ok((dir, Some(Lock::exclusive(&beside)?))),
                Sharing::Private => {
                    drop(Lock::shared(&beside));
                    if let Some(lock) = Lock::try_existing(&beside)? {
                        return Ok((dir, Some(lock)));
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("the cache {id}: a hundred builds use it")))
    }

    /// A new cache: empty, or what `from` has. It is there once it is whole.
    fn begin_cache(&self, all: &Path, dir: &Path, m: &Mount) -> Result<()> {
        std::fs::create_dir_all(all).context(|| format!("mkdir({all:?})"))?;
        let space = self.build.tx.workspace()?;
        let made = match &m.from {
            None => space.dir("dir", 0o755)?,
            Some(name) => {
                let tree = self.build.tree_of(&self.source(name)?.ids)?;
                let part = self.part(&tree, m)?;
                if part.get("dir").is_none() {
                    return Err(Error::invalid(format!("the cache of {name}: its source is no directory")));
                }
                let at = space.dir("from", 0o755)?;
                spread(&part, &at)?;
                at.join("dir")
            }
        };
        if m.mode.is_some() || m.from.is_none() {
            let mode = std::fs::Permissions::from_mode(m.mode.unwrap_or(0o755));
            std::fs::set_permissions(&made, mode).context(|| format!("chmod({made:?})"))?;
        }
        own(&made, m)?;
        match std::fs::rename(&made, dir) {
            // Another build was as quick.
            Err(_) if dir.is_dir() => Ok(()),
            done => done.context(|| format!("rename({made:?}, {dir:?})")),
        }
    }
}
