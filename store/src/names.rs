//! Names of containers. One that the user gave is a link in `names/`; one that was given none is called
//! by a name that its id makes up, and nothing is written.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use coracle_sys::{Context, Error, Kind, Result};

use crate::container::{check_name, list};
use crate::lock::Lock;
use crate::read::Store;

/// A name for a container that was given none, taken from its id.
pub fn made_up(id: &str) -> String {
    const FIRST: [&str; 16] = [
        "brisk", "calm", "dry", "early", "fair", "green", "high", "keen", "light", "mild", "neat", "plain",
        "quick", "round", "still", "warm",
    ];
    const SECOND: [&str; 16] = [
        "anchor", "beacon", "coble", "dory", "eddy", "ferry", "gully", "harbor", "island", "jetty", "kelp",
        "lagoon", "mooring", "oar", "paddle", "reed",
    ];
    let digit =
        |at: usize| id.as_bytes().get(at).and_then(|b| char::from(*b).to_digit(16)).unwrap_or(0) as usize;
    // The rest of the id keeps two containers from ever meeting.
    format!("{}_{}_{}", FIRST[digit(0)], SECOND[digit(1)], id.get(2..8).unwrap_or(id))
}

impl Store {
    /// Give a name to a container. [`Kind::Exists`] when another living container has it.
    pub fn claim_name(&self, name: &str, id: &str) -> Result<()> {
        check_name("name", name)?;
        let path = self.main.root().join("names").join(name);
        if let Some(owner) = self.made_up(name).filter(|owner| owner != id) {
            return Err(taken(name, &owner));
        }
        let claim = || symlink(id, &path);
        match claim() {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return other.context(|| format!("symlink({id:?}, {path:?})")),
        }
        let _alone = Lock::exclusive(&self.main.index_lock())?;
        if let Some(owner) = self.claimed(name) {
            if self.main.container(&owner).exists() {
                return Err(taken(name, &owner));
            }
            fs::remove_file(&path).context(|| format!("unlink({path:?})"))?;
        }
        claim().context(|| format!("symlink({id:?}, {path:?})"))
    }

    /// Give the name of a container up, if the name is still its own.
    pub fn release_name(&self, name: &str, id: &str) -> Result<()> {
        if name == made_up(id) {
            return Ok(());
        }
        check_name("name", name)?;
        if self.claimed(name).as_deref() != Some(id) {
            return Ok(());
        }
        let path = self.main.root().join("names").join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.context(|| format!("unlink({path:?})")),
        }
    }

    /// Forget the names of containers that are no more: who made or removed them was killed on the way.
    pub fn sweep_names(&self) -> Result<()> {
        let names = self.main.root().join("names");
        let gone = |name: &String| self.claimed(name).is_some_and(|id| !self.main.container(&id).exists());
        let left: Vec<String> = list(&names)?.into_iter().filter(gone).collect();
        if left.is_empty() {
            return Ok(());
        }
        let _alone = Lock::exclusive(&self.main.index_lock())?;
        for name in left.iter().filter(|name| gone(name)) {
            let path = names.join(name);
            fs::remove_file(&path).context(|| format!("unlink({path:?})"))?;
        }
        Ok(())
    }

    /// The id that has this name.
    pub fn named(&self, name: &str) -> Option<String> {
        check_name("name", name).ok()?;
        self.claimed(name).or_else(|| self.made_up(name))
    }

    fn claimed(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.main.root().join("names").join(name)).ok()?;
        target.to_str().map(str::to_owned)
    }

    /// The container whose id makes this name up. Of most names it is plain that none does.
    fn made_up(&self, name: &str) -> Option<String> {
        let part = name.rsplit('_').next().filter(|p| p.len() == 6)?;
        let all = self.containers().ok()?.into_iter().map(|c| c.id);
        all.filter(|id| id.get(2..8) == Some(part)).find(|id| made_up(id) == name)
    }
}

fn taken(name: &str, owner: &str) -> Error {
    Error::new(Kind::Exists, format!("name the container {name:?}: {owner} has that name"))
}
