//! The directories of containers. What is written into a container's record is the runner's business.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Error, Kind, Result};
use coracle_sys::{file, usage};

use crate::digest::Digest;
use crate::driver::{Driver, fuse};
use crate::image::{Descriptor, Platform, media_type};
use crate::layer::Marks;
use crate::layer::differ::Difference;
use crate::lock::Lock;
use crate::read::{Image, Store};

/// A container's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDir {
    /// The container's id.
    pub id: String,
    /// `containers/<id>`.
    pub path: PathBuf,
}

/// The file that names the volumes that a container uses.
const USES: &str = "uses";

impl ContainerDir {
    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The marks in the writable layer.
    pub fn marks(&self) -> Marks {
        if fuse::is_marked(&self.upper()) { Marks::Fuse } else { Marks::of_this_process() }
    }

    /// Where it runs in a copy of its image, or in a snapshot: all its files.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// What overlay needs beside it.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// The volumes with names that the container uses.
    pub fn volumes(&self) -> Vec<String> {
        let text = file::read(&self.path.join(USES)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Write them down: from now on they are not removed. To be done before they are looked at.
    pub fn pin_volumes(&self, names: &[String]) -> Result<()> {
        let path = self.path.join(USES);
        fs::write(&path, names.join("\n")).context(|| format!("write({path:?})"))
    }

    /// The manifest of the image that the container uses, as it was recorded.
    pub fn image(&self) -> Option<Digest> {
        let pin = self.path.join("image");
        match fs::read_link(&pin) {
            Ok(digest) => digest.to_str()?.parse().ok(),
            Err(_) => Some(Digest::of(&file::read(&pin).ok()?)),
        }
    }
}

impl Store {
    /// A new container's directory with `upper` and `work` in it. Its use of an image is recorded
    /// in the same step, so that no prune takes the layers away: look them up after this. As long as
    /// the lock is held, the directory is not an orphan.
    pub fn new_container(&mut self, id: &str, image: Option<&Digest>) -> Result<(ContainerDir, Lock)> {
        check_name("container", id)?;
        let dir = ContainerDir { id: id.to_owned(), path: self.main.container(id) };
        let held = self.make_held(&dir.path)?;
        let filled = (|| {
            if let Some(digest) = image {
                // A second name of the manifest costs the disk no file; where it is in another store, or has
                // as many names as can be, the digest itself is written.
                let pin = dir.path.join("image");
                if fs::hard_link(self.main.blob(digest), &pin).is_err() {
                    symlink(digest.to_string(), &pin).context(|| format!("symlink({pin:?})"))?;
                }
            }
            // The root of what the container sees has this mode, whatever the caller's umask is.
            let upper = dir.upper();
            mkdir(&upper, 0o755)?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&upper, mode).context(|| format!("chmod({upper:?}, 0755)"))?;
            mkdir(&dir.work(), 0o700)
        })();
        if let Err(e) = filled {
            let _ = file::remove_tree(&dir.path);
            return Err(e.wrap(format!("make the directory of the container {id}")));
        }
        Ok((dir, held))
    }

    /// The directory, locked. Between the two a sweep may have taken it for an orphan: once more then.
    fn make_held(&mut self, path: &Path) -> Result<Lock> {
        let mut mine = false;
        for _ in 0..1000 {
            match mkdir(path, 0o700) {
                Err(e) if e.kind() == Kind::NotFound && !mine => {
                    self.main.create(None)?;
                    mkdir(path, 0o700)?;
                }
                Err(e) if e.kind() == Kind::Exists && mine => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                other => other?,
            }
            mine = true;
            match Lock::try_existing(path) {
                Ok(Some(lock)) if lock.is_at(path) => return Ok(lock),
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
        Err(Error::new(Kind::Busy, format!("make the directory {path:?}: it is removed again and again")))
    }

    /// Remove the directories that killed runners made and did not come to write a record into, which
    /// `has_record` tells.
    pub fn sweep_containers(&self, has_record: impl Fn(&ContainerDir) -> bool) -> Result<()> {
        for dir in self.containers()? {
            if has_record(&dir) {
                continue;
            }
            match Lock::try_existing(&dir.path) {
                // Looked at once more: it may have got its record and lost its runner meanwhile.
                Ok(Some(held)) if held.is_at(&dir.path) && !has_record(&dir) => {
                    file::remove_tree(&dir.path)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The container that is meant: by name, by id, or by the unique beginning of an id.
    pub fn find_container(&self, typed: &str) -> Result<ContainerDir> {
        check_name("container", typed)?;
        let dir = |id: String| ContainerDir { path: self.main.container(&id), id };
        if let Some(id) = self.named(typed)
            && self.main.container(&id).is_dir()
        {
            return Ok(dir(id));
        }
        if self.main.container(typed).is_dir() {
            return Ok(dir(typed.to_owned()));
        }
        let mut found: Vec<ContainerDir> =
            self.containers()?.into_iter().filter(|c| c.id.starts_with(typed)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(Error::not_found(format!("find the container {typed:?}: there is none"))),
            (Some(_), false) => {
                Err(Error::usage(format!("find the container {typed:?}: more than one id begins so")))
            }
        }
    }

    /// The image that a container was made of, also where it has lost its names.
    pub fn image_of(&self, dir: &ContainerDir) -> Result<Image> {
        let none =
            || Error::not_found(format!("find the image of the container {}: it was made of none", dir.id));
        let digest = dir.image().ok_or_else(none)?;
        let blob = self.layouts().map(|l| l.blob(&digest)).find_map(|path| path.metadata().ok());
        let size = blob.map_or(0, |m| m.len());
        let entry =
            Descriptor { media_type: media_type::MANIFEST.to_owned(), digest, size, ..Descriptor::default() };
        let image = self.load(None, entry, &Platform::host());
        image.context(|| format!("read the image of the container {}", dir.id))
    }

    /// The bytes of what a container has written; of one that runs in a copy, of all it has.
    pub fn written_by(&self, dir: &ContainerDir) -> u64 {
        let root = dir.root();
        if !root.is_dir() {
            return usage::of(&dir.upper()).unwrap_or(0);
        }
        if self.driver() != Driver::Btrfs {
            return usage::of(&root).unwrap_or(0);
        }
        let below = || self.stack_paths(self.image_of(dir)?.diff_ids());
        let places: Vec<PathBuf> = self.mount_points().into_iter().collect();
        below()
            .and_then(|all| Difference::bytes(all.last().map(PathBuf::as_path), &root, &places))
            .unwrap_or(0)
    }

    /// All containers, by id.
    pub fn containers(&self) -> Result<Vec<ContainerDir>> {
        let all = list(&self.main.root().join("containers"))?;
        Ok(all.into_iter().map(|id| ContainerDir { path: self.main.container(&id), id }).collect())
    }

    /// Remove everything of a container's directory but one entry. The record goes first: it is no container then.
    pub fn empty_container(&self, id: &str, but: &str) -> Result<()> {
        check_name("container", id)?;
        let dir = self.main.container(id);
        let mut names = list(&dir)?;
        names.retain(|name| name != but && name != "container.json");
        names.insert(0, "container.json".to_owned());
        names.iter().map(|name| dir.join(name)).filter(|path| path.symlink_metadata().is_ok()).try_for_each(
            |path| match path.is_dir() && !path.is_symlink() {
                true => file::remove_tree(&path),
                false => fs::remove_file(&path).context(|| format!("unlink({path:?})")),
            },
        )
    }

    /// Remove a container's directory with everything in it. It must not run, nor be mounted.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        check_name("container", id)?;
        file::remove_tree(&self.main.container(id))
    }
}

/// Docker's rule for names, which also keeps them inside their directory.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let ok = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(());
    }
    let shown: String = name.chars().take(130).collect();
    Err(Error::usage(format!(
        "{shown:?} is no {what}: that has up to 128 letters, digits, _ . and -, the first a letter or digit"
    )))
}

pub(crate) fn mkdir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).context(|| format!("mkdir({path:?}, 0o{mode:o})"))
}

pub(crate) fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.context(|| format!("opendir({dir:?})"))? {
                let entry = entry.context(|| format!("readdir({dir:?})"))?;
                names.extend(entry.file_name().into_string());
            }
        }
    }
    coracle_sys::order::sort(&mut names);
    Ok(names)
}
