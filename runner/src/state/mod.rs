//! Running containers, on disk for as long as they live: one file each, ID.json, which is empty until the
//! container has a process and then holds its whole state. What survives a reboot is the record's business,
//! not this file's.

mod identity;
mod oci;
mod place;

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_store::lock::Lock;
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Kind, Result, file, json};
use serde::Serialize;

use crate::cgroups::{self, Cgroup};
use crate::namespaces::Kind as Ns;

pub use identity::Identity;
pub use oci::Oci;

/// The format written by this version. A newer one is refused.
pub const VERSION: u32 = 1;

/// A file of this many bytes, some fifty states, begins anew with its next one. Only that moment loses the state of a
/// container whose runner is killed in it.
const LONG: u64 = 1 << 18;
/// How often an id is taken once more, a millisecond after the other.
const TRIES: u32 = 1000;

/// One running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The format.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// Its first process.
    pub init: Identity,
    /// Who cleans up after it; once both are gone, the next sweep does.
    pub runner: Option<Identity>,
    /// Where its config.json was, or its directory in the store.
    pub bundle: PathBuf,
    /// The namespaces that are not the host's.
    pub namespaces: Vec<Ns>,
    /// Its cgroups.
    pub cgroups: cgroups::Plan,
    /// What an OCI client is told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<Oci>,
}

read_json!(State {
    version: must "version",
    id: must "id",
    init: must "init",
    runner: may "runner",
    bundle: must "bundle",
    namespaces: must "namespaces",
    cgroups: may "cgroups",
    oci: may "oci",
});

/// Who made a container, and with it which directory it is in. They do not see each other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `runner run IMAGE`.
    Image,
    /// An OCI client: podman, containerd, `run --bundle`.
    Oci,
}

/// A directory of states.
#[derive(Clone, Debug)]
pub struct States {
    dir: PathBuf,
}

/// Whether a state that cannot be read tells nothing to anybody: one of a newer version does.
fn useless(e: &Error) -> bool {
    matches!(e.kind(), Kind::NotFound | Kind::Invalid)
}

/// Whether a newer program than this one wrote this JSON, by its member `version`.
pub(crate) fn is_newer(text: &[u8], known: u32) -> bool {
    let value: Result<json::Value> = json::from_slice(text);
    value.is_ok_and(|v| v["version"].as_u64().is_some_and(|v| v > known.into()))
}

/// An id is a file name and part of a cgroup's: letters, digits, `_`, `.`, `-`, `+`, as runc has it. That takes up to
/// 1024 of them, and then finds that no file can be called so; here that is told at once.
pub fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    if id.chars().all(fine) && (1..=200).contains(&id.len()) && id != "." && id != ".." {
        return Ok(());
    }
    Err(Error::usage(match id {
        "" => "the id is empty".to_owned(),
        "." | ".." => format!("the id {id:?} is the name of a folder in every folder"),
        _ => format!("the id {id:?} is not of letters, digits and _.-+, 1 to 200 of them"),
    }))
}

/// Write a state behind what is in its file. A process that is killed ends a write at any page, so that nothing is
/// written over: of what is cut off there the line before counts.
fn append(mut file: &File, state: &State, path: &Path) -> Result<()> {
    let mut text = vec![b'\n'];
    serde_json::to_writer(&mut text, state).map_err(|e| Error::invalid(e.to_string()))?;
    file.write_all(&text).context(|| format!("write({path:?})"))
}

/// The name of a gate, by the file of its container's state.
fn gate_of(state: &Path) -> Option<String> {
    Some(format!("{:x}.gate", state.symlink_metadata().ok()?.ino()))
}

/// An id that is taken, and has no state yet. It is this process' as long as this is held.
#[derive(Debug)]
pub struct Reserved {
    file: File,
    path: PathBuf,
    held: RefCell<Option<Lock>>,
}

impl Reserved {
    /// Say which groups are about to be made: who finds that this process was killed takes them away.
    pub fn begin(&self, groups: &cgroups::Plan) -> Result<()> {
        let text = serde_json::to_vec(groups).map_err(|e| Error::invalid(e.to_string()))?;
        (&self.file).write_all(&text).context(|| format!("write({:?})", self.path))
    }

    /// Make what the container waits behind, beside its state. An address has no room for an id, so it is called by the
    /// number of the state's file, and [`States::remove`] knows it too.
    pub fn make_gate<T>(&self, make: impl FnOnce(&Path, String) -> Result<T>) -> Result<T> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        make(dir, gate_of(&self.path).unwrap_or_default())
    }

    /// Let others change the container, whose state is written.
    pub fn release(&self) {
        drop(self.held.take());
    }

    /// Write the state of the container that has come about.
    pub fn write(&self, state: &State) -> Result<()> {
        append(&self.file, state, &self.path)
    }
}

impl States {
    /// Those of one face: under `root` where an OCI client gives one, else under /run, or under
    /// XDG_RUNTIME_DIR for an ordinary user.
    pub fn of(face: Face, root: Option<&Path>) -> Result<Self> {
        if let Some(root) = root {
            return Ok(Self { dir: root.to_path_buf() });
        }
        let base = place::base()?;
        let name = match face {
            Face::Image => "image",
            Face::Oci => "oci",
        };
        Ok(Self { dir: base.join(name) })
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hold a container against others who would change it: two starts, a start and a delete.
    pub fn hold(&self, id: &str) -> Result<Option<Lock>> {
        check_id(id)?;
        Lock::try_existing(&self.path(id))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Take an id: a second taker gets an error.
    pub fn reserve(&self, id: &str) -> Result<Reserved> {
        check_id(id)?;
        let path = self.path(id);
        let make = || File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut tries = 0;
        loop {
            let made = match make() {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    self.make_parents()?;
                    make()
                }
                other => other,
            };
            let file = match made {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    // A container that ran in front of a runner, both of which are gone.
                    let over = |state: Result<State>| match state {
                        Ok(s) => s.runner.is_some_and(|r| !r.is_alive()) && !s.init.is_alive(),
                        Err(e) => useless(&e),
                    };
                    if self.forget_if(id, over)? {
                        continue;
                    }
                    // Somebody is about to forget it, or to write down what it is.
                    if tries < TRIES && over(self.read(id)) {
                        tries += 1;
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    return Err(Error::new(
                        Kind::Exists,
                        format!("container with given ID already exists: {id:?}"),
                    ));
                }
                other => other.context(|| format!("open({path:?}, O_CREAT|O_EXCL)"))?,
            };
            // Before it was locked, a sweep may have taken it for what a killed runner left.
            match Lock::try_existing(&path) {
                Ok(Some(held)) if held.is_at(&path) => {
                    return Ok(Reserved { file, path, held: RefCell::new(Some(held)) });
                }
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
    }

    /// Make the directory.
    pub(crate) fn make_parents(&self) -> Result<()> {
        let dir = &self.dir;
        let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
        made.context(|| format!("mkdir({dir:?}, 0700)"))
    }

    /// Read one by its whole id.
    pub fn read(&self, id: &str) -> Result<State> {
        check_id(id)?;
        let path = self.path(id);
        let none = || Error::not_found(format!("the container {id:?} does not exist"));
        let text = match file::read(&path) {
            Err(e) if e.kind() == Kind::NotFound => return Err(none()),
            Ok(text) if text.is_empty() => return Err(none()),
            other => other?,
        };
        let wrong = |e: String| Error::invalid(e).wrap(format!("read {}", path.display()));
        let mut lines = text.rsplit(|b| *b == b'\n').peekable();
        let state: State = loop {
            let Some(line) = lines.next() else { return Err(none()) };
            if is_newer(line, VERSION) {
                return Err(Error::unsupported(format!("read {}: a newer version wrote it", path.display())));
            }
            match (json::from_slice(line), lines.peek()) {
                (Ok(state), _) => break state,
                // Only what is said before it is made.
                (Err(_), None) if json::from_slice::<cgroups::Plan>(line).is_ok() => {}
                (Err(e), None) => return Err(wrong(e.to_string())),
                // Who wrote it was killed.
                (Err(_), Some(_)) => {}
            }
        };
        match state.id == id {
            true => Ok(state),
            false => Err(wrong(format!("it is that of {:?}", state.id))),
        }
    }

    /// Replace the state of a container that the caller holds. Readers see the old one or the new one, whole.
    pub fn rewrite(&self, state: &State) -> Result<()> {
        let path = self.path(&state.id);
        // The file itself is what is held: a new one in its place would be nobody's.
        let file = File::options().append(true).open(&path).context(|| format!("open({path:?})"))?;
        if file.metadata().is_ok_and(|m| m.len() > LONG) {
            file.set_len(0).context(|| format!("ftruncate({path:?})"))?;
        }
        append(&file, state, &path)
    }

    /// Whether an id is taken.
    pub fn is_taken(&self, id: &str) -> bool {
        self.path(id).symlink_metadata().is_ok()
    }

    /// All ids that are taken, sorted; some of them may be about to start or to go.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("open({:?}, O_DIRECTORY)", self.dir))?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .filter(|id| check_id(id).is_ok())
            .collect();
        coracle_sys::order::sort(&mut ids);
        Ok(ids)
    }

    /// Forget a container. It need not be there.
    pub fn remove(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let path = self.path(id);
        // The gate first: without the state nobody knows it.
        if let Some(gate) = gate_of(&path) {
            let _ = fs::remove_file(self.dir.join(gate));
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.context(|| format!("unlink({path:?})")),
        }
    }

    /// Forget an id that nobody holds, when what there is of its state shows that it is `over`. Whether it was.
    fn forget_if(&self, id: &str, over: impl FnOnce(Result<State>) -> bool) -> Result<bool> {
        let path = self.path(id);
        match Lock::try_existing(&path) {
            // Read under the lock: it may have got its state, and lost its runner, a moment ago.
            Ok(Some(held)) if held.is_at(&path) && over(self.read(id)) => {
                // A group that is not empty, or cannot be removed, may have been there before.
                let said = file::read(&path).unwrap_or_default();
                let groups = said.split(|b| *b == b'\n').next().unwrap_or_default();
                if let Ok(groups) = json::from_slice(groups) {
                    let _ = Cgroup::open(groups).and_then(|groups| groups.remove());
                }
                self.remove(id).map(|()| true)
            }
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            _ => Ok(false),
        }
    }

    /// Forget an id that was taken by a runner who was killed before there was a container.
    pub fn forget_unmade(&self, id: &str) -> Result<()> {
        self.forget_if(id, |state| state.is_err_and(|e| useless(&e))).map(drop)
    }

    /// Forget containers whose runner is gone, each after `clean` has killed and removed
    /// what else they left and said yes. Those without a runner are an OCI client's, and stay until it deletes them.
    pub fn sweep(&self, mut clean: impl FnMut(&State) -> Result<bool>) -> Result<Vec<String>> {
        let mut swept = Vec::new();
        for id in self.ids()? {
            let state = match self.read(&id) {
                Ok(state) => state,
                Err(e) if useless(&e) => {
                    self.forget_unmade(&id)?;
                    continue;
                }
                Err(_) => continue,
            };
            // The lock tells more than a pid does, which means nothing in another pid namespace.
            let Ok(Some(_held)) = Lock::try_existing(&self.path(&id)) else { continue };
            if state.runner.is_none_or(|r| r.is_alive()) {
                continue;
            }
            match clean(&state) {
                Ok(true) => {
                    self.remove(&state.id)?;
                    swept.push(state.id);
                }
                Ok(false) => {}
                // The others are not to wait for this one.
                Err(e) => coracle_sys::warn!("runner: {}", e.wrap(format!("sweep up after {id}"))),
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests;
