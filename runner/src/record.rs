//! A container's record, `containers/<id>/container.json`: what it is and how it ended. It survives a
//! reboot; what runs right now is [`crate::state`]'s to tell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_store::image::Healthcheck;
use coracle_store::lock::Lock;
use coracle_sys::read_json;
use coracle_sys::{Context, Error, Result, file, json, time};
use serde::Serialize;

use crate::seccomp::Choice;
use crate::spec::Spec;
use crate::state::{self, Identity};

/// Its name in the container's directory.
pub(crate) const FILE: &str = "container.json";

/// The format written by this version. A newer one is refused.
const VERSION: u32 = 1;

/// A container, as long as it exists.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The format.
    pub(crate) version: u32,
    /// 64 hex digits.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// The image as it was typed, or the folder.
    pub(crate) image: String,
    /// The digest of the image's config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<String>,
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
    /// When its command was last begun, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<u64>,
    /// Who runs it in the foreground. With that one gone and no state there, nobody cleans up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runner: Option<Identity>,
    /// It goes when it has ended.
    pub(crate) rm: bool,
    /// The signal that asks it to stop.
    pub(crate) stop_signal: i32,
    /// For how many seconds it is asked, -1 for ever; ten where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_timeout: Option<i64>,
    /// `--restart`.
    pub(crate) restart: String,
    /// How often it has begun again by itself.
    pub(crate) restarts: u64,
    /// It waits to begin again.
    pub(crate) restarting: bool,
    /// The boot in which it waits: in the next one its monitor's pid may be anybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
    /// It was stopped by its user when it ended last.
    pub(crate) stopped: bool,
    /// It has a monitor, and with that a log.
    pub(crate) monitored: bool,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<Healthcheck>,
    /// The flags of `run`, word by word, and where they were typed.
    pub(crate) flags: Vec<String>,
    /// The folder.
    pub(crate) directory: PathBuf,
    /// Notes of the user's.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its filter of system calls, which is not in the spec: the default profile is long.
    pub(crate) seccomp: Choice,
    /// What it was made from.
    pub(crate) spec: Spec,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<Exit>,
}

read_json!(Record {
    version: must "version",
    id: must "id",
    name: must "name",
    image: must "image",
    image_id: may "imageId",
    created: must "created",
    started: may "started",
    runner: may "runner",
    rm: may "rm",
    stop_signal: must "stopSignal",
    stop_timeout: may "stopTimeout",
    restart: may "restart",
    restarts: may "restarts",
    restarting: may "restarting",
    boot: may "boot",
    stopped: may "stopped",
    monitored: may "monitored",
    healthcheck: may "healthcheck",
    flags: may "flags",
    directory: may "directory",
    labels: may "labels",
    seccomp: may "seccomp",
    spec: must "spec",
    exit: may "exit",
});

/// How a container ended.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    /// The exit code as the caller saw it.
    pub(crate) code: i32,
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    /// It was killed since it needed more than its memory limit.
    pub(crate) oom: bool,
    /// Why it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

read_json!(Exit {
    code: must "code",
    at: must "at",
    oom: may "oom",
    error: may "error",
});

/// The file that says that a container ends because its user has it stopped.
const MARK: &str = "stopped";

/// From now on its end is its user's wish: it does not begin again.
pub(crate) fn mark(dir: &Path) -> Result<()> {
    let path = dir.join(MARK);
    std::fs::write(&path, "").context(|| format!("write({path:?})"))
}

/// Is its end its user's wish?
pub(crate) fn is_marked(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Its user wants it to run.
pub(crate) fn unmark(dir: &Path) -> Result<()> {
    let path = dir.join(MARK);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context(|| format!("unlink({path:?})")),
        _ => Ok(()),
    }
}

/// The file that is held by who changes a record. Where it is not, nobody has ever changed the container.
const CHANGE: &str = "change";

/// Change the record of a container, whoever else does so at this moment.
pub(crate) fn change(dir: &Path, how: &mut dyn FnMut(&mut Record) -> Result<()>) -> Result<Record> {
    let _alone = Lock::exclusive(&dir.join(CHANGE))?;
    let mut record = Record::read(dir)?;
    how(&mut record)?;
    record.write(dir).map(|()| record)
}

impl Record {
    /// Take over what others have changed since this process has read it: name, limits, policy.
    pub(crate) fn take_changes(&mut self, dir: &Path) {
        if !dir.join(CHANGE).exists() {
            return;
        }
        if let Ok(now) = Self::read(dir) {
            (self.name, self.restart) = (now.name, now.restart);
            (self.flags, self.spec) = (now.flags, now.spec);
        }
    }

    /// Write how it ended, over whatever others have changed meanwhile.
    pub(crate) fn write_end(&mut self, dir: &Path) -> Result<()> {
        let _alone = Lock::exclusive(&dir.join(CHANGE))?;
        self.take_changes(dir);
        self.write(dir)
    }

    /// Of this format, from now on.
    pub(crate) fn new(id: String, name: String) -> Self {
        Self { version: VERSION, id, name, created: now(), ..Self::default() }
    }

    /// It runs from now on, with this process in front of it or as its monitor.
    pub(crate) fn begins(&mut self, runner: Identity, monitored: bool) {
        self.runner = Some(runner);
        self.started = Some(now());
        self.exit = None;
        (self.restarting, self.boot) = (false, None);
        (self.stopped, self.monitored) = (false, monitored);
    }

    /// It has ended, and its monitor waits to begin it again.
    pub(crate) fn waits(&mut self) {
        (self.restarting, self.boot) = (true, boot());
    }

    /// The monitor that waits to begin it again.
    pub(crate) fn waiting(&self) -> Option<Identity> {
        self.runner.filter(|r| self.restarting && r.is_alive() && self.boot == boot())
    }

    /// Whether it has begun, and nobody has written down how it ended.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.exit.is_none() && self.runner.is_some()
    }

    /// Write it into the container's directory. Readers see the old one or the new one, whole.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::invalid(e.to_string()))?;
        let (new, path) = (dir.join("container.json.new"), dir.join(FILE));
        match std::fs::write(&new, &text) {
            // On a full disk the blocks of the old one are what there is.
            Err(e) if e.kind() == ErrorKind::StorageFull && path.exists() => {
                let _ = std::fs::remove_file(&new);
                let file = File::options().write(true).open(&path);
                let written =
                    file.and_then(|mut f| f.write_all(&text).and_then(|()| f.set_len(text.len() as u64)));
                return written.context(|| format!("write({path:?})"));
            }
            written => written.context(|| format!("write({new:?})"))?,
        }
        std::fs::rename(&new, &path).context(|| format!("rename({new:?}, {path:?})"))
    }

    /// Have what was written there outlive a power cut.
    pub(crate) fn keep(dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let synced = File::open(&path).and_then(|record| record.sync_all());
        synced.context(|| format!("fsync({path:?})"))?;
        file::sync_dir(dir)
    }

    /// Whether the container whose directory this is has one. An empty one was cut off with the power.
    pub(crate) fn exists(dir: &Path) -> bool {
        dir.join(FILE).metadata().is_ok_and(|m| m.len() > 0)
    }

    /// Read that of the container whose directory this is.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = file::read(&path)?;
        let wrong = |e: Error| e.wrap(format!("read {}", path.display()));
        if state::is_newer(&text, VERSION) {
            return Err(Error::unsupported(format!("read {}: a newer version wrote it", path.display())));
        }
        let record: Self = json::from_slice(&text).map_err(wrong)?;
        match dir.file_name().is_some_and(|name| name == record.id.as_str()) {
            true => Ok(record),
            false => Err(Error::invalid(format!("read {}: it is that of {:?}", path.display(), record.id))),
        }
    }
}

/// What tells this boot from all others.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// The seconds of such a time.
pub(crate) fn seconds(nanos: u64) -> u64 {
    nanos / 1_000_000_000
}

/// Such a time as RFC 3339, with its nanoseconds.
pub(crate) fn moment(nanos: u64) -> String {
    let text = time::rfc3339(seconds(nanos).cast_signed());
    format!("{}.{:09}Z", text.trim_end_matches('Z'), nanos % 1_000_000_000)
}

/// A new id: 64 hex digits.
pub(crate) fn new_id() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 32];
    let path = "/dev/urandom";
    std::fs::File::open(path)
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context(|| format!("read({path:?})"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
