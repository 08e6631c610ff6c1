//! `version`, for people, and for scripts that ask docker's.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::template::Template;
use coracle_sys::{Result, print};
use serde_json::json;

use super::typed::{self, Typed};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "version",
    "Print the version.",
    typed::NONE,
    &[typed::option("--format", Some('f'), "template", "a template, such as '{{.Server.Version}}', or json")],
    &["runner version", "runner version --format json"],
);

/// Print it.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let Some(format) = typed.get("--format") else {
        coracle_sys::say!("runner version {}", env!("CARGO_PKG_VERSION"));
        return Ok(0);
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Who asks for a server means this program: there is no other.
    let this = json!({
        "Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": super::info::architecture(),
        "KernelVersion": kernel.trim(), "Experimental": false,
    });
    let all = json!({ "Client": this, "Server": this });
    match format {
        "json" => print::json(&all, false),
        format => Template::parse(format)?.print(&[all])?,
    }
    Ok(0)
}
