//! `rename`: another name for a container.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Kind, Result};

use super::container::ending::hold;
use super::typed::{self, Typed};
use super::{Global, container};
use crate::diary::{self, Event};
use crate::record;

/// It has no flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "rename",
    "Give a container another name.",
    typed::CONTAINER_AND_NAME,
    &[],
    &["runner rename my-container yours"],
);

/// Rename it.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let [old, new] = &typed.words[..] else {
        return Err(Error::usage("rename needs a container and its new name (see rename --help)"));
    };
    let store = container::store(global)?;
    let dir = container::find(&store, old)?;
    let new = new.strip_prefix('/').unwrap_or(new);
    let _held = hold(&dir)?;
    store.claim_name(new, &dir.id).map_err(|e| match e.kind() {
        Kind::Exists => Error::new(Kind::Exists, format!("the container name {new:?} is already in use")),
        _ => e,
    })?;
    let mut had = String::new();
    let renamed = record::change(&dir.path, &mut |record| {
        had = std::mem::replace(&mut record.name, new.to_owned());
        Ok(())
    });
    match renamed {
        Ok(record) => {
            store.release_name(&had, &dir.id)?;
            diary::tell(&dir.path, &record, &[Event { action: "rename", more: &[("oldName", &had)] }]);
        }
        Err(e) => {
            let _ = store.release_name(new, &dir.id);
            return Err(e);
        }
    }
    Ok(0)
}
