//! `list`: the containers of OCI clients, as runc prints them.

use argh::{ArgsInfo, FromArgs};
use coracle_sys::{Error, Result, table};
use serde_json::Value;

use super::Global;
use super::oci::Container;
use crate::state::{Face, States};

/// List the containers of OCI clients.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "runner list\nrunner list -f json")]
pub(crate) struct Flags {
    /// ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// table or json
    #[argh(option, short = 'f', default = "String::from(\"table\")")]
    format: String,
}

/// Print them.
pub(crate) fn run(global: &Global, flags: &Flags) -> Result<u8> {
    if !matches!(flags.format.as_str(), "table" | "json") {
        return Err(Error::usage(format!("--format {:?}: it is table or json", flags.format)));
    }
    let states = States::of(Face::Oci, global.root.as_deref())?;
    let mut all: Vec<Value> = Vec::new();
    for id in states.ids()? {
        // One that is about to be made, or has gone meanwhile.
        let Ok(container) = Container::find(global, &id) else { continue };
        all.push(container.document(container.status()?));
    }
    let text = |v: &Value, key: &str| v[key].as_str().map_or_else(|| v[key].to_string(), str::to_owned);
    if flags.quiet {
        all.iter().for_each(|c| coracle_sys::say!("{}", text(c, "id")));
    } else if flags.format == "json" {
        coracle_sys::print::json(&Value::Array(all), false);
    } else {
        let keys = ["id", "pid", "status", "bundle", "created", "owner"];
        let mut rows = vec![keys.map(str::to_uppercase).to_vec()];
        rows.extend(all.iter().map(|c| keys.map(|key| text(c, key)).to_vec()));
        table::print(&rows, false);
    }
    Ok(0)
}
