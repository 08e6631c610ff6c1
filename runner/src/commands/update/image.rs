//! `update` of containers of images: of one that runs at once, and of every one in its record, by which it starts next time.

use coracle_store::Store;
use coracle_sys::{Error, Result};

use super::{change, parse};
use crate::cgroups::{self, Cgroup, Layout};
use crate::commands::container::ending::hold;
use crate::commands::typed::Typed;
use crate::commands::{Global, container};
use crate::diary::{self, Event};
use crate::from_image::flags::Flags;
use crate::from_image::units;
use crate::host;
use crate::monitor::restart::Policy;
use crate::record::{self, Record};
use crate::spec::LinuxResources;

/// Change each.
pub(super) fn run(global: &Global, typed: &Typed) -> Result<u8> {
    let mut wanted = change(typed)?;
    if let Some(cpus) = typed.get("--cpus") {
        if typed.get("--cpu-quota").is_some() || typed.get("--cpu-period").is_some() {
            return Err(Error::usage("--cpus sets --cpu-period and --cpu-quota: say one or the others"));
        }
        if let Some(millionths) = units::cpus(cpus, host::online_processors())? {
            let text = format!("{{\"cpu\":{{\"period\":100000,\"quota\":{}}}}}", millionths / 10);
            wanted = cgroups::merge(&wanted, &parse(text.as_bytes())?)?;
        }
    }
    let policy = typed.get("--restart");
    policy.map(Policy::parse).transpose()?;
    let store = container::store(global)?;
    typed.each(|word| one(&store, word, &wanted, policy, typed))
}

fn one(
    store: &Store,
    named: &str,
    wanted: &LinuxResources,
    policy: Option<&str>,
    typed: &Typed,
) -> Result<()> {
    let dir = container::find(store, named)?;
    let (_held, state) = hold(&dir)?;
    let changed = record::change(&dir.path, &mut |record| {
        if let Some(policy) = policy {
            if record.rm && Policy::parse(policy)? != Policy::No {
                return Err(Error::invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            record.restart = policy.to_owned();
        }
        let had = record.spec.linux.get_or_insert_default().resources.take().unwrap_or_default();
        let merged = cgroups::merge(&had, wanted)?;
        check(&had, wanted)?;
        if let Some(state) = state.as_ref().filter(|_| merged != had) {
            Cgroup::open(state.cgroups.clone())?.set(&had, &merged, &Layout::probe()?)?;
        }
        record.spec.linux.get_or_insert_default().resources = Some(merged);
        tell_processors(record, typed)
    });
    let told = |record: Record| diary::tell(&dir.path, &record, &[Event::plain("update")]);
    changed.map(told).map_err(|e| e.wrap(format!("update the container {named}")))
}

/// Memory and swap together are no less than memory, and that is as much as a start takes.
fn check(had: &LinuxResources, wanted: &LinuxResources) -> Result<()> {
    let least = |bytes: Option<i64>| bytes.is_some_and(|n| (1..6 << 20).contains(&n));
    if wanted.memory.as_ref().is_some_and(|m| least(m.limit)) {
        return Err(Error::usage("--memory: at least 6m are needed"));
    }
    let now = |of: &LinuxResources| of.memory.as_ref().map(|m| (m.limit.unwrap_or(0), m.swap.unwrap_or(0)));
    let ((_, had), (limit, swap)) = (now(had).unwrap_or_default(), now(wanted).unwrap_or_default());
    let together = if swap == 0 { had } else { swap };
    if limit > 0 && together > 0 && limit > together {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(())
}

/// `inspect` tells processors where processors were said, and a quota where that was.
fn tell_processors(record: &mut Record, typed: &Typed) -> Result<()> {
    if ["--cpus", "--cpu-quota", "--cpu-period"].iter().any(|flag| typed.get(flag).is_some()) {
        let mut flags = Flags::read(&record.flags)?;
        flags.cpus = typed.get("--cpus").map(str::to_owned);
        (flags.cpu_quota, flags.cpu_period) = (None, None);
        record.flags = flags.words();
    }
    Ok(())
}
