//! Packages by themselves, without what they depend on: a kernel is one, and so is the stub that a firmware starts. They
//! are found and checked as any other, unpacked, and configured by nobody.

use std::path::Path;

use coracle_store::Transaction;
use coracle_store::image::Platform;
use coracle_store::layer::pack::{Archive, source_date_epoch};
use coracle_store::write::Scratch;
use coracle_sys::{Error, Result};

use super::cache::Cache;
use super::lock::Pin;
use super::paths::Paths;
use super::repository::{Suite, Ways};
use super::universe::Universe;
use super::{Choices, apt, check, each, fetch, foreign, pin, relation, sources, trusted, unpack};
use crate::recipe::Deb;
use crate::registry::Downloads;

/// What packages hold.
pub(crate) struct Single {
    /// Their files.
    pub(crate) archive: Archive,
    /// Name and version of each.
    pub(crate) packages: Vec<(String, String)>,
    /// Files of the archive lie in it.
    pub(crate) scratch: Scratch,
}

/// Fetch the packages of these names, of this suite or of the host's. Where one is empty and depends on another whose
/// name begins with its own stem, such as `linux-image-` of a kernel, it is that one.
pub(crate) fn take(
    tx: &Transaction<'_>,
    suite: Option<&str>,
    names: &[(&str, &str)],
    choices: &Choices,
    platform: &Platform,
) -> Result<Single> {
    let architecture = foreign::debian(platform)?;
    let apt = apt::Apt::of_host();
    let suite = suite.map(str::to_owned).or_else(apt::codename);
    let suite = suite.ok_or_else(|| Error::usage("name the suite: this machine says none (--suite NAME)"))?;
    let deb = Deb { suite, ..Deb::default() };
    let downloads = Downloads::new(apt.proxies());
    let cache = Cache::of(tx)?;
    let (sources, checks_age) = sources(&deb, choices, &apt, architecture, Path::new(""))?;
    let trusted = trusted(&apt);
    let ways = Ways { downloads: &downloads, cache: &cache, architecture, trusted: &trusted, checks_age };
    let mut suites = each(&sources[..1], |source| ways.open(source))?;
    suites.extend(each(&sources[1..], |source| ways.open(source))?);
    let pins = find(&suites, names, architecture)?;
    let files = fetch(&pins, &sources, &downloads, &cache)?;
    let scratch = tx.scratch()?;
    let date = suites.iter().map(|s| s.release.date).max().unwrap_or_default();
    let mut packages = unpack::read(&files, scratch.path(), source_date_epoch().unwrap_or(date))?;
    check(&packages, &pins)?;
    let mut archive = Archive::new();
    unpack::lay(&mut archive, &mut packages, &Paths { exclude: Vec::new(), include: Vec::new() })?;
    let packages = pins.into_iter().map(|pin| (pin.name, pin.version)).collect();
    Ok(Single { archive, packages, scratch })
}

fn find(suites: &[Suite], names: &[(&str, &str)], architecture: &str) -> Result<Vec<Pin>> {
    let mut universe = Universe::default();
    for (n, suite) in suites.iter().enumerate() {
        for text in &suite.indexes {
            universe.add(text, architecture, n, suite.release.priority)?;
        }
    }
    names.iter().map(|(name, stem)| pin(suites, &universe.offers[real(&universe, name, stem)?])).collect()
}

/// The package of a name, or the one that it stands for.
fn real(universe: &Universe<'_>, name: &str, stem: &str) -> Result<usize> {
    let missing = || Error::not_found(format!("find the package {name}: no index has it"));
    let own = universe.candidate(name).ok_or_else(missing)?;
    let depends = universe.offers[own].paragraph.get("Depends").unwrap_or_default();
    let all = relation::parse(depends)?;
    let other = all.iter().flatten().find(|r| !stem.is_empty() && r.name.starts_with(stem));
    let Some(other) = other else { return Ok(own) };
    let exact = other.versions.and_then(|(_, version)| universe.of_version(other.name, version));
    exact.or_else(|| universe.candidate(other.name)).ok_or_else(missing)
}
