//! `doctor`: what this host can and cannot give, each line with the remedy.

use argh::{ArgsInfo, FromArgs};
use coracle_store::Locations;
use coracle_sys::Result;
use serde::Serialize;

use super::Global;
use crate::json;
use crate::survey::{self, Finding};

/// Say what this host can and cannot give to containers. Exit code 1: none can run.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "doctor", example = "runner doctor\nrunner doctor --json")]
pub(crate) struct Flags {
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Ask and print.
pub(crate) fn run(global: &Global, flags: &Flags) -> Result<u8> {
    let locations = Locations::from_env(global.store.as_deref())?;
    let findings = survey::all(&locations.main);
    let runs = findings.iter().all(|f| f.ok || !f.required);
    if flags.json {
        #[derive(Serialize)]
        struct Answer {
            runs: bool,
            findings: Vec<Finding>,
        }
        coracle_sys::say!("{}", json::pretty(&Answer { runs, findings })?);
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
