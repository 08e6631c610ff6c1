//! `system df`: what images, containers and volumes take on the disk. Images are rootfs-tool's to measure.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::template::{Template, title};
use coracle_sys::{Error, Result, table};
use serde_json::{Map, Value};

use super::container::seen::{Seen, ago};
use super::typed::{self, Typed};
use super::{Global, container, image_verb};
use crate::from_image::short;
use crate::json::set_all;

/// Its flags.
static TABLE: CommandInfoWithArgs = typed::table(
    "system df",
    "Tell what images, containers and volumes take on the disk.",
    typed::NONE,
    &[
        typed::switch("--verbose", Some('v'), "each by itself"),
        typed::option(
            "--format",
            None,
            "template",
            "a template for each line, such as '{{.Type}}: {{.Size}}', or json",
        ),
    ],
    &["runner system df"],
);

/// Tell it.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let verbose = typed.get("--verbose").is_some();
    let format = typed.get("--format").filter(|f| *f != "table");
    if verbose && format.is_some() {
        return Err(Error::usage("the verbose and the format options conflict"));
    }
    let template = format.map(Template::parse).transpose()?;
    let store = container::store(global)?;
    let seen = Seen::all(&store)?;
    let images = image_verb::answer(global, &["du", "--json"])?.unwrap_or_default();
    let images: Vec<Value> = serde_json::from_slice(&images).unwrap_or_default();
    let sizes: Vec<u64> = seen.iter().map(|s| store.written_by(&s.dir)).collect();
    if verbose {
        print_each(&images, &seen, &sizes);
        return Ok(0);
    }
    let bytes = |image: &Value| image["Files"].as_u64().unwrap_or(0);
    let used = |image: &&Value| image["Containers"].as_bool() == Some(true);
    let unused: u64 = images.iter().filter(|i| !used(i)).map(|i| i["Unique"].as_u64().unwrap_or(0)).sum();
    let stopped = seen.iter().zip(&sizes).filter(|(s, _)| s.state.is_none()).map(|(_, size)| size).sum();
    let running = seen.iter().filter(|s| s.state.is_some()).count();
    let (volumes, taken, held, free) = volumes(&store, &seen)?;
    let rows = [
        row(
            "Images",
            images.len(),
            images.iter().filter(used).count(),
            images.iter().map(bytes).sum(),
            unused,
        ),
        row("Containers", seen.len(), running, sizes.iter().sum(), stopped),
        row("Local Volumes", volumes, taken, held, free),
    ];
    if let Some(template) = &template {
        template.print_under(&rows, head)?;
        return Ok(0);
    }
    const FIELDS: [&str; 5] = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let mut lines = vec![FIELDS.map(head).to_vec()];
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    lines.extend(rows.iter().map(|row| FIELDS.map(|field| cell(row, field)).to_vec()));
    table::print(&lines, false);
    Ok(0)
}

fn head(field: &str) -> String {
    match field {
        "TotalCount" => "TOTAL".to_owned(),
        other => title(other),
    }
}

fn row(kind: &str, total: usize, active: usize, size: u64, free: u64) -> Value {
    let free = free.min(size);
    let share = (free * 100).checked_div(size).map_or_else(String::new, |share| format!(" ({share}%)"));
    let mut row = Value::Object(Map::new());
    set_all(
        &mut row,
        vec![
            ("/Type", kind.into()),
            ("/TotalCount", total.to_string().into()),
            ("/Active", active.to_string().into()),
            ("/Size", table::measure(size, 1000, 4).into()),
            ("/Reclaimable", format!("{}{share}", table::measure(free, 1000, 4)).into()),
        ],
    );
    row
}

/// How many volumes with a name there are, how many of them a container has, their bytes, and those of the others.
fn volumes(store: &Store, seen: &[Seen]) -> Result<(usize, usize, u64, u64)> {
    let (mut taken, mut held, mut free) = (0, 0, 0);
    let all = store.volumes()?;
    for name in &all {
        let path = store.volume_path(name)?;
        let size = coracle_sys::usage::of(&path).unwrap_or(0);
        held += size;
        let has = |s: &Seen| s.record.spec.mounts.iter().any(|m| m.source.as_ref() == Some(&path));
        match seen.iter().any(has) {
            true => taken += 1,
            false => free += size,
        }
    }
    Ok((all.len(), taken, held, free))
}

fn print_each(images: &[Value], seen: &[Seen], sizes: &[u64]) {
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let bytes = |of: &Value, field: &str| table::measure(of[field].as_u64().unwrap_or(0), 1000, 4);
    coracle_sys::say!("Images space usage:\n");
    let mut lines = vec![
        ["REPOSITORY", "TAG", "IMAGE ID", "SIZE", "SHARED SIZE", "UNIQUE SIZE"].map(str::to_owned).to_vec(),
    ];
    lines.extend(images.iter().map(|image| {
        vec![
            text(image, "Repository"),
            text(image, "Tag"),
            text(image, "ID"),
            bytes(image, "Files"),
            bytes(image, "Shared"),
            bytes(image, "Unique"),
        ]
    }));
    table::print(&lines, false);
    coracle_sys::say!("\nContainers space usage:\n");
    let mut lines =
        vec![["CONTAINER ID", "IMAGE", "SIZE", "CREATED", "STATUS", "NAMES"].map(str::to_owned).to_vec()];
    lines.extend(seen.iter().zip(sizes).map(|(s, size)| {
        vec![
            short(&s.record.id).to_owned(),
            s.record.image.clone(),
            table::measure(*size, 1000, 4),
            format!("{} ago", ago(s.record.created)),
            s.spoken(),
            s.record.name.clone(),
        ]
    }));
    table::print(&lines, false);
}
