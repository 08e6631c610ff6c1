//! Ranges of ids that containers have for themselves: one entry each in `ids/`, `FIRST-COUNT`, a link that names the
//! container. Who takes one holds `ids.lock`. What a container had that is gone is free again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use coracle_sys::{Context, Error, Kind, Result, order};

use crate::container::{list, mkdir};
use crate::lock::Lock;
use crate::read::Store;

/// The first id, and how many.
pub type IdRange = (u32, u32);

impl Store {
    /// `count` ids of these ranges that no other container has, for the container `id`, whose directory is there.
    /// The highest that are free, with `high`. Without an id they are only looked for.
    pub fn claim_ids(&self, id: Option<&str>, count: u32, from: &[IdRange], high: bool) -> Result<u32> {
        let full = || {
            Error::new(
                Kind::Busy,
                format!(
                    "find {count} ids of its own: all of those in /etc/subuid and /etc/subgid are in use"
                ),
            )
        };
        let Some(id) = id else {
            return free(from, &self.claimed_ids()?, count, high).ok_or_else(full);
        };
        match mkdir(&self.ids(), 0o700) {
            Err(e) if e.kind() != Kind::Exists => return Err(e),
            _ => {}
        }
        let _alone = Lock::exclusive(&self.main().root().join("ids.lock"))?;
        for name in list(&self.ids())? {
            let path = self.ids().join(&name);
            let owner = fs::read_link(&path).ok().and_then(|owner| owner.into_os_string().into_string().ok());
            if owner.is_none_or(|owner| owner == id || !self.main().container(&owner).exists()) {
                fs::remove_file(&path).context(|| format!("unlink({path:?})"))?;
            }
        }
        let first = free(from, &self.claimed_ids()?, count, high).ok_or_else(full)?;
        let path = self.ids().join(format!("{first}-{count}"));
        symlink(id, &path).context(|| format!("symlink({id:?}, {path:?})"))?;
        Ok(first)
    }

    /// The ids of a container are free again.
    pub fn release_ids(&self, id: &str) -> Result<()> {
        if !self.ids().exists() {
            return Ok(());
        }
        for name in list(&self.ids())? {
            let path = self.ids().join(&name);
            if fs::read_link(&path).is_ok_and(|owner| owner.as_os_str() == id) {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(e).context(|| format!("unlink({path:?})"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn claimed_ids(&self) -> Result<Vec<IdRange>> {
        let mut all = Vec::new();
        for name in list(&self.ids())? {
            let parts = name.split_once('-');
            all.extend(parts.and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?))));
        }
        order::sort(&mut all);
        Ok(all)
    }

    fn ids(&self) -> PathBuf {
        self.main().root().join("ids")
    }
}

/// Where `count` ids are free; `taken` is sorted.
fn free(from: &[IdRange], taken: &[IdRange], count: u32, high: bool) -> Option<u32> {
    let count = u64::from(count);
    let mut found = None;
    for (first, size) in from {
        let (mut at, end) = (u64::from(*first), u64::from(*first) + u64::from(*size));
        let gaps = taken.iter().map(|(f, n)| (u64::from(*f), u64::from(*f) + u64::from(*n)));
        for (begin, next) in gaps.chain([(end, end)]) {
            let until = begin.min(end);
            if until >= at && until - at >= count {
                if !high {
                    return u32::try_from(at).ok();
                }
                found = u32::try_from(until - count).ok();
            }
            at = at.max(next);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use coracle_sys::file;

    use super::*;
    use crate::Locations;

    #[test]
    fn the_first_or_the_last_gap_that_is_wide_enough_is_taken() {
        for (taken, count, low, high) in [
            (&[][..], 10, Some(100), Some(190)),
            (&[(100, 10)], 10, Some(110), Some(190)),
            (&[(105, 10), (190, 10)], 10, Some(115), Some(180)),
            (&[(100, 45), (150, 50)], 10, Some(300), Some(310)),
            (&[(100, 100), (300, 20)], 10, None, None),
            (&[], 101, None, None),
            (&[(50, 60)], 10, Some(110), Some(190)),
        ] {
            let from: &[IdRange] = if taken.len() == 2 { &[(100, 100), (300, 20)] } else { &[(100, 100)] };
            assert_eq!(free(from, taken, count, false), low, "{taken:?}");
            if from.len() == 1 {
                assert_eq!(free(from, taken, count, true), high, "{taken:?}");
            }
        }
    }

    #[test]
    fn each_container_has_ids_of_its_own_until_it_is_gone() {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-ids-"));
        let mut store = Store::open(&Locations { main: dir.join("s"), behind: Vec::new() }).unwrap();
        let from = [(1000, 200)];
        for id in ["a", "b", "c"] {
            drop(store.new_container(id, None).unwrap());
        }
        assert_eq!(store.claim_ids(None, 100, &from, false).unwrap(), 1000, "only looked for");
        assert_eq!(store.claim_ids(Some("a"), 100, &from, false).unwrap(), 1000);
        assert_eq!(store.claim_ids(Some("b"), 100, &from, false).unwrap(), 1100);
        assert!(store.claim_ids(Some("c"), 100, &from, false).unwrap_err().to_string().contains("in use"));
        store.release_ids("a").unwrap();
        assert_eq!(store.claim_ids(Some("c"), 50, &from, true).unwrap(), 1050);
        // One that was killed before it could give them back.
        store.remove_container("b").unwrap();
        assert_eq!(store.claim_ids(Some("a"), 100, &from, false).unwrap(), 1100);
        file::remove_tree(&dir).unwrap();
    }
}
