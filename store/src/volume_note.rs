//! What is known of a volume beside its files: labels, options, when it was made, and whether it was ever used.
//! All of that lies in `volume-notes/`, so that a volume holds what its containers wrote and nothing else.
//!
//! ```text
//! volume-notes/NAME.json      a volume that `volume create` made; it is there from the moment that this is
//! volume-notes/NAME.unused    no container has had it yet: its directory is empty, and filled at its first use
//! volume-notes/lock           held by who makes or removes one by its name, shared by who has filled one and names it
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_sys::{Context, Kind, Result, file, json, read_json, time};

use crate::container::{check_name, list, mkdir};
use crate::lock::Lock;
use crate::read::Store;

/// The words of `volume create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// When, in seconds since 1970.
    pub created: u64,
    /// Notes of the user's.
    pub labels: BTreeMap<String, String>,
    /// What is mounted in its place: `type`, `device` and `o`, as mount(8) has them.
    pub options: BTreeMap<String, String>,
}

read_json!(Note { created: must "created", labels: may "labels", options: may "options" });

impl Store {
    /// Make a volume that no container uses yet. Whether it was made: one that is there stays as it is.
    pub fn create_volume(&mut self, name: &str, note: &Note) -> Result<bool> {
        let path = self.volume_path(name)?;
        self.main.create(None)?;
        self.make_volume_notes()?;
        let _alone = Lock::exclusive(&self.volume_lock())?;
        if self.has_volume(name) {
            return Ok(false);
        }
        let text = serde_json::json!({
            "created": note.created, "labels": note.labels, "options": note.options
        });
        file::write_atomic(&self.note_path(name), text.to_string().as_bytes(), 0o600)?;
        let unused = self.unused_path(name);
        let made = fs::write(&unused, "").context(|| format!("write({unused:?})"));
        // One that was used meanwhile, and not made here, is as it is.
        match made.and_then(|()| mkdir(&path, 0o755)) {
            Err(e) if e.kind() == Kind::Exists => {
                self.forget_volume(name)?;
                Ok(false)
            }
            Err(e) => {
                let _ = self.forget_volume(name);
                Err(e)
            }
            Ok(()) => Ok(true),
        }
    }

    /// Is there a volume of this name?
    pub fn has_volume(&self, name: &str) -> bool {
        check_name("volume", name).is_ok()
            && (self.volume_dir(name).symlink_metadata().is_ok() || self.note_path(name).exists())
    }

    /// What is known of a volume that is there.
    pub fn volume_note(&self, name: &str) -> Result<Note> {
        check_name("volume", name)?;
        match file::read(&self.note_path(name)) {
            Err(e) if e.kind() == Kind::NotFound => {}
            text => {
                return text
                    .and_then(|text| json::from_slice(&text))
                    .context(|| format!("read the note on the volume {name}"));
            }
        }
        // Of one that a container made by naming it, its directory tells the time.
        let created = self.volume_dir(name).symlink_metadata().map_or(0, |m| m.ctime());
        Ok(Note { created: u64::try_from(created).unwrap_or(0), ..Note::default() })
    }

    /// The options of a volume, empty where it has none or is not there.
    pub fn volume_options(&self, name: &str) -> Result<BTreeMap<String, String>> {
        match self.note_path(name).exists() {
            true => Ok(self.volume_note(name)?.options),
            false => Ok(BTreeMap::new()),
        }
    }

    /// The names of the volumes that have notes.
    pub(crate) fn noted_volumes(&self) -> Result<Vec<String>> {
        let names = list(&self.volume_notes())?;
        Ok(names.iter().filter_map(|n| n.strip_suffix(".json")).map(str::to_owned).collect())
    }

    /// Nothing is known of it any more.
    pub(crate) fn forget_volume(&self, name: &str) -> Result<()> {
        for path in [self.unused_path(name), self.note_path(name)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).context(|| format!("unlink({path:?})"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn make_volume_notes(&self) -> Result<()> {
        match mkdir(&self.volume_notes(), 0o700) {
            Err(e) if e.kind() != Kind::Exists => Err(e),
            _ => Ok(()),
        }
    }

    /// Held alone by who makes or removes a volume by its name, and shared by who fills one.
    pub(crate) fn volume_lock(&self) -> PathBuf {
        self.volume_notes().join("lock")
    }

    /// The file that says that no container has had the volume yet.
    pub(crate) fn unused_path(&self, name: &str) -> PathBuf {
        self.volume_notes().join(format!("{name}.unused"))
    }

    fn note_path(&self, name: &str) -> PathBuf {
        self.volume_notes().join(format!("{name}.json"))
    }

    fn volume_notes(&self) -> PathBuf {
        self.main.root().join("volume-notes")
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.main.root().join("volumes").join(name)
    }
}

/// When a note is made now.
pub fn now() -> u64 {
    u64::try_from(time::now()).unwrap_or(0)
}

/// Bytes of all files below a directory, as far as they can be seen.
pub fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(m) if m.is_dir() => bytes_below(&entry.path()),
        Ok(m) if m.is_file() => m.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}
