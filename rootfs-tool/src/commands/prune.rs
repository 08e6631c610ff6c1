//! `rootfs-tool prune`.

use std::collections::HashSet;
use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use argh::{ArgsInfo, FromArgs};
use coracle_store::gc::Pruning;
use coracle_store::image::{Descriptor, Platform};
use coracle_store::{Digest, Image, Locations, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Context, Error, Result, table};

use super::enter_user_namespace;
use crate::filter::{Filters, Named};

/// The filters that there are.
const FILTERS: [&str; 4] = ["until=TIME", "label=KEY[=VALUE]", "label!=KEY[=VALUE]", "dangling=BOOL"];

/// Remove images that have no name, and with --all those that no container and no mount uses; what nothing needs any more, and
/// what is left of downloads that broke off, goes as well.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "prune",
    example = "rootfs-tool prune
rootfs-tool prune --all --filter until=24h --dry-run"
)]
pub(crate) struct Prune {
    /// images with a name too, unless a container uses them or they are mounted
    #[argh(switch, short = 'a')]
    all: bool,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
    /// change nothing, and list what would go
    #[argh(switch, long = "dry-run")]
    dry_run: bool,
    /// what is kept for the next build and nothing else: docker's builder prune; with --all fetched packages too
    #[argh(switch)]
    builds: bool,
    /// until=TIME (24h, 10m, 2026-01-02T15:04:05Z), label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[argh(option, arg_name = "FILTER")]
    filter: Vec<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
}

impl Prune {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.builds {
            return self.builds();
        }
        let filters = Filters::read(&self.filter, &FILTERS)?;
        if !(self.force || self.dry_run || self.agreed()?) {
            return Ok(());
        }
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        let mut store = Store::open(&at)?;
        let mut doomed = self.doomed(&store, &filters)?;
        let mut how = Pruning { dry: self.dry_run, partials: true, packages: self.all, ..Pruning::default() };
        if self.dry_run {
            let all = coracle_store::read::read_index(store.main())?.manifests;
            let stays = |d: &&Descriptor| !doomed.iter().any(|gone| gone.entry == **d);
            let staying: HashSet<Digest> = all.iter().filter(stays).map(|d| d.digest).collect();
            how.without = doomed.iter().map(|d| d.entry.digest).filter(|d| !staying.contains(d)).collect();
        } else if !doomed.is_empty() {
            // What somebody has named or used meanwhile stays.
            let seen: Vec<Descriptor> = doomed.iter().map(|d| d.entry.clone()).collect();
            let gone = store.begin()?.forget_entries(&seen)?;
            doomed.retain(|d| gone.contains(&d.entry));
        }
        if !doomed.is_empty() {
            coracle_sys::say!("{}", if self.dry_run { "Would delete:" } else { "Deleted Images:" });
        }
        // All names of an image, and then that it is gone.
        for name in doomed.iter().filter_map(|d| d.entry.ref_name()) {
            coracle_sys::say!("untagged: {}", harmless(name));
        }
        let mut told = HashSet::new();
        for gone in doomed.iter().filter_map(|d| d.what.as_ref()).filter(|what| told.insert(**what)) {
            coracle_sys::say!("deleted: {gone}");
        }
        let gone = store.prune_with(&how)?;
        if self.dry_run {
            gone.layers.iter().for_each(|l| coracle_sys::say!("layer: {l}"));
            gone.blobs.iter().for_each(|b| coracle_sys::say!("blob: {b}"));
            coracle_sys::say!("Would reclaim: {}", table::size(gone.bytes));
        } else {
            coracle_sys::say!(
                "{}Total reclaimed space: {}",
                if doomed.is_empty() { "" } else { "\n" },
                table::size(gone.bytes)
            );
        }
        Ok(())
    }

    /// `--builds`.
    fn builds(self) -> Result<()> {
        let filters = Filters::read(&self.filter, &FILTERS[..1])?;
        if self.dry_run {
            return Err(Error::usage("--dry-run does not go with --builds"));
        }
        if !(self.force || self.agreed()?) {
            return Ok(());
        }
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        let then = filters.until().map(|then| {
            let since = u64::try_from(then).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(since)
        });
        let bytes = Store::open(&at)?.prune_builds(then, self.all)?;
        coracle_sys::say!("Total reclaimed space: {}", table::size(bytes));
        Ok(())
    }

    /// Docker's question.
    fn agreed(&self) -> Result<bool> {
        let which = match self.all {
            _ if self.builds => "all build cache",
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let mut err = std::io::stderr();
        let ask = format!("WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] ");
        err.write_all(ask.as_bytes()).and_then(|()| err.flush()).context(|| "write to standard error")?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context(|| "read standard input")?;
        if !std::io::stdin().is_terminal() {
            coracle_sys::warn!("");
        }
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }

    /// The entries that go.
    fn doomed(&self, store: &Store, filters: &Filters) -> Result<Vec<Doomed>> {
        let used: HashSet<Digest> = store.users()?.into_iter().map(|(manifest, _)| manifest).collect();
        let all = coracle_store::read::read_index(store.main())?.manifests;
        let load =
            |d: &Descriptor| store.load(d.ref_name().map(str::to_owned), d.clone(), &Platform::host()).ok();
        let all: Vec<(Descriptor, Option<Image>)> = all.into_iter().map(|d| (d.clone(), load(&d))).collect();
        let named = Named::of(all.iter().map(|(d, image)| (d, image.as_ref())));
        let mut out = Vec::new();
        for (entry, image) in &all {
            if used.contains(&entry.digest) || !self.all && entry.ref_name().is_some() {
                continue;
            }
            let has_name = image.as_ref().is_some_and(|i| named.has(i));
            // Of an image that has a name under another manifest, this one is left over: no filter speaks of it.
            let left_over = entry.ref_name().is_none() && has_name && !self.all;
            // What cannot be read passes no filter.
            if left_over || filters.is_empty() || image.as_ref().is_some_and(|i| filters.take(i, &named)) {
                let id = image.as_ref().filter(|_| !left_over).map(Image::id);
                out.push(Doomed { what: Some(id.unwrap_or(entry.digest)), entry: entry.clone() });
            }
        }
        // An image that keeps one of its names is still there.
        let goes = |entry: &Descriptor| out.iter().any(|gone| gone.entry == *entry);
        let stay = all.iter().filter(|(entry, _)| !goes(entry));
        let stay: HashSet<Digest> = stay.filter_map(|(_, image)| image.as_ref().map(Image::id)).collect();
        out.iter_mut().for_each(|gone| gone.what = gone.what.filter(|id| !stay.contains(id)));
        Ok(out)
    }
}

/// An entry that goes.
struct Doomed {
    entry: Descriptor,
    /// The image's id, or the manifest's digest where an image without a name is left over beside one with a name.
    /// None where all that goes is a name.
    what: Option<Digest>,
}
