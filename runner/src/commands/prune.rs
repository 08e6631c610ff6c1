//! `prune`: containers that do not run are removed. `system prune`: images that nothing uses as well, by rootfs-tool.

use std::ffi::OsString;
use std::io::{BufRead, Write};

use argh::CommandInfoWithArgs;
use coracle_store::Store;
use coracle_sys::{Context, Error, Result, table};

use super::container::seen::Seen;
use super::ps::Filters;
use super::typed::{self, Typed};
use super::{Global, container, image_verb, rm, sweep};

/// The flags of `prune`, which is docker's `container prune`.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "prune",
    "Remove all containers that do not run.",
    typed::NONE,
    &[FORCE, FILTER],
    &["runner prune -f", "runner container prune -f --filter until=24h"],
);

/// The flags of `system prune`.
static SYSTEM: CommandInfoWithArgs = typed::table(
    "system prune",
    "Remove all containers that do not run, and images that nothing names or uses.",
    typed::NONE,
    &[
        FORCE,
        FILTER,
        typed::switch("--all", Some('a'), "images that no container uses as well, whatever their names"),
        typed::switch(
            "--volumes",
            None,
            "volumes without a name as well, which go with their container in any case",
        ),
    ],
    &["runner system prune -f"],
);

const FORCE: argh::FlagInfo<'static> = typed::switch("--force", Some('f'), "ask nothing");
const FILTER: argh::FlagInfo<'static> = typed::list(
    "--filter",
    None,
    "filter",
    "only those for which it holds: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]",
);

/// Remove containers.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&TABLE, words)? else { return Ok(0) };
    let store = container::store(global)?;
    let filters = Filters::of_prune(&typed.all("--filter"), &store)?;
    if !agreed(&typed, "This will remove all stopped containers.")? {
        return Ok(0);
    }
    let freed = containers(&store, &filters)?;
    coracle_sys::say!("Total reclaimed space: {}", table::measure(freed, 1000, 4));
    Ok(0)
}

/// Remove containers and images.
pub(crate) fn system(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some(typed) = Typed::read(&SYSTEM, words)? else { return Ok(0) };
    let store = container::store(global)?;
    let filters = Filters::of_prune(&typed.all("--filter"), &store)?;
    let all = typed.get("--all").is_some();
    let images = if all { "all images without at least one container" } else { "all dangling images" };
    if !agreed(&typed, &format!("This will remove:\n  - all stopped containers\n  - {images}\n"))? {
        return Ok(0);
    }
    let freed = containers(&store, &filters)?;
    coracle_sys::say!("Total reclaimed space of containers: {}", table::measure(freed, 1000, 4));
    coracle_sys::print::finish()?;
    let mut words: Vec<OsString> = vec!["--force".into()];
    words.extend(all.then(|| "--all".into()));
    words.extend(typed.all("--filter").into_iter().flat_map(|filter| ["--filter".into(), filter.into()]));
    image_verb::run(global, "prune", &words)
}

/// Whether it is to be done. Who asks is asked, unless that is not wanted.
fn agreed(typed: &Typed, what: &str) -> Result<bool> {
    if typed.get("--force").is_some() {
        return Ok(true);
    }
    let mut out = std::io::stdout().lock();
    let asked =
        write!(out, "WARNING! {what}\nAre you sure you want to continue? [y/N] ").and_then(|()| out.flush());
    asked.context(|| "write(standard output)")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context(|| "read(standard input)")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes" | "YES"))
}

/// Remove those that do not run and are meant. The bytes that this has freed.
fn containers(store: &Store, filters: &Filters) -> Result<u64> {
    sweep::sweep(store);
    let mut gone = Vec::new();
    let mut freed = 0;
    for seen in Seen::all(store)? {
        let stopped = matches!(seen.status, "created" | "exited");
        if !stopped || !filters.hold(store, &seen) {
            continue;
        }
        let size = store.written_by(&seen.dir);
        match rm::remove(store, &seen.dir.id, false) {
            Ok(()) => {
                freed += size;
                gone.push(seen.dir.id);
            }
            // It has been started, or removed, at this moment.
            Err(e) if e.kind() == coracle_sys::Kind::Busy => {}
            Err(e) => coracle_sys::warn!("runner: {}", Error::wrap(e, format!("remove {}", seen.dir.id))),
        }
    }
    if !gone.is_empty() {
        coracle_sys::say!("Deleted Containers:");
        gone.iter().for_each(|id| coracle_sys::say!("{id}"));
        coracle_sys::say!("");
    }
    Ok(freed)
}
