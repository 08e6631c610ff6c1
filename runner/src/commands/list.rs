//! `list`: the containers of OCI clients, as runc prints them.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::{Error, Kind, Result, table};
use serde_json::Value;

use super::Global;
use super::oci::{self, Container};
use super::typed::{self, Typed};
use crate::state::{Face, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "list",
    "List the containers of OCI clients.",
    typed::NONE,
    &[
        typed::switch("--quiet", Some('q'), "ids only"),
        typed::option("--format", Some('f'), "form", "table or json"),
    ],
    &["runner list", "runner list -f json"],
);

/// Print them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let format = typed.get("--format").unwrap_or("table");
    if !matches!(format, "table" | "json") {
        return Err(Error::usage(format!("--format {format:?}: it is table or json")));
    }
    let states = States::of(Face::Oci, global.root.as_deref())?;
    if global.root.is_some() {
        states.make_parents()?;
    }
    let mut all: Vec<Value> = Vec::new();
    for id in states.ids()? {
        match Container::find(global, &id) {
            Ok(container) => all.push(container.document(container.status()?)),
            // One that is about to be made, has gone meanwhile, or never came to be.
            Err(e) if e.kind() == Kind::NotFound => states.forget_unmade(&id)?,
            // Who deletes it by force is rid of it.
            Err(e) => coracle_sys::warn!("runner: {e}"),
        }
    }
    let text = |v: &Value, key: &str| v[key].as_str().map_or_else(|| v[key].to_string(), str::to_owned);
    if typed.get("--quiet").is_some() {
        all.iter().for_each(|c| coracle_sys::say!("{}", text(c, "id")));
    } else if format == "json" {
        let all: Vec<String> = all.iter().map(|c| oci::text(c, false)).collect();
        coracle_sys::print::json_text(format!("[{}]", all.join(",")));
    } else {
        let keys = ["id", "pid", "status", "bundle", "created", "owner"];
        let mut rows = vec![keys.map(str::to_ascii_uppercase).to_vec()];
        rows.extend(all.iter().map(|c| keys.map(|key| text(c, key)).to_vec()));
        table::print(&rows, false);
    }
    Ok(0)
}
