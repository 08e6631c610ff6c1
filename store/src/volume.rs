//! Volumes: directories that outlive containers, and those without a name that go with theirs.
//!
//! A volume appears whole. What the image has at its place is copied to `tmp/` first, and the rename that
//! gives the volume its name is the last step: a copy that was killed is no volume, and the next use begins
//! again. So a volume that is there was used before, and is never filled again. Docker fills it whenever it
//! is empty; but then a container's user who empties it gets other files back, and an image decides what
//! those are (CVE-2020-1726). One that `volume create` made was never used: it is filled at its first use, unless
//! somebody has put files into it before.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use coracle_sys::file;
use coracle_sys::{Context, Error, Kind, Result};
use serde::Serialize;

use crate::container::{ContainerDir, check_name, list, mkdir};
use crate::layer::copy;
use crate::lock::Lock;
use crate::read::Store;

/// A volume that is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewVolume {
    path: PathBuf,
    /// Where it is made.
    #[serde(skip)]
    tmp: PathBuf,
    /// Of one with a name, which is to outlive a power cut: the mark of one that is there and was never used, and the
    /// lock that is held by who removes volumes.
    #[serde(skip)]
    named: Option<(PathBuf, PathBuf)>,
}

impl Store {
    /// A named volume that has yet to be made, or none where it is there.
    pub fn new_volume(&mut self, name: &str) -> Result<Option<NewVolume>> {
        let path = self.volume_path(name)?;
        let unused = self.unused_path(name);
        if path.exists() && !unused.exists() {
            return Ok(None);
        }
        self.main.create(None)?;
        self.make_volume_notes()?;
        let named = Some((unused, self.volume_lock()));
        Ok(Some(NewVolume { path, tmp: self.main.tmp(), named }))
    }

    /// Where a named volume is, if it is there.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf> {
        check_name("volume", name)?;
        Ok(self.main.root().join("volumes").join(name))
    }

    /// A volume without a name, the `n`th of a container that was just made.
    pub fn container_volume(&self, dir: &ContainerDir, n: usize) -> Result<NewVolume> {
        let home = dir.path.join("volumes");
        match mkdir(&home, 0o700) {
            Err(e) if e.kind() != Kind::Exists => return Err(e),
            _ => {}
        }
        Ok(NewVolume { path: home.join(n.to_string()), tmp: self.main.tmp(), named: None })
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<String>> {
        let mut names = list(&self.main.root().join("volumes"))?;
        names.extend(self.noted_volumes()?);
        // What somebody else has put there is no volume.
        names.retain(|name| check_name("volume", name).is_ok());
        coracle_sys::order::sort(&mut names);
        names.dedup();
        Ok(names)
    }

    /// The containers that use a volume with a name, by their ids.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        let mut all = self.containers()?;
        all.retain(|dir| dir.volumes().iter().any(|used| used == name));
        Ok(all.into_iter().map(|dir| dir.id).collect())
    }

    /// Remove a volume with everything in it, by `remove`, unless a container uses it. They are looked for once more when
    /// it has lost its name: whoever has written down before that it is used, gets it back; who comes later finds it gone.
    pub fn remove_volume(&self, name: &str, remove: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
        let path = self.volume_path(name)?;
        let none = || Error::not_found(format!("get {name}: no such volume"));
        let refuse = || match self.volume_users(name)?.as_slice() {
            [] => Ok(()),
            ids => {
                let ids = ids.join(", ");
                Err(Error::new(Kind::Busy, format!("remove {name}: volume is in use - [{ids}]")))
            }
        };
        if !self.has_volume(name) {
            return Err(none());
        }
        refuse()?;
        self.make_volume_notes()?;
        let alone = Lock::exclusive(&self.volume_lock())?;
        // Held, so that no sweep takes it away while it may have to come back.
        let held = match Lock::try_existing(&path) {
            Ok(Some(held)) => held,
            Ok(None) => {
                return Err(Error::new(Kind::Busy, format!("remove {name}: a process holds its folder")));
            }
            Err(e) if e.kind() == Kind::NotFound && self.has_volume(name) => return self.forget_volume(name),
            Err(e) if e.kind() == Kind::NotFound => return Err(none()),
            Err(e) => return Err(e),
        };
        let gone = self.main.take_out(&path)?;
        if let Err(e) = refuse() {
            file::rename_new(&gone, &path).context(|| format!("put the volume {name} back"))?;
            return Err(e);
        }
        self.forget_volume(name)?;
        drop(alone);
        let removed = remove(&gone);
        drop(held);
        removed
    }
}

impl NewVolume {
    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Make it, with a copy of everything that is in the directory `from`, and of that directory's own
    /// attributes; empty without one. Where another was quicker, that volume stands.
    pub fn make(&self, from: Option<BorrowedFd<'_>>) -> Result<()> {
        // Where one is made, or removed, meanwhile, it is looked at anew.
        while !self.try_make(from)? {}
        Ok(())
    }

    fn try_make(&self, from: Option<BorrowedFd<'_>>) -> Result<bool> {
        // In this order: who makes one sets the mark first.
        let there = self.path.exists();
        let first = match &self.named {
            Some((mark, _)) => Lock::existing(mark)?,
            None => None,
        };
        if there && first.is_none() {
            return Ok(true);
        }
        let (temp, _held) = self.temp()?;
        let done = self.fill(&temp, from, first.is_some()).inspect_err(|_| drop(file::remove_tree(&temp)))?;
        match &self.named {
            Some((mark, _)) if first.is_some() => {
                std::fs::remove_file(mark).context(|| format!("unlink({mark:?})"))?;
                Ok(true)
            }
            _ => Ok(done),
        }
    }

    /// A directory of `tmp/`, which is no left-over as long as the lock is held. Before it is, a sweep may
    /// take the directory away: then another one is made.
    fn temp(&self) -> Result<(PathBuf, Lock)> {
        loop {
            let temp = self.tmp.join(file::unique_name("volume-"));
            mkdir(&temp, 0o755)?;
            match Lock::try_existing(&temp) {
                Ok(Some(lock)) if lock.is_at(&temp) => return Ok((temp, lock)),
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
    }

    /// Copy, and give it its name. Whether it got it.
    fn fill(&self, temp: &Path, from: Option<BorrowedFd<'_>>, over_empty: bool) -> Result<bool> {
        if let Some(from) = from {
            let to = file::open_dir(temp)?;
            copy::tree(from, to.as_fd())?;
            if self.named.is_some() {
                file::sync_fs(to.as_fd())?;
            }
        }
        let _no_removal = match &self.named {
            Some((_, lock)) => Some(Lock::shared(lock)?),
            None => None,
        };
        let renamed = match over_empty {
            // Its own directory is empty, unless somebody has put files there: those stay.
            true => {
                std::fs::rename(temp, &self.path).context(|| format!("rename({temp:?}, {:?})", self.path))
            }
            false => file::rename_new(temp, &self.path),
        };
        match renamed {
            Err(e) if e.kind() == Kind::Exists || e.errno() == Some(nix::errno::Errno::ENOTEMPTY) => {
                return file::remove_tree(temp).map(|()| false);
            }
            other => other?,
        }
        match self.path.parent() {
            Some(parent) if self.named.is_some() => file::sync_dir(parent)?,
            _ => {}
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::Locations;
    use crate::volume_note::Note;

    fn scratch() -> (PathBuf, Store) {
        let dir = std::env::temp_dir().join(file::unique_name("coracle-volume-"));
        let store = Store::open(&Locations { main: dir.join("s"), behind: Vec::new() }).unwrap();
        (dir, store)
    }

    #[test]
    fn a_volume_is_filled_at_its_first_use_and_never_again() {
        let (dir, mut store) = scratch();
        let image = dir.join("image");
        fs::create_dir_all(image.join("sub")).unwrap();
        fs::write(image.join("sub/file"), "of the image").unwrap();
        symlink("/etc/passwd", image.join("link")).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o1750)).unwrap();
        let new = store.new_volume("v").unwrap().unwrap();
        assert!(!new.path().exists(), "nothing is there before the copy is whole");
        let from = file::open_dir(&image).unwrap();
        new.make(Some(from.as_fd())).unwrap();
        assert_eq!(fs::read_to_string(new.path().join("sub/file")).unwrap(), "of the image");
        assert_eq!(fs::read_link(new.path().join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(new.path()).unwrap().mode() & 0o7777, 0o1750);
        fs::remove_dir_all(new.path().join("sub")).unwrap();
        fs::remove_file(new.path().join("link")).unwrap();
        assert_eq!(store.new_volume("v").unwrap(), None);
        new.make(Some(from.as_fd())).unwrap();
        assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0, "it was emptied, and stays so");
        assert_eq!(fs::read_dir(store.main().tmp()).unwrap().count(), 0);
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn one_that_was_made_and_never_used_is_filled_once_unless_files_lie_in_it() {
        let (dir, mut store) = scratch();
        let image = dir.join("image");
        fs::create_dir_all(&image).unwrap();
        fs::write(image.join("file"), "").unwrap();
        let from = file::open_dir(&image).unwrap();
        let count = |store: &Store, name| fs::read_dir(store.volume_path(name).unwrap()).unwrap().count();
        for (name, before, after) in [("empty", 0, 1), ("mine", 1, 1)] {
            assert!(store.create_volume(name, &Note::default()).unwrap());
            assert!(!store.create_volume(name, &Note::default()).unwrap());
            if before > 0 {
                fs::write(store.volume_path(name).unwrap().join("own"), "").unwrap();
            }
            let (a, b) = (store.new_volume(name).unwrap().unwrap(), store.new_volume(name).unwrap().unwrap());
            a.make(Some(from.as_fd())).unwrap();
            assert_eq!(count(&store, name), after, "{name}");
            assert_eq!(store.volume_path(name).unwrap().join("own").exists(), before > 0);
            fs::remove_dir_all(store.volume_path(name).unwrap()).unwrap();
            fs::create_dir(store.volume_path(name).unwrap()).unwrap();
            b.make(Some(from.as_fd())).unwrap();
            assert_eq!((count(&store, name), store.new_volume(name).unwrap()), (0, None), "{name}");
        }
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_volume_is_removed_when_no_container_has_written_down_that_it_uses_it() {
        let (dir, mut store) = scratch();
        store.create_volume("v", &Note::default()).unwrap();
        let (user, _held) = store.new_container("c", None).unwrap();
        user.pin_volumes(&["u".to_owned(), "v".to_owned()]).unwrap();
        let e = store.remove_volume("v", &file::remove_tree).unwrap_err();
        assert_eq!(e.to_string(), "remove v: volume is in use - [c]");
        assert!(store.volume_path("v").unwrap().exists());
        store.remove_container("c").unwrap();
        store.remove_volume("v", &file::remove_tree).unwrap();
        assert_eq!(store.volumes().unwrap(), Vec::<String>::new());
        assert!(!store.has_volume("v") && store.remove_volume("v", &file::remove_tree).is_err());
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn whoever_comes_second_takes_the_volume_of_the_first() {
        let (dir, mut store) = scratch();
        let (a, b) = (store.new_volume("v").unwrap().unwrap(), store.new_volume("v").unwrap().unwrap());
        a.make(None).unwrap();
        let kept = fs::metadata(a.path()).unwrap().ino();
        let temp = b.tmp.join("late");
        mkdir(&temp, 0o755).unwrap();
        b.fill(&temp, None, false).unwrap();
        assert_eq!(fs::metadata(a.path()).unwrap().ino(), kept);
        assert!(!temp.exists());
        file::remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_copy_that_was_killed_is_no_volume_and_is_swept() {
        let (dir, mut store) = scratch();
        let new = store.new_volume("v").unwrap().unwrap();
        let half = new.tmp.join(file::unique_name("volume-"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("half"), "").unwrap();
        assert_eq!(store.volumes().unwrap(), Vec::<String>::new());
        assert_eq!(store.sweep().unwrap(), 1);
        assert!(store.new_volume("v").unwrap().is_some());
        file::remove_tree(&dir).unwrap();
    }
}
