//! `rootfs-tool prune`.

use std::collections::HashSet;
use std::io::{BufRead, IsTerminal, Write};

use argh::{ArgsInfo, FromArgs};
use coracle_store::gc::Pruning;
use coracle_store::image::{CREATED, Descriptor, Platform};
use coracle_store::{Digest, Locations, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Context, Error, Result, table};

use super::enter_user_namespace;
use crate::time;

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
    /// until=TIME (24h, 10m, 2026-01-02T15:04:05Z) or label=KEY[=VALUE], label!=KEY[=VALUE]
    #[argh(option, arg_name = "FILTER")]
    filter: Vec<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
}

impl Prune {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let filters: Vec<Filter> = self.filter.iter().map(|f| f.parse()).collect::<Result<_>>()?;
        if !(self.force || self.dry_run || self.agreed()?) {
            return Ok(());
        }
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        let mut store = Store::open(&at)?;
        let doomed = self.doomed(&store, &filters)?;
        let without: HashSet<Digest> = doomed.iter().map(|d| d.digest).collect();
        if !doomed.is_empty() {
            coracle_sys::say!("{}", if self.dry_run { "Would delete:" } else { "Deleted Images:" });
        }
        if !self.dry_run && !doomed.is_empty() {
            let tx = store.begin()?;
            without.iter().try_for_each(|digest| tx.forget(digest).map(drop))?;
        }
        for d in &doomed {
            if let Some(name) = d.ref_name() {
                coracle_sys::say!("untagged: {}", harmless(name));
            }
            coracle_sys::say!("deleted: {}", d.digest);
        }
        let how = Pruning { dry: self.dry_run, partials: true, without };
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

    /// Docker's question.
    fn agreed(&self) -> Result<bool> {
        let which = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let mut err = std::io::stderr();
        let ask = format!("WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] ");
        err.write_all(ask.as_bytes()).and_then(|()| err.flush()).context(|| "write to standard error")?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context(|| "read standard input")?;
        if !std::io::stdin().is_terminal() {
            coracle_sys::print::err(format_args!(""));
        }
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }

    /// The entries that go.
    fn doomed(&self, store: &Store, filters: &[Filter]) -> Result<Vec<Descriptor>> {
        let used: HashSet<Digest> = store.users()?.into_iter().map(|(manifest, _)| manifest).collect();
        let all = coracle_store::read::read_index(store.main())?.manifests;
        let named: HashSet<Digest> =
            all.iter().filter(|d| d.ref_name().is_some()).map(|d| d.digest).collect();
        let mut out = Vec::new();
        for d in all {
            let idle = !used.contains(&d.digest) && (self.all || !named.contains(&d.digest));
            if idle && filters.iter().all(|f| f.takes(store, &d)) {
                out.push(d);
            }
        }
        Ok(out)
    }
}

enum Filter {
    /// Made before this, seconds since the epoch.
    Until(i64),
    Label {
        key: String,
        value: Option<String>,
        is: bool,
    },
}

impl Filter {
    fn takes(&self, store: &Store, d: &Descriptor) -> bool {
        let image = store.load(None, d.clone(), &Platform::host()).ok();
        match self {
            Self::Until(then) => {
                let own =
                    image.and_then(|i| i.config.created).and_then(|t| time::parse(&t)).filter(|t| *t > 0);
                let noted = || time::parse(d.annotations.as_ref()?.get(CREATED)?);
                own.or_else(noted).is_some_and(|t| t < *then)
            }
            Self::Label { key, value, is } => {
                let labels = image.map(|i| i.config.process().labels.unwrap_or_default()).unwrap_or_default();
                let found = labels.get(key).is_some_and(|v| value.as_ref().is_none_or(|w| w == v));
                found == *is
            }
        }
    }
}

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || {
            Error::usage(format!(
                "filter by {s:?}: there are until=TIME, label=KEY[=VALUE] and label!=KEY[=VALUE]"
            ))
        };
        let label = |text: &str, is| {
            let (key, value) = text.split_once('=').map_or((text, None), |(k, v)| (k, Some(v.to_owned())));
            Self::Label { key: key.to_owned(), value, is }
        };
        if let Some(text) = s.strip_prefix("label!=") {
            return Ok(label(text, false));
        }
        match s.split_once('=') {
            Some(("label", text)) => Ok(label(text, true)),
            Some(("until", text)) => {
                let ago = duration(text).map(|d| time::now() - d);
                ago.or_else(|| time::parse(text))
                    .or_else(|| text.parse().ok())
                    .map(Self::Until)
                    .ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

/// Go's durations: `1h30m`, in seconds.
fn duration(text: &str) -> Option<i64> {
    let mut sum = 0i64;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        sum = sum.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && !text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, seconds) in [
            ("24h", Some(86400)),
            ("1h30m5s", Some(5405)),
            ("10", None),
            ("", None),
            ("h", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
