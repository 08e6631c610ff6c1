//! `ps`: our containers. Of one, `ps ID`, the processes: see [`super::processes`].

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::{Locations, Store};
use coracle_sys::argv::Tail;
use coracle_sys::template::Template;
use coracle_sys::{Error, Result, table};
use serde::Serialize;

use super::typed::{self, Typed};
use super::{Global, processes, sweep};
use crate::from_image::short;
use crate::json;
use crate::record::{self, Record};
use crate::state::{Face, States};

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "ps",
    "List containers; of one of an OCI client its processes, by ps(1) with its own flags behind the id.",
    typed::PROCESSES,
    &[
        typed::switch("--all", Some('a'), "those that have ended as well"),
        typed::switch("--quiet", Some('q'), "ids only"),
        typed::switch("--no-trunc", None, "whole ids and commands"),
        typed::switch("--json", None, "one JSON object a line"),
        typed::list(
            "--filter",
            Some('f'),
            "filter",
            "only those for which it holds: name=PART (^ and $ stand for its ends), status=running|exited|created, label=NAME[=VALUE]",
        ),
        typed::option(
            "--format",
            None,
            "template",
            "a template for each line, such as '{{.Names}}: {{.Status}}', or json; of processes json or table",
        ),
    ],
    &["runner ps -a", "runner ps -q", "runner ps my-container -o pid,args"],
);

/// What was typed.
#[derive(Debug, Default)]
struct Flags {
    all: bool,
    quiet: bool,
    no_trunc: bool,
    json: bool,
    filter: Vec<String>,
    format: Option<String>,
}

/// A line of the list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    command: String,
    created: u64,
    running_for: String,
    status: String,
    names: String,
    state: &'static str,
    pid: i32,
    #[serde(serialize_with = "joined")]
    labels: Vec<(String, String)>,
}

/// `A=1,B=2`, as docker prints them.
fn joined<S: serde::Serializer>(labels: &[(String, String)], to: S) -> std::result::Result<S::Ok, S::Error> {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    to.serialize_str(&pairs.join(","))
}

/// Print them, the newest first.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some((typed, tail)) = Typed::before(&TABLE, words, Tail::After(1))? else { return Ok(0) };
    if !typed.words.is_empty() {
        return processes::run(global, typed, &tail);
    }
    let said = |flag: &str| typed.get(flag).is_some();
    let flags = &Flags {
        all: said("--all"),
        quiet: said("--quiet"),
        no_trunc: said("--no-trunc"),
        json: said("--json"),
        filter: typed.all("--filter"),
        format: typed.get("--format").map(str::to_owned),
    };
    let format = match (flags.json, flags.format.as_deref()) {
        (true, Some(_)) => return Err(Error::usage("--json and --format exclude each other")),
        (true, None) => Some("json"),
        (false, format) => format,
    };
    let template = format.map(Template::parse).transpose()?;
    let keep = flags.filter.iter().map(|f| Filter::parse(f)).collect::<Result<Vec<_>>>()?;
    let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    sweep::sweep(&store);
    let mut lines = list(&store)?;
    lines
        .retain(|l| flags.all || l.state == "running" || keep.iter().any(|f| matches!(f, Filter::Status(_))));
    lines.retain(|l| keep.iter().all(|f| f.holds(l)));
    coracle_sys::order::sort_by(&mut lines, |a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    for line in &mut lines {
        if !flags.no_trunc {
            line.id = short(&line.id).to_owned();
        }
    }
    if flags.quiet {
        lines.iter().for_each(|l| coracle_sys::say!("{}", l.id));
    } else if let Some(template) = &template {
        template.print(&lines.iter().map(json::value).collect::<Result<Vec<_>>>()?)?;
    } else {
        print(&lines, flags.no_trunc);
    }
    Ok(0)
}

fn list(store: &Store) -> Result<Vec<Line>> {
    let states = States::of(Face::Image, None)?;
    let mut lines = Vec::new();
    for dir in store.containers()? {
        // One that is being made or removed at this moment has no record.
        let Ok(record) = Record::read(&dir.path) else { continue };
        let alive = states.read(&record.id).ok().filter(|s| s.init.is_alive());
        let (state, status, pid) = match (&alive, &record.exit) {
            (Some(s), _) => {
                ("running", format!("Up {}", ago(record.started.unwrap_or(record.created))), s.init.pid)
            }
            (None, Some(exit)) if record.waiting().is_some() => {
                ("restarting", format!("Restarting ({}) {} ago", exit.code, ago(exit.at)), 0)
            }
            (None, Some(exit)) => ("exited", format!("Exited ({}) {} ago", exit.code, ago(exit.at)), 0),
            (None, None) => ("created", "Created".to_owned(), 0),
        };
        let command = record.spec.process.map(|p| p.args.join(" ")).unwrap_or_default();
        lines.push(Line {
            id: record.id,
            image: record.image,
            command,
            created: record.created,
            running_for: format!("{} ago", ago(record.created)),
            status,
            names: record.name,
            state,
            pid,
            labels: record.labels.into_iter().collect(),
        });
    }
    Ok(lines)
}

fn print(lines: &[Line], whole: bool) {
    let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(lines.iter().map(|l| {
        let mut command = l.command.clone();
        if !whole && command.chars().count() > 20 {
            command = command.chars().take(19).chain(['…']).collect();
        }
        vec![
            l.id.clone(),
            l.image.clone(),
            format!("\"{command}\""),
            l.running_for.clone(),
            l.status.clone(),
            l.names.clone(),
        ]
    }));
    table::print(&rows, !whole);
}

/// Scripts written for docker look for `^NAME$`, with or without a slash.
fn is_named(name: &str, pattern: &str) -> bool {
    let (begin, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest.strip_prefix('/').unwrap_or(rest)),
        None => (false, pattern),
    };
    match (begin, rest.strip_suffix('$')) {
        (true, Some(whole)) => name == whole,
        (true, None) => name.starts_with(rest),
        (false, Some(tail)) => name.ends_with(tail),
        (false, None) => name.contains(rest),
    }
}

/// How long ago, as docker says it.
fn ago(then: u64) -> String {
    let seconds = record::seconds(record::now().saturating_sub(then));
    let (count, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        172_800..1_209_600 => (seconds / 86400, "day"),
        _ => (seconds / 604_800, "week"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

enum Filter {
    Name(String),
    Status(String),
    Label(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some(("name", part)) => match part.contains(['*', '?', '[', '(', '|', '+', '\\']) {
                true => Err(Error::usage(format!(
                    "--filter {text:?}: a part of the name, with ^ and $ at its ends, is all that is known"
                ))),
                false => Ok(Self::Name(part.to_owned())),
            },
            Some(("status", word @ ("running" | "exited" | "created"))) => Ok(Self::Status(word.to_owned())),
            Some(("label", label)) => Ok(match label.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(label.to_owned(), None),
            }),
            _ => Err(Error::usage(format!(
                "--filter {text:?} is unknown: name=, status=running|exited|created, label="
            ))),
        }
    }

    fn holds(&self, line: &Line) -> bool {
        match self {
            Self::Name(part) => is_named(&line.names, part),
            Self::Status(word) => line.state == word,
            Self::Label(name, value) => {
                line.labels.iter().any(|(n, v)| n == name && value.as_ref().is_none_or(|wanted| wanted == v))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_a_part_of_it_or_by_its_ends() {
        for (pattern, fits) in [
            ("web", true),
            ("eb-", true),
            ("^web-1$", true),
            ("^/web-1$", true),
            ("^web", true),
            ("1$", true),
            ("^web$", false),
            ("^eb", false),
            ("web$", false),
            ("x", false),
        ] {
            assert_eq!(is_named("web-1", pattern), fits, "{pattern}");
        }
        assert!(Filter::parse("name=web.*").is_err());
    }
}
