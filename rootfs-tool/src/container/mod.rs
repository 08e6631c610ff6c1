//! Containers as far as their files go: the image below, what was written on top, and both as one. Whether one runs is
//! the runner's to know: it says so, and hands over what is needed.

pub(crate) mod changes;
pub(crate) mod child;
pub(crate) mod config;
pub(crate) mod confined;
pub(crate) mod host;
pub(crate) mod inside;
mod member;
mod nameless;
pub(crate) mod paths;
pub(crate) mod read;
pub(crate) mod root;
pub(crate) mod write;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_store::driver::Driver;
use coracle_store::image::{Descriptor, Platform, media_type};
use coracle_store::layer::differ::Difference;
use coracle_store::layer::pack::{Archive, Content, FromDir};
use coracle_store::layer::{Marks, Owners, key};
use coracle_store::{ContainerDir, Image, Store};
use coracle_sys::{Context, Error, Kind, Result, file};
use serde_json::Value;

/// A container that was found.
pub(crate) struct Container {
    /// Its directory.
    pub(crate) dir: ContainerDir,
    /// Its record: what it was made from.
    pub(crate) record: Value,
}

/// Everything as it is.
const AS_IT_IS: FromDir = FromDir { owner: None, latest: None, xattrs: true };

impl Container {
    /// By its name, its id, or the beginning of that.
    pub(crate) fn find(store: &Store, typed: &str) -> Result<Self> {
        let dir = store.find_container(typed).map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("No such container: {typed}")),
            _ => e,
        })?;
        let path = dir.path.join("container.json");
        let text = file::read(&path).map_err(|e| match e.kind() {
            Kind::NotFound => Error::new(Kind::Busy, format!("container {typed} is just starting")),
            _ => e,
        })?;
        let record =
            serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("read {path:?}: {e}")))?;
        Ok(Self { dir, record })
    }

    /// The image below.
    pub(crate) fn image(&self, store: &Store) -> Result<Image> {
        let Some(digest) = self.dir.image() else {
            return Err(Error::unsupported(format!(
                "container {} has no image: it runs in the folder {} itself",
                self.dir.id,
                self.record["image"].as_str().unwrap_or_default()
            )));
        };
        let entry = match store.find(&digest.to_string()) {
            Ok((_, entry)) => entry,
            // Its last name is gone. It stays, since the container has it.
            Err(_) => {
                let pin = self.dir.path.join("image");
                let size = std::fs::metadata(&pin).context(|| format!("stat({pin:?})"))?.len();
                Descriptor::new(media_type::MANIFEST, digest, size)
            }
        };
        store.load(None, entry, &Platform::host()).context(|| "read the container's image")
    }

    /// What lies below the container's own files.
    pub(crate) fn below(&self, store: &Store) -> Result<Archive> {
        let layers = store.stack_paths(self.image(store)?.diff_ids())?;
        let trees: Vec<PathBuf> = store.mount_points().into_iter().chain(layers).collect();
        Archive::of_stack(&trees, Marks::of_this_process(), AS_IT_IS)
    }

    /// Mode and owner that the root has below.
    pub(crate) fn root_below(&self, store: &Store) -> Result<(u32, u32, u32)> {
        let trees = store.stack_paths(self.image(store)?.diff_ids())?;
        let Some(tree) = trees.iter().rev().find(|tree| key::has_root(tree)) else {
            return Ok((0o755, 0, 0));
        };
        let m = std::fs::metadata(tree).context(|| format!("stat({tree:?})"))?;
        let (uid, gid) = if Owners::of_this_process() == Owners::Disk { (m.uid(), m.gid()) } else { (0, 0) };
        Ok((m.mode() & 0o7777, uid, gid))
    }

    /// What the container sees, `below` being what lies below, mounts left out: those are not its own. `pid` is that
    /// of one that runs.
    pub(crate) fn above(&self, below: &Archive, pid: Option<i32>) -> Result<Archive> {
        let mut all = below.clone();
        match self.copied() {
            Some(root) => {
                all = Archive::new();
                all.put_dir(&root, "", AS_IT_IS)?;
            }
            None => all.stack(self.upper(pid)?)?,
        }
        without_places(&mut all, below)?;
        Ok(all)
    }

    /// The files of one that runs in a snapshot of its image, or in a copy, where the kernel gave no overlay.
    pub(crate) fn copied(&self) -> Option<PathBuf> {
        let root = self.dir.root();
        root.is_dir().then_some(root)
    }

    /// What it has written, as a layer.
    pub(crate) fn written(&self, store: &Store, pid: Option<i32>) -> Result<Archive> {
        if let Some(root) = self.copied() {
            if store.driver() == Driver::Btrfs {
                let layers = store.stack_paths(self.image(store)?.diff_ids())?;
                let places: Vec<PathBuf> = store.mount_points().into_iter().collect();
                let below = layers.last().map(PathBuf::as_path);
                return Difference::between(below, &root, &places)?.archive(&root, AS_IT_IS);
            }
            let before = self.below(store)?;
            let after = self.above(&before, pid)?;
            return changes::layer(&before, &after, Owners::of_this_process() == Owners::Disk);
        }
        let mut upper = self.upper(pid)?;
        if PLACES.iter().any(|place| is_empty(&upper, place)) {
            without_places(&mut upper, &self.below(store)?)?;
        }
        Ok(upper)
    }

    fn upper(&self, pid: Option<i32>) -> Result<Archive> {
        if let Some(pid) = pid {
            self.is_on_disk(pid)?;
        }
        let mut upper = Archive::new();
        upper.put_upper(&self.dir.upper(), self.dir.marks(), AS_IT_IS)?;
        Ok(upper)
    }

    /// Refuse one whose files are in memory, where nobody else comes: its upper stays empty.
    fn is_on_disk(&self, pid: i32) -> Result<()> {
        let path = format!("/proc/{pid}/mountinfo");
        // One that has ended meanwhile has lost what it had in memory.
        let Ok(table) = file::read(Path::new(&path)) else { return Ok(()) };
        match in_memory(&String::from_utf8_lossy(&table), &self.dir.id) {
            false => Ok(()),
            true => Err(Error::unsupported(format!(
                "container {} keeps what it writes in memory, to be read by itself alone (`runner exec` a tar there)",
                self.dir.id
            ))),
        }
    }
}

/// What the runner mounts on, where the image lacks it and the store's driver has no layer for such places.
const PLACES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Leave out places that were made to be mounted on: they are none of the container's.
fn without_places(all: &mut Archive, below: &Archive) -> Result<()> {
    let ours = |place: &&str| is_empty(all, place) && below.get(place).is_none();
    let ours: Vec<&str> = PLACES.into_iter().filter(ours).collect();
    ours.into_iter().try_for_each(|place| all.remove(place))
}

fn is_empty(archive: &Archive, path: &str) -> bool {
    archive.get(path).is_some_and(|(_, content)| matches!(content, Content::File { size: 0, .. }))
}

/// Is the root an overlay whose upper is not in the container's directory, or a tmpfs?
fn in_memory(mountinfo: &str, id: &str) -> bool {
    let root = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"));
    if root.is_some_and(|line| line.contains(" - tmpfs ")) {
        return true;
    }
    let upper = root.and_then(|line| line.split("upperdir=").nth(1)).and_then(|rest| rest.split(',').next());
    // Older kernels are told a descriptor's number, which says nothing.
    upper.is_some_and(|upper| upper.contains('/') && !upper.contains(id))
}

#[cfg(test)]
mod tests {
    use super::in_memory;

    #[test]
    fn an_upper_elsewhere_is_in_memory() {
        let root = "70 43 0:41 / / rw - overlay none rw,lowerdir+=/s/l/fs,upperdir=";
        assert!(!in_memory(&format!("{root}/s/containers/abc/upper,workdir=/w\n"), "abc"));
        assert!(!in_memory(&format!("{root}12,workdir=13\n"), "abc"));
        assert!(in_memory(
            &format!("{root}/upper,workdir=/work\n71 70 0:43 / /proc rw - proc proc rw\n"),
            "abc"
        ));
        assert!(in_memory("70 43 0:50 / / rw - tmpfs none rw\n", "abc"));
        assert!(!in_memory("70 43 8:1 /s/root / rw - ext4 /dev/vda rw\n", "abc"));
    }
}
