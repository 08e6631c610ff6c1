//! The layer kind `deb`: a root file system of Debian packages. From a suite's signed index, or a lock, to packages; from
//! packages to the entries of a layer, configured by their own scripts or as they were unpacked.

mod apt;
mod cache;
mod clean;
mod configure;
pub mod control;
mod database;
mod foreign;
mod lock;
mod md5;
pub mod openpgp;
mod order;
pub mod package;
pub mod paths;
pub mod relation;
pub mod release;
mod repository;
mod single;
pub mod solve;
pub mod sources;
pub mod universe;
mod unpack;
pub mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_store::image::Platform;
use coracle_store::layer::pack::{Archive, Content, Meta, source_date_epoch};
use coracle_store::write::Scratch;
use coracle_store::{Digest, Transaction};
use coracle_sys::{Context, Error, Result};

use self::cache::Cache;
use self::lock::{Lock, Locked, Pin};
use self::paths::Paths;
use self::repository::{Suite, Ways};
pub(crate) use self::single::{Single, take};
use self::sources::Source;
pub(crate) use self::unpack::through_links;
use crate::recipe::Deb;
use crate::registry::Downloads;

/// Downloads at a time.
const AT_A_TIME: usize = 6;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// `--mirror`.
    pub(crate) mirror: Option<String>,
    /// `--keyring`.
    pub(crate) keyring: Vec<PathBuf>,
    /// `--update`: ask the indexes, whatever is locked.
    pub(crate) update: bool,
    /// `--locked`: what is not locked is an error.
    pub(crate) locked: bool,
}

/// A layer of packages: which, and where they are.
pub(crate) struct Plan<'a> {
    deb: &'a Deb,
    locked: Locked,
    sources: Vec<Source>,
    checks_age: bool,
    downloads: Downloads,
    cache: Cache,
    /// What there is to say.
    pub(crate) notes: Vec<String>,
}

/// Hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Find out which packages layer `number` of a recipe has: as locked, or by the indexes, and then they are locked.
pub(crate) fn plan<'a>(
    tx: &Transaction<'_>,
    folder: &Path,
    number: usize,
    deb: &'a Deb,
    choices: &Choices,
    platform: &Platform,
) -> Result<Plan<'a>> {
    let architecture = foreign::debian(platform)?;
    let apt = apt::Apt::of_host();
    let downloads = Downloads::new(apt.proxies());
    let cache = Cache::of(tx)?;
    let asks = asks(deb);
    let mut lock = Lock::read(folder)?;
    let (sources, checks_age) = sources(deb, choices, &apt, architecture, folder)?;
    let mut notes = Vec::new();
    let locked = match lock.find(number, architecture, &asks).filter(|_| !choices.update) {
        Some(locked) => locked.clone(),
        None if choices.locked => {
            return Err(Error::not_found(
                "find its packages in rootfs.lock: they are not locked as the recipe asks",
            ));
        }
        None => {
            let trusted = trusted(&apt);
            let ways =
                Ways { downloads: &downloads, cache: &cache, architecture, trusted: &trusted, checks_age };
            // The first by itself: where names do not resolve at all, that is heard at once.
            let mut suites = each(&sources[..1], |source| ways.open(source))?;
            suites.extend(each(&sources[1..], |source| ways.open(source))?);
            let locked = Locked {
                number,
                architecture: architecture.into(),
                asks,
                ..choose(&suites, deb, architecture)?
            };
            lock.put(locked.clone());
            let path = lock.write(folder)?;
            notes.push(format!("{} packages locked in {}", locked.package.len(), path.display()));
            locked
        }
    };
    Ok(Plan { deb, locked, sources, checks_age, downloads, cache, notes })
}

/// A sum of what is asked for: another recipe has another.
fn asks(deb: &Deb) -> String {
    let Deb { suite, packages, variant, recommends, components, .. } = deb;
    Digest::of(format!("{suite:?} {packages:?} {variant:?} {recommends} {components:?}").as_bytes()).hex()
}

/// The repositories, and whether their age counts where they do not say so.
fn sources(
    deb: &Deb,
    choices: &Choices,
    apt: &apt::Apt,
    architecture: &str,
    folder: &Path,
) -> Result<(Vec<Source>, bool)> {
    let mut keys: Vec<String> = Vec::new();
    for path in choices.keyring.iter().cloned().chain(deb.keyring.iter().map(|k| folder.join(k))) {
        let path = std::path::absolute(&path).context(|| format!("getcwd() for {path:?}"))?;
        keys.push(path.display().to_string());
        if choices.keyring.is_empty() {
            break;
        }
    }
    let named = choices.mirror.as_ref().or(deb.mirror.as_ref());
    let mut all = match named {
        Some(mirror) => {
            let main = ["main".to_owned()];
            let components = if deb.components.is_empty() { &main[..] } else { &deb.components };
            let components = if deb.suite.ends_with('/') { &[] } else { components };
            vec![Source::new(mirror, &deb.suite, components)]
        }
        None => {
            let all = apt.sources(architecture)?;
            let mut chosen = sources::of_suite(&all, &deb.suite, apt::codename().as_deref());
            chosen.retain(|s| s.is_for(architecture) || architecture != debian_of_host());
            if chosen.is_empty() {
                return Err(Error::not_found(format!(
                    "find a repository of {}: apt is configured for none here (name one: --mirror URL)",
                    deb.suite
                )));
            }
            if !deb.components.is_empty() {
                chosen.iter_mut().for_each(|s| s.components = deb.components.clone());
            }
            chosen
        }
    };
    if !keys.is_empty() {
        all.iter_mut().for_each(|s| s.signed_by = keys.clone());
    }
    // What a frozen mirror is configured to be is that machine's matter; a mirror that is named says so itself.
    let checks_age = deb.check_valid_until.unwrap_or(named.is_some() || apt.checks_age());
    Ok((all, checks_age))
}

fn debian_of_host() -> &'static str {
    foreign::debian(&Platform::host()).unwrap_or_default()
}

/// The keys of apt, and those that distributions bring for their own archives.
fn trusted(apt: &apt::Apt) -> Vec<String> {
    let mut all = apt.trusted();
    let archive =
        |p: &PathBuf| p.file_stem().and_then(|s| s.to_str()).is_some_and(|s| s.ends_with("-archive-keyring"));
    all.extend(apt::list(Path::new("/usr/share/keyrings"), &["gpg", "pgp"]).into_iter().filter(archive));
    all.iter().map(|p| p.display().to_string()).collect()
}

/// Do it for each side by side, a few at a time; the first error comes back.
fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<R>>> = Mutex::default();
    let turn = || {
        while let n = next.fetch_add(1, Ordering::Relaxed)
            && let Some(one) = all.get(n)
        {
            let result = work(one);
            if result.is_err() {
                next.store(all.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(n, result);
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME.min(all.len())).for_each(|_| drop(scope.spawn(turn))));
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Solve.
fn choose(suites: &[Suite], deb: &Deb, architecture: &str) -> Result<Locked> {
    let mut universe = universe::Universe::default();
    for (n, suite) in suites.iter().enumerate() {
        for text in &suite.indexes {
            universe
                .add(text, architecture, n, suite.release.priority)
                .context(|| format!("read the index of {}", suite.source.dists()))?;
        }
    }
    let variant = deb.variant()?;
    let solved = solve::solve(&universe, &deb.packages, variant, deb.recommends, architecture)?;
    let mut package = Vec::new();
    for n in solved {
        package.push(pin(suites, &universe.offers[n])?);
    }
    let date = suites.iter().map(|s| s.release.date).max().unwrap_or_default();
    Ok(Locked { number: 0, architecture: String::new(), asks: String::new(), date, package })
}

/// Where the file of a package is, and what it is.
fn pin(suites: &[Suite], offer: &universe::Offer<'_>) -> Result<Pin> {
    let (file, sum, size) = offer.file()?;
    let source = &suites[offer.index].source;
    // The folder of a flat repository is part of the way.
    let folder = match source.suite.strip_suffix('/') {
        Some("" | ".") | None => String::new(),
        Some(folder) => format!("{}/", folder.trim_start_matches("./")),
    };
    Ok(Pin {
        name: offer.name.into(),
        version: offer.version.into(),
        architecture: offer.architecture.into(),
        suite: source.suite.clone(),
        file: format!("{folder}{}", file.trim_start_matches("./")),
        size,
        sha256: sum.to_ascii_lowercase(),
    })
}

/// Fetch packages: what each is, and its file.
fn fetch(
    pins: &[Pin],
    sources: &[Source],
    downloads: &Downloads,
    cache: &Cache,
) -> Result<Vec<(String, PathBuf)>> {
    each(pins, |pin| {
        let what = format!("{} {}", pin.name, pin.version);
        let of_suite = sources.iter().filter(|s| s.suite == pin.suite);
        let mut urls: Vec<String> = of_suite.map(|s| format!("{}/{}", s.uri, pin.file)).collect();
        urls.extend(sources.iter().map(|s| format!("{}/{}", s.uri, pin.file)));
        urls.dedup();
        let path = cache.file(downloads, &urls, &pin.sha256, pin.size);
        Ok((what.clone(), path.context(|| format!("fetch {what}"))?))
    })
}

/// Are these the packages that were to be fetched?
fn check(packages: &[unpack::Unpacked], pins: &[Pin]) -> Result<()> {
    for (package, pin) in packages.iter().zip(pins) {
        let p = package.paragraph().context(|| format!("unpack {}", pin.name))?;
        if p.get("Package") != Some(&pin.name) || p.get("Version") != Some(&pin.version) {
            return Err(Error::invalid(format!("unpack {}: it is another package", pin.name)));
        }
    }
    Ok(())
}

impl Plan<'_> {
    /// What the layer is made of, as text: the same text is the same layer.
    pub(crate) fn key(&self) -> String {
        let Deb { exclude, include, keep, .. } = self.deb;
        let configure = self.deb.configures();
        let list = if self.deb.sources { self.list(|_| true) } else { String::new() };
        format!("{} {} {exclude:?} {include:?} {keep:?} {configure} {list}", self.locked.key(), self.latest())
    }

    /// No file is younger: SOURCE_DATE_EPOCH, or the date of the index.
    pub(crate) fn latest(&self) -> i64 {
        source_date_epoch().unwrap_or(self.locked.date)
    }

    /// Fetch and unpack the packages, and configure them. The archive's files may lie in the directory that comes back.
    pub(crate) fn fill(&self, tx: &Transaction<'_>, archive: &mut Archive) -> Result<Scratch> {
        let files = fetch(&self.locked.package, &self.sources, &self.downloads, &self.cache)?;
        let scratch = tx.scratch()?;
        let spool = scratch.path().join("spool");
        std::fs::create_dir(&spool).context(|| format!("mkdir({spool:?})"))?;
        let mut packages = unpack::read(&files, &spool, self.latest())?;
        check(&packages, &self.locked.package)?;
        let slim = Paths { exclude: self.deb.exclude.clone(), include: self.deb.include.clone() };
        unpack::merged_usr(archive, &packages)?;
        unpack::lay(archive, &mut packages, &slim)?;
        archive.put_parents();
        // Where there is no dpkg, nobody will ever configure them.
        let has_dpkg = packages.iter().any(|p| p.name() == "dpkg");
        database::write(archive, &packages, !has_dpkg, self.latest())?;
        if self.deb.configures() {
            let architecture = &self.locked.architecture;
            configure::configure(archive, &packages, scratch.path(), architecture, &slim, self.latest())?;
        }
        if !self.deb.keep.is_empty() {
            clean::keep(archive, &self.deb.keep)?;
        }
        if self.deb.sources {
            let list = self.list(|path| archive.get(path).is_some());
            let meta = Meta { mtime: (self.latest(), 0), ..Meta::new(0o644) };
            archive.put("etc/apt/sources.list.d/debian.sources", meta, Content::Bytes(list.into_bytes()))?;
        }
        Ok(scratch)
    }

    /// apt's list of the repositories.
    fn list(&self, has: impl Fn(&str) -> bool) -> String {
        let all: Vec<String> = self.sources.iter().map(|s| s.paragraph(self.checks_age, &has)).collect();
        all.join("\n")
    }
}
