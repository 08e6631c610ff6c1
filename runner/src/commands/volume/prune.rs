//! `volume prune`: those that no container uses.

use std::io::{IsTerminal, Write};

use coracle_store::{Store, volume_note};
use coracle_sys::{Context, Error, Kind, Result, print};

use super::filter::{self, Filter};
use super::{ANONYMOUS, remove};
use crate::commands::typed::Typed;

/// Ask, and remove them.
pub(super) fn run(store: &mut Store, typed: &Typed) -> Result<u8> {
    let filters = Filter::read(&typed.all("--filter"), filter::PRUNE)?;
    let all = typed.get("--all").is_some() || filters.contains(&Filter::All(true));
    if all && filters.contains(&Filter::All(false)) {
        return Err(Error::usage("conflicting options: cannot specify both --all and --filter all=0"));
    }
    if typed.get("--force").is_none() && !agreed(all)? {
        return Ok(0);
    }
    let (mut bytes, mut code, mut begun) = (0, 0, false);
    for name in store.volumes()? {
        let Ok(note) = store.volume_note(&name) else { continue };
        let meant = all || note.labels.contains_key(ANONYMOUS);
        if !meant || !filter::take(&filters, store, &name, &note)? {
            continue;
        }
        let size = volume_note::bytes_below(&store.volume_path(&name)?);
        match remove(store, &name) {
            Ok(()) => {
                if !std::mem::replace(&mut begun, true) {
                    coracle_sys::say!("Deleted Volumes:");
                }
                coracle_sys::say!("{name}");
                bytes += size;
            }
            // In use, or somebody else was quicker.
            Err(e) if matches!(e.kind(), Kind::Busy | Kind::NotFound) => {}
            Err(e) => {
                coracle_sys::warn!("runner: {}", print::harmless(&e.to_string()));
                code = 1;
            }
        }
    }
    coracle_sys::say!("{}Total reclaimed space: {}", if begun { "\n" } else { "" }, size(bytes));
    Ok(code)
}

/// Docker's question.
fn agreed(all: bool) -> Result<bool> {
    let which = if all { "all" } else { "anonymous" };
    let mut err = std::io::stderr();
    let ask = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\nAre you sure you want to continue? [y/N] "
    );
    err.write_all(ask.as_bytes()).context(|| "write to standard error")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context(|| "read standard input")?;
    if !std::io::stdin().is_terminal() {
        coracle_sys::warn!("");
    }
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Bytes as docker sums them up: four digits at most, powers of 1000.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, 0);
    let mut below = 0;
    while value >= 1000 && unit < 4 {
        (below, value, unit) = (value % 1000, value / 1000, unit + 1);
    }
    // Whole digits and those behind the point make four.
    let digits = if value >= 100 { 1 } else { 3 - usize::from(value >= 10) };
    let fraction = format!("{below:03}");
    let fraction = fraction[..digits].trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let unit = ["B", "kB", "MB", "GB", "TB"][unit];
    format!("{value}{dot}{fraction}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.234kB"),
            (12_345, "12.34kB"),
            (123_400_000, "123.4MB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
