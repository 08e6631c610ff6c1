//! `stats`: what containers use, again and again or once, by what their groups count.

use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::template::{Template, title};
use coracle_sys::{Result, table};
use serde_json::{Map, Value};

use super::container::seen::Seen;
use super::typed::{self, Typed};
use super::{Global, container};
use crate::cgroups::Cgroup;
use crate::from_image::short;
use crate::json::set_all;

/// Its flags.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "stats",
    "Show what containers use, every second; all that run where none is named.",
    typed::CONTAINERS,
    &[
        typed::switch("--all", Some('a'), "those that do not run as well"),
        typed::switch("--no-stream", None, "once"),
        typed::switch("--no-trunc", None, "whole ids"),
        typed::option(
            "--format",
            None,
            "template",
            "a template for each line, such as '{{.Name}}: {{.CPUPerc}}', 'table ...' for columns, or json",
        ),
    ],
    &["runner stats", "runner stats --no-stream --format json my-container"],
);

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What the groups of one have counted up to a moment.
struct Sample {
    id: String,
    at: Instant,
    cpu: Option<u64>,
}

/// Show it.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let format = typed.get("--format").filter(|f| *f != "table");
    let template = format.map(Template::parse).transpose()?;
    let store = container::store(global)?;
    let (once, whole) = (typed.get("--no-stream").is_some(), typed.get("--no-trunc").is_some());
    let all = typed.get("--all").is_some();
    let memory = super::info::memory();
    for named in &typed.words {
        container::find(&store, named)?;
    }
    let mut before: Vec<Sample> = look(&store, &typed.words, all)?.iter().map(|(_, s)| sample(s)).collect();
    loop {
        std::thread::sleep(PAUSE);
        let seen = look(&store, &typed.words, all)?;
        let mut rows = Vec::new();
        let mut now = Vec::new();
        for (named, seen) in &seen {
            let next = sample(seen);
            let last = before.iter().find(|b| b.id == next.id);
            rows.push(row(seen, named, whole, memory, last.map(|last| cpu(last, &next))));
            now.push(next);
        }
        before = now;
        if let Some(template) = &template {
            template.print_under(&rows, head)?;
        } else {
            print(&rows, once);
        }
        // Who has seen enough of a pipe ends this, and so does the end of all that were named.
        let looks = std::io::stdout().flush().is_ok() && coracle_sys::print::is_heard();
        if once || !looks || !typed.words.is_empty() && seen.is_empty() {
            return Ok(0);
        }
    }
}

/// Those that are meant, each with what it was called.
fn look(store: &Store, named: &[String], all: bool) -> Result<Vec<(String, Seen)>> {
    if named.is_empty() {
        let mut seen = Seen::all(store)?;
        seen.retain(|s| all || s.state.is_some());
        return Ok(seen.into_iter().map(|s| (short(&s.record.id).to_owned(), s)).collect());
    }
    // One that has gone meanwhile is gone.
    let one = |name: &String| Some((name.clone(), Seen::of(container::find(store, name).ok()?).ok()?));
    Ok(named.iter().filter_map(one).collect())
}

fn metrics(seen: &Seen) -> Value {
    let groups = seen.state.as_ref().and_then(|state| Cgroup::open(state.cgroups.clone()).ok());
    groups.map_or(Value::Null, |groups| groups.metrics())
}

fn sample(seen: &Seen) -> Sample {
    let told = metrics(seen);
    let cpu = told.pointer("/cpu/usage/total").and_then(Value::as_u64);
    Sample { id: seen.record.id.clone(), at: Instant::now(), cpu }
}

/// Hundredths of a percent of one processor.
fn cpu(before: &Sample, now: &Sample) -> Option<u64> {
    let wall = u64::try_from(now.at.duration_since(before.at).as_nanos()).ok().filter(|n| *n > 0)?;
    Some(now.cpu?.saturating_sub(before.cpu.unwrap_or(0)).saturating_mul(10_000) / wall)
}

fn row(seen: &Seen, named: &str, whole: bool, host: u64, cpu: Option<Option<u64>>) -> Value {
    let told = metrics(seen);
    let runs = seen.state.is_some();
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64);
    let percent = |hundredths: u64| format!("{}.{:02}%", hundredths / 100, hundredths % 100);
    // What the groups do not count is not known, where it runs.
    let or_none = |known: Option<String>, nothing: &str| match known {
        Some(text) => text,
        None if runs => "--".to_owned(),
        None => nothing.to_owned(),
    };
    let cache = number("/memory/raw/total_inactive_file").or(number("/memory/raw/inactive_file"));
    let used = number("/memory/usage/usage").map(|n| n.saturating_sub(cache.unwrap_or(0)));
    let limit = number("/memory/usage/limit").filter(|n| (1..host).contains(n)).unwrap_or(host);
    let limit = if runs { limit } else { 0 };
    let share = used
        .filter(|_| limit > 0)
        .map(|used| percent((u128::from(used) * 10_000 / u128::from(limit)) as u64));
    let binary = |n: u64| table::measure(n, 1024, 4);
    let blocks = |word: &str| {
        let list = told.pointer("/blkio/ioServiceBytesRecursive")?.as_array()?;
        let of = |entry: &&Value| entry["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(word));
        Some(list.iter().filter(of).filter_map(|entry| entry["value"].as_u64()).sum::<u64>())
    };
    let pair = |a: u64, b: u64| format!("{} / {}", table::measure(a, 1000, 3), table::measure(b, 1000, 3));
    let (received, sent) = network(seen.pid());
    let id = if whole { &seen.record.id } else { short(&seen.record.id) };
    let mut row = Value::Object(Map::new());
    set_all(
        &mut row,
        vec![
            ("/Container", named.into()),
            ("/ID", id.into()),
            ("/Name", seen.record.name.as_str().into()),
            ("/CPUPerc", or_none(cpu.flatten().map(percent), "0.00%").into()),
            (
                "/MemUsage",
                or_none(used.map(|used| format!("{} / {}", binary(used), binary(limit))), "0B / 0B").into(),
            ),
            ("/MemPerc", or_none(share, "0.00%").into()),
            ("/NetIO", pair(received, sent).into()),
            ("/BlockIO", pair(blocks("Read").unwrap_or(0), blocks("Write").unwrap_or(0)).into()),
            ("/PIDs", or_none(number("/pids/current").map(|n| n.to_string()), "0").into()),
        ],
    );
    row
}

/// Bytes that came in and went out, over all but the loopback.
fn network(pid: i32) -> (u64, u64) {
    match pid {
        0 => (0, 0),
        pid => counted(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default()),
    }
}

fn counted(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for (name, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let (true, Some(received), Some(sent)) = (name.trim() != "lo", numbers.first(), numbers.get(8)) {
            sum = (sum.0 + received, sum.1 + sent);
        }
    }
    sum
}

fn head(field: &str) -> String {
    match field {
        "ID" => "CONTAINER ID".to_owned(),
        "CPUPerc" => "CPU %".to_owned(),
        "MemUsage" => "MEM USAGE / LIMIT".to_owned(),
        "MemPerc" => "MEM %".to_owned(),
        "NetIO" => "NET I/O".to_owned(),
        "BlockIO" => "BLOCK I/O".to_owned(),
        "PIDs" => "PIDS".to_owned(),
        other => title(other),
    }
}

/// A table, which takes the place of the last one.
fn print(rows: &[Value], once: bool) {
    const FIELDS: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    let mut lines = vec![FIELDS.map(head).to_vec()];
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    lines.extend(rows.iter().map(|row| FIELDS.map(|field| cell(row, field)).to_vec()));
    if !once {
        coracle_sys::print::out(format_args!("\x1b[H\x1b[2J"));
    }
    table::print(&lines, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_over_the_network_is_summed_without_the_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n  eth1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(counted(text), (101, 32));
        assert_eq!(counted(""), (0, 0));
    }

    #[test]
    fn time_on_processors_is_told_of_one_processor() {
        let at = Instant::now();
        let of = |cpu, seconds| Sample { id: String::new(), at: at + Duration::from_secs(seconds), cpu };
        assert_eq!(cpu(&of(Some(0), 0), &of(Some(1_500_000_000), 1)), Some(15_000));
        assert_eq!(cpu(&of(Some(5), 0), &of(None, 1)), None);
    }
}
