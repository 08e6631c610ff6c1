//! `doctor`: what this host can and cannot give, each line with the remedy.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::Locations;
use coracle_sys::{Result, print};
use serde::Serialize;

use super::Global;
use super::typed::{self, Typed};
use crate::json;
use crate::survey::{self, Finding};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "doctor",
    "Say what this host can and cannot give to containers. Exit code 1: none can run.",
    typed::NONE,
    &[typed::switch("--json", None, "one JSON object")],
    &["runner doctor", "runner doctor --json"],
);

/// Ask and print.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let locations = Locations::from_env(global.store.as_deref())?;
    let findings = survey::all(&locations.main);
    let runs = findings.iter().all(|f| f.ok || !f.required);
    if typed.get("--json").is_some() {
        #[derive(Serialize)]
        struct Answer {
            runs: bool,
            findings: Vec<Finding>,
        }
        print::json(&json::value(&Answer { runs, findings })?, true);
    } else {
        for f in &findings {
            let mark = match (f.ok, f.required) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "no",
            };
            coracle_sys::say!("{mark:<8} {:<28} {}", f.name, f.detail);
            if let Some(remedy) = f.remedy.as_ref().filter(|r| !r.is_empty()) {
                coracle_sys::say!("{:<8} {:<28} -> {remedy}", "", "");
            }
        }
        coracle_sys::say!("{}", if runs { "Containers run here." } else { "No container runs here." });
    }
    Ok(u8::from(!runs))
}
