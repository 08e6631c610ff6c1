//! A container of an image: made of what was typed, or found again by its record, with all that its next start needs.

pub(crate) mod ending;
mod ids;
pub(crate) mod live;
pub(crate) mod lookup;
pub(crate) mod made;
pub(crate) mod options;
mod secrets;
pub(crate) mod seen;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_store::container::check_name;
use coracle_store::image::ProcessConfig;
use coracle_store::lock::Lock;
use coracle_store::{ContainerDir, Locations, Store, names};
use coracle_sys::{Context, Error, Kind, Result, file, quantity};

use super::{Global, no_such_container};
use crate::cgroups::{self, Lifetime};
use crate::from_image::flags::Flags;
use crate::from_image::userns::{self, Mode};
use crate::from_image::{self, env_file, units, untrusted};
use crate::host::Host;
use crate::log::Limits;
use crate::monitor::restart::Policy;
use crate::mounts::Mount;
use crate::record::{self, Record};
use crate::spec::Spec;
use crate::volumes::Fill;
use crate::{etc, network, plan};
use lookup::{Base, found};
pub(crate) use made::shown;

/// A container whose directory is ours.
pub(crate) struct Made {
    pub(crate) global: Global,
    pub(crate) store: Store,
    pub(crate) dir: ContainerDir,
    pub(crate) flags: Flags,
    pub(crate) record: Record,
    host: Host,
    base: Base,
    /// Volumes that are yet to be filled.
    fills: Vec<Fill>,
    held: Lock,
}

/// A start, decided.
pub(crate) struct Planned {
    pub(crate) plan: plan::Plan,
    pub(crate) groups: cgroups::Plan,
    pub(crate) network: network::Plan,
    /// Where its monitor is to be.
    pub(crate) aside: cgroups::Aside,
}

/// What was typed, with the image that it is about.
pub(crate) struct Wanted<'a> {
    pub(crate) global: &'a Global,
    pub(crate) flags: Flags,
    /// What stands behind the image.
    pub(crate) typed: &'a [String],
    pub(crate) store: Store,
    pub(crate) host: Host,
    pub(crate) base: Base,
    /// The image as it was typed.
    pub(crate) named: String,
}

impl<'a> Wanted<'a> {
    /// Look the image up.
    pub(crate) fn find(global: &'a Global, flags: Flags, typed: &'a [String]) -> Result<Self> {
        let flags = untrusted::spelt_out(flags)?;
        let named = flags.image.clone().ok_or_else(|| {
            Error::usage(
                "run needs an image: runner run [flags] IMAGE [COMMAND] (a bundle: run --bundle DIR ID)",
            )
        })?;
        check(&flags)?;
        let host = Host::probe()?;
        let mut store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
        let base = Base::find(global, &mut store, &named, &flags)?;
        Ok(Self { global, flags, typed, store, host, base, named })
    }
}

impl Wanted<'_> {
    /// Will it have a user namespace of its own?
    pub(crate) fn has_user_namespace(&self) -> bool {
        self.host.needs_user_namespace() || userns::mode(&self.flags).is_ok_and(|mode| mode != Mode::Host)
    }
}

impl Made {
    /// Make one. What was made of it goes again where that fails.
    pub(crate) fn new(wanted: Wanted<'_>) -> Result<Self> {
        let Wanted { global, flags, typed, mut store, host, base, named } = wanted;
        let config = base.config();
        let id = record::new_id()?;
        let name = flags.name.clone().unwrap_or_else(|| names::made_up(&id));
        let (dir, held) = store.new_container(&id, base.image().map(|i| &i.manifest_digest))?;
        let record = Record {
            image: named,
            image_id: base.image().map(|i| i.id().to_string()),
            rm: flags.rm,
            ..Record::new(id.clone(), name)
        };
        let mut made =
            Self { global: global.clone(), store, dir, flags, record, host, base, fills: Vec::new(), held };
        made.decide(&config, typed).inspect_err(|_| made.remove())?;
        Ok(made)
    }

    fn decide(&mut self, config: &ProcessConfig, typed: &[String]) -> Result<()> {
        let flags = &self.flags;
        limit_storage(&self.store, &self.dir, flags)?;
        let dirs = self.base.applied(&self.global, &self.store, flags)?;
        let directory = std::env::current_dir().unwrap_or_default();
        let all = made::mounts(&self.store, &self.dir, flags, config, &directory)?;
        let id = &self.record.id;
        let mut found = found(&self.host, &self.store, &dirs, flags, config, (id, false), &all.mounts)?;
        made::map_ids(&mut found, &all, &self.host)?;
        if found.maps.is_some() && userns::mode(flags)? != Mode::Host {
            refuse_folder(&self.base)?;
        }
        let spec = from_image::spec(config, flags, typed, found)?;
        self.record = Record {
            stop_signal: stop_signal(flags, config)?,
            stop_timeout: stop_timeout(flags, config)?,
            labels: labels(flags, config)?,
            seccomp: options::filter(flags, &spec)?,
            restart: flags.restart.clone().unwrap_or_default(),
            healthcheck: live::healthcheck(flags, config.healthcheck.as_ref())?,
            flags: flags.words(),
            directory,
            spec,
            ..std::mem::take(&mut self.record)
        };
        self.fills = all.fills;
        Ok(())
    }

    /// Find one again, which must not run.
    pub(crate) fn load(global: &Global, typed: &str) -> Result<Self> {
        let store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
        let dir = store.find_container(typed).map_err(|e| match e.kind() {
            Kind::NotFound => no_such_container(typed),
            _ => e,
        })?;
        let mut held = Lock::try_existing(&dir.path)?.filter(|held| held.is_at(&dir.path));
        if held.is_none() && ending::has_ended(&dir.path) {
            held = ending::await_end(&dir, None)?;
        }
        let busy = || Error::new(Kind::Busy, format!("container {typed} is about to start, or to go"));
        let held = held.ok_or_else(busy)?;
        let mut record = Record::read(&dir.path)?;
        let flags = untrusted::spelt_out(Flags::read(&record.flags)?)?;
        let base = match dir.image() {
            None => Base::Folder(PathBuf::from(&record.image)),
            Some(_) => Base::Image(Box::new(store.image_of(&dir)?)),
        };
        // Those of others are in the record, and the others may be gone.
        let own = Flags { volumes_from: Vec::new(), ..flags.clone() };
        let fills = made::mounts(&store, &dir, &own, &base.config(), &record.directory)?.fills;
        limit_storage(&store, &dir, &flags)?;
        // The other container has started anew since then.
        let joined = lookup::joined(&Host::probe()?, &store, &flags)?;
        for namespace in record.spec.linux.iter_mut().flat_map(|l| &mut l.namespaces) {
            if let Some(path) = joined.get(&namespace.kind) {
                namespace.path = Some(path.clone());
            }
        }
        let host = Host::probe()?;
        Ok(Self { global: global.clone(), store, dir, flags, record, host, base, fills, held })
    }

    /// Decide its next start, and make the file of names that others will write into.
    pub(crate) fn plan(&self, lifetime: Lifetime) -> Result<Planned> {
        let (flags, record) = (&self.flags, &self.record);
        let spec = &record.spec;
        // Who names a group wants the container to be in it, with or without limits.
        let lifetime = if flags.cgroup_parent.is_some() { Lifetime::Detached } else { lifetime };
        let name = cgroups::own_name(&record.id);
        let groups =
            cgroups::prepare(spec, &record.id, &name, self.global.groups, lifetime, flags.best_effort)?;
        let dirs = self.base.dirs(&self.store)?;
        let root = options::root(&self.base, &self.store, dirs, &self.dir.path, flags)?;
        let seccomp = record.seccomp.clone();
        let options =
            options::options(&record.id, &self.dir.path, root, flags, spec, groups.mounted, seccomp)?;
        let mut plan =
            plan::Plan { volumes: self.fills.clone(), ..options::decide(spec, &options, &self.host)? };
        let network = network::plan(flags, &self.base.config(), &self.store, &self.host)?;
        plan.mounts.extend(etc::mounts(&record.id, &self.dir.path, flags, &network, &spec.mounts));
        network.prepare(&self.dir.path)?;
        if matches!(userns::mode(flags)?, Mode::KeepId { .. }) {
            plan.mounts.extend(self.passwd(spec)?);
        }
        secrets::add(flags, &record.directory, &mut plan)?;
        Ok(Planned { plan, groups: groups.plan, network, aside: groups.aside })
    }

    /// With the caller's id inside, the image need not know its name.
    fn passwd(&self, spec: &Spec) -> Result<Option<Mount>> {
        let at = Path::new("/etc/passwd");
        let Some(user) = spec.process.as_ref().map(|p| &p.user) else { return Ok(None) };
        if spec.mounts.iter().any(|m| m.destination == at) {
            return Ok(None);
        }
        let text = crate::passwd::read(&self.base.dirs(&self.store)?, "/etc/passwd")?;
        Ok(ids::passwd(&text, user.uid, user.gid).map(|text| Mount::text(at.into(), text)))
    }

    /// How much of its log is kept.
    fn log(&self) -> Result<Option<Limits>> {
        Limits::of(self.flags.log_driver.as_deref(), &self.flags.log_opt)
    }

    /// What becomes of it when it ends.
    fn policy(&self) -> Result<Policy> {
        Policy::parse(&self.record.restart)
    }
}

/// What cannot be, before anything is touched.
fn check(flags: &Flags) -> Result<()> {
    flags.name.as_deref().map_or(Ok(()), |name| check_name("name", name))?;
    timeout(flags)?;
    if flags.pid_file.is_some() || flags.console_socket.is_some() || flags.pidfd_socket.is_some() {
        return Err(Error::usage("--pid-file, --console-socket and --pidfd-socket go with --bundle"));
    }
    if flags.rootfs && flags.scratch.is_some() {
        return Err(Error::usage(
            "--scratch is for images: what is written with --rootfs goes into the folder",
        ));
    }
    if let Some(path) = flags.cidfile.as_ref().filter(|path| Path::new(path).symlink_metadata().is_ok()) {
        return Err(made::in_the_way(path));
    }
    userns::mode(flags)?;
    quota(flags)?;
    let policy = Policy::parse(flags.restart.as_deref().unwrap_or_default())?;
    if policy != Policy::No && flags.rm {
        return Err(Error::usage("conflicting options: cannot specify both --restart and --rm"));
    }
    Limits::of(flags.log_driver.as_deref(), &flags.log_opt)?;
    from_image::shared_words(flags).map(drop)
}

/// `--storage-opt size=SIZE`: how many bytes a container may write to disk.
fn quota(flags: &Flags) -> Result<Option<u64>> {
    let Some(option) = flags.storage_opt.last() else { return Ok(None) };
    let wrong = flags.storage_opt.iter().find(|option| !option.starts_with("size="));
    if let Some(option) = wrong {
        return Err(Error::unsupported(format!(
            "--storage-opt {option:?}: the storage driver has no such option: it is size=SIZE"
        )));
    }
    if flags.rootfs || flags.scratch.is_some() {
        let why = "--storage-opt size= is for what a container of an image writes to disk";
        return Err(Error::usage(format!("{why}: it goes with neither --rootfs nor --scratch")));
    }
    match quantity::size(option.trim_start_matches("size="), "--storage-opt size")? {
        0 => Err(Error::usage("--storage-opt size=0: nothing can be written into nothing")),
        size => Ok(Some(size)),
    }
}

/// Give it, or say what it takes and what else there is.
fn limit_storage(store: &Store, dir: &ContainerDir, flags: &Flags) -> Result<()> {
    let Some(size) = quota(flags)? else { return Ok(()) };
    let option = flags.storage_opt.last().cloned().unwrap_or_default();
    store.limit_container(dir, size).map_err(|e| match e.kind() {
        Kind::Unsupported => Error::unsupported(format!(
            "--storage-opt {option}: {e} (--scratch tmpfs:{} limits what is written, in memory)",
            option.trim_start_matches("size=")
        )),
        _ => e.wrap(format!("--storage-opt {option}")),
    })
}

/// The files of a folder belong to the host's ids.
fn refuse_folder(base: &Base) -> Result<()> {
    match base {
        Base::Folder(_) => Err(Error::unsupported(
            "--userns does not go with --rootfs: a folder's files belong to the host's ids, an image's are mapped",
        )),
        Base::Image(_) => Ok(()),
    }
}

/// `--timeout`.
pub(crate) fn timeout(flags: &Flags) -> Result<Option<Duration>> {
    flags.timeout.as_deref().map(|t| units::duration(t, "--timeout")).transpose()
}

fn stop_signal(flags: &Flags, config: &ProcessConfig) -> Result<i32> {
    units::signal(flags.stop_signal.as_deref().or(config.stop_signal.as_deref()).unwrap_or("TERM"))
}

/// Seconds; -1 is for ever.
fn stop_timeout(flags: &Flags, config: &ProcessConfig) -> Result<Option<i64>> {
    match flags.stop_timeout {
        Some(..-1) => Err(Error::flag("--stop-timeout: it is a number of seconds, or -1 for ever")),
        Some(said) => Ok(Some(said)),
        None => Ok(config.stop_timeout.and_then(|t| i64::try_from(t).ok())),
    }
}

/// The image's, and what `--label` adds to them.
fn labels(flags: &Flags, config: &ProcessConfig) -> Result<BTreeMap<String, String>> {
    let mut all = config.labels.clone().unwrap_or_default();
    let mut texts = Vec::new();
    for path in &flags.label_file {
        let bytes = file::read(Path::new(path)).context(|| "--label-file")?;
        texts.extend(env_file::read("label file", path, &bytes, &|_| None)?);
    }
    for text in texts.iter().chain(&flags.label) {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Error::usage(format!("--label {text:?}: it is NAME=VALUE")));
        }
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

/// The directory of the container that is meant.
pub(crate) fn find(store: &Store, typed: &str) -> Result<ContainerDir> {
    store.find_container(typed).map_err(|e| match e.kind() {
        Kind::NotFound => no_such_container(typed),
        _ => e,
    })
}

/// The store that is meant.
pub(crate) fn store(global: &Global) -> Result<Store> {
    Store::open(&Locations::from_env(global.store.as_deref())?)
}
