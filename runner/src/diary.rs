//! What happens to containers of images, as docker's `events` tells it: a file of JSON lines beside the states, which everyone
//! who causes something appends to and [`crate::commands`]' `events` follows. It is cut off when it has grown long. That a
//! line cannot be written keeps nobody from anything.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coracle_store::lock::Lock;
use coracle_sys::Result;
use serde_json::{Map, Value};

use crate::json::set_all;
use crate::record::{self, Record};
use crate::state::{Face, States};

/// Where it begins anew. What was there before is kept once.
const LONG: u64 = 1 << 20;

/// Something that has happened.
pub(crate) struct Event<'a> {
    /// Docker's word.
    pub(crate) action: &'a str,
    /// What there is to say of it beside the container.
    pub(crate) more: &'a [(&'a str, &'a str)],
}

impl<'a> Event<'a> {
    /// Of which there is nothing more to say.
    pub(crate) fn plain(action: &'a str) -> Self {
        Self { action, more: &[] }
    }
}

/// The file.
pub(crate) fn path() -> Result<PathBuf> {
    Ok(States::of(Face::Image, None)?.dir().join("events"))
}

/// The store of a container, by its directory.
pub(crate) fn store_of(dir: &Path) -> &Path {
    dir.ancestors().nth(2).unwrap_or(dir)
}

/// It has happened to the container whose directory and record these are, one after the other.
pub(crate) fn tell(dir: &Path, record: &Record, events: &[Event<'_>]) {
    let mut text = Vec::new();
    for event in events {
        let line = line(dir, record, event);
        let _ = writeln!(text, "{line}");
    }
    let _ = append(&text);
}

/// [`tell`], of one of which only the directory is known.
pub(crate) fn tell_of(dir: &Path, event: &Event<'_>) {
    if let Ok(record) = Record::read(dir) {
        tell(dir, &record, std::slice::from_ref(event));
    }
}

fn line(dir: &Path, record: &Record, event: &Event<'_>) -> Value {
    let mut attributes = Map::new();
    for (name, label) in &record.labels {
        attributes.insert(name.clone(), label.as_str().into());
    }
    for (name, text) in [("image", record.image.as_str()), ("name", &record.name)].iter().chain(event.more) {
        attributes.insert((*name).to_owned(), (*text).into());
    }
    let nanos = record::now();
    let mut line = Value::Null;
    set_all(
        &mut line,
        vec![
            ("/status", event.action.into()),
            ("/id", record.id.as_str().into()),
            ("/from", record.image.as_str().into()),
            ("/Type", "container".into()),
            ("/Action", event.action.into()),
            ("/Actor/ID", record.id.as_str().into()),
            ("/Actor/Attributes", attributes.into()),
            ("/scope", "local".into()),
            ("/time", record::seconds(nanos).into()),
            ("/timeNano", nanos.into()),
            ("/store", store_of(dir).to_string_lossy().into()),
        ],
    );
    line
}

/// One write, so that lines of several do not mix.
fn append(text: &[u8]) -> std::io::Result<()> {
    let Ok(path) = path() else { return Ok(()) };
    let open = || File::options().append(true).create(true).mode(0o600).open(&path);
    let mut file = match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let _ = States::of(Face::Image, None).and_then(|states| states.make_parents());
            open()?
        }
        other => other?,
    };
    file.write_all(text)?;
    if file.metadata()?.len() > LONG
        && let Ok(Some(held)) = Lock::try_existing(&path)
        && held.is_at(&path)
    {
        std::fs::rename(&path, path.with_extension("1"))?;
    }
    Ok(())
}
