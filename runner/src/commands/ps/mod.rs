//! `ps`: our containers. Of one, `ps ID`, the processes: see [`super::processes`].

mod filter;
mod row;

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::argv::Tail;
use coracle_sys::template::{Template, title};
use coracle_sys::{Error, Result, table};
use serde_json::Value;

pub(crate) use filter::Filters;

use super::container::seen::Seen;
use super::typed::{self, Typed};
use super::{Global, container, processes, sweep};
use crate::guise::Guise;
use row::Wanted;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "ps",
    "List containers; of one of an OCI client its processes, by ps(1) with its own flags behind the id.",
    typed::PROCESSES,
    &[
        typed::switch("--all", Some('a'), "those that do not run as well"),
        typed::switch("--quiet", Some('q'), "ids only"),
        typed::switch("--no-trunc", None, "whole ids and commands"),
        typed::switch("--size", Some('s'), "how much they have written, and with their image"),
        typed::option("--last", Some('n'), "number", "the newest so many, those that do not run as well"),
        typed::switch("--latest", Some('l'), "the newest one, also where it does not run"),
        typed::switch("--json", None, "one JSON object a line"),
        typed::list("--filter", Some('f'), "filter", filter::HELP),
        typed::option(
            "--format",
            None,
            "template",
            "a template for each line, such as '{{.Names}}: {{.Status}}', 'table ...' for columns, or json; of processes json or table",
        ),
    ],
    &["runner ps -a", "runner ps -q --filter status=exited", "runner ps my-container -o pid,args"],
);

/// Print them, the newest first.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some((typed, tail)) = Typed::before(&TABLE, words, Tail::After(1))? else { return Ok(0) };
    if let (true, Some(word)) = (global.guise == Guise::Docker, typed.words.first()) {
        return Err(Error::usage(format!("ps takes no {word:?} (docker top {word} lists its processes)")));
    }
    if !typed.words.is_empty() {
        return processes::run(global, typed, &tail);
    }
    let said = |flag: &str| typed.get(flag).is_some();
    let format = match (said("--json"), typed.get("--format")) {
        (true, Some(_)) => return Err(Error::usage("--json and --format exclude each other")),
        (true, None) => Some("json"),
        (false, Some("table")) => None,
        (false, format) => format,
    };
    let template = format.map(Template::parse).transpose()?;
    let most = match (said("--latest"), typed.get("--last")) {
        (true, _) => Some(1),
        (false, None | Some("-1")) => None,
        (false, Some(text)) => {
            let wrong = || Error::flag(format!("--last {text:?}: it is a number"));
            Some(text.parse::<usize>().map_err(|_| wrong())?).filter(|n| *n > 0)
        }
    };
    let store = container::store(global)?;
    let filters = Filters::parse(&typed.all("--filter"), &store)?;
    sweep::sweep(&store);
    let mut seen = Seen::all(&store)?;
    let all = said("--all") || most.is_some() || filters.say("status");
    seen.retain(|s| all || matches!(s.status, "running" | "paused"));
    seen.retain(|s| filters.hold(&store, s));
    seen.truncate(most.unwrap_or(usize::MAX));
    let asks = |field: &str| format.is_some_and(|f| f == "json" || f.contains("json .") || f.contains(field));
    let wanted = Wanted {
        whole: said("--no-trunc"),
        size: said("--size") || asks(".Size"),
        mounts: asks(".Mounts") || asks(".LocalVolumes"),
    };
    let rows = seen.iter().map(|s| row::of(&store, s, &wanted)).collect::<Result<Vec<_>>>()?;
    if said("--quiet") {
        rows.iter().for_each(|row| coracle_sys::say!("{}", row["ID"].as_str().unwrap_or_default()));
    } else if let Some(template) = &template {
        template.print_under(&rows, head)?;
    } else {
        print(&rows, &wanted);
    }
    Ok(0)
}

/// What a field is called above its column.
fn head(field: &str) -> String {
    match field {
        "ID" => "CONTAINER ID".to_owned(),
        other => title(other),
    }
}

fn print(rows: &[Value], wanted: &Wanted) {
    let mut fields = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if wanted.size {
        fields.push("Size");
    }
    let mut lines = vec![fields.iter().map(|field| head(field)).collect::<Vec<_>>()];
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    lines.extend(rows.iter().map(|row| fields.iter().map(|field| cell(row, field)).collect()));
    table::print(&lines, !wanted.whole);
}
