//! `run IMAGE`: from what was typed to the end of the container. A bundle goes to
//! [`super::run_bundle`] instead.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_store::driver::overlay;
use coracle_store::image::ProcessConfig;
use coracle_store::{ContainerDir, Image, Locations, Store, names};
use coracle_sys::process::Status;
use coracle_sys::{Context, Error, Kind, Result, file, terminal as tty};

use super::Global;
use super::life::{Given, Life, Usage};
use crate::cgroups::{self, Lifetime};
use crate::foreground::{self, Attended, Signals};
use crate::from_image::flags::Flags;
use crate::from_image::mounts::{self, Asked};
use crate::from_image::{self, Found, units, user};
use crate::host::{self, Host};
use crate::json;
use crate::launch::{Ahead, Container};
use crate::mounts::Hierarchy;
use crate::plan::{self, Options};
use crate::process::Init;
use crate::record::{self, Exit, Record};
use crate::relay::{Output, Relay, Screen};
use crate::report::{Report, Sink};
use crate::rootfs::{Layers, Source, Top};
use crate::seccomp::{self, Choice};
use crate::spec::{IdMapping, Mount, Spec};
use crate::state::{Face, States};
use crate::terminal::Raw;
use crate::volumes::{self, Fill};
use crate::{etc, passwd};

/// Run it. The exit code is the command's.
pub(crate) fn run(global: &Global, mut flags: Flags, typed: &[String]) -> Result<u8> {
    let mut sink = flags.report.as_deref().map(Sink::open).transpose()?;
    let began = Instant::now();
    let result = if flags.bundle.is_some() || flags.config.is_some() {
        bundle(global, &flags, typed)
    } else {
        image(global, &mut flags, typed)
    };
    let report = match result {
        Ok(Some((attended, usage))) => {
            let report = Report::of(&attended.ending, attended.timed_out, began.elapsed());
            report.with_usage(&usage.stats, usage.dropped)
        }
        Ok(None) => return Ok(0),
        Err(e) => {
            if let Some(sink) = &mut sink {
                sink.write(&Report::of_error(&e, super::exit_code(&e)))?;
            }
            return Err(e);
        }
    };
    if report.cause == "timeout" {
        coracle_sys::warn!(
            "runner: the container was killed: its time of {} was over",
            flags.timeout.unwrap_or_default()
        );
    }
    if report.cause == "oom" {
        coracle_sys::warn!("runner: the container was killed: it needed more than its memory limit");
    }
    if let Some(sink) = &mut sink {
        sink.write(&report)?;
    }
    Ok(report.code)
}

/// `run --bundle DIR ID`.
fn bundle(global: &Global, flags: &Flags, typed: &[String]) -> Result<Option<(Attended, Usage)>> {
    let id = flags.image.as_deref().ok_or_else(|| Error::usage("run --bundle DIR ID: the id is missing"))?;
    if !typed.is_empty() {
        return Err(Error::usage("run --bundle DIR ID: the command is the bundle's, say none"));
    }
    let others = Flags {
        bundle: None,
        config: None,
        image: None,
        preserve_fds: 0,
        no_new_keyring: false,
        report: None,
        timeout: None,
        rm: false,
        ..flags.clone()
    };
    if others != Flags::default() {
        return Err(Error::usage(
            "run --bundle: only --config, --report, --timeout, --preserve-fds and --no-new-keyring go with it, the rest is config.json's to say",
        ));
    }
    let own = super::run_bundle::Flags {
        config: flags.config.as_ref().map(PathBuf::from),
        root: global.root.clone(),
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
    };
    let signals = Signals::hold()?;
    let dir = Path::new(flags.bundle.as_deref().unwrap_or("."));
    super::run_bundle::run(dir, id, &own, |container, outputs| attend(container, outputs, &signals, flags))
        .map(Some)
}

/// `run IMAGE` and `run --rootfs DIR`.
fn image(global: &Global, flags: &mut Flags, typed: &[String]) -> Result<Option<(Attended, Usage)>> {
    let named = flags.image.clone().ok_or_else(|| {
        Error::usage("run needs an image: runner run [flags] IMAGE [COMMAND] (a bundle: run --bundle DIR ID)")
    })?;
    check(flags)?;
    let host = Host::probe()?;
    let mut store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
    let base = Base::find(&store, &named, flags.rootfs)?;
    let id = record::new_id()?;
    let name = flags.name.clone().unwrap_or_else(|| names::made_up(&id));
    let config = base.config();
    if flags.dry_run || flags.dry_run_mode.is_some() {
        let dir = store.main().container(&id);
        let spec =
            from_image::spec(&config, flags, typed, found(&host, &store, &base, flags, &config, &id, &[])?)?;
        let groups = cgroups::prepare(&spec, &id, Lifetime::ForegroundRun, flags.best_effort)?;
        let options = options(&id, &dir, &base, &store, flags, &spec, groups.mounted)?;
        return print(&spec, flags, &options, &host).map(|()| None);
    }
    let own_network = from_image::shared_words(flags)?[0].2 == "none" && !host.needs_user_namespace();
    let network = own_network.then(Ahead::begin).flatten();
    let (dir, _held) = store.new_container(&id, base.image().map(|i| &i.manifest_digest))?;
    let made = Made { store: &store, dir: &dir, name: &name };
    let ended = (|| {
        let (mounts, fills) = made.mounts(flags, &config)?;
        let found = found(&host, &store, &base, flags, &config, &id, &mounts)?;
        let spec = from_image::spec(&config, flags, typed, found)?;
        let groups = cgroups::prepare(&spec, &id, Lifetime::ForegroundRun, flags.best_effort)?;
        let options = options(&id, &dir.path, &base, &store, flags, &spec, groups.mounted)?;
        let mut plan = plan::Plan { volumes: fills, ..plan::plan(&spec, &options, &host)? };
        plan.mounts.extend(etc::mounts(&id, flags, &spec.mounts));
        made.name_it(&id, flags)?;
        let mut record = Record {
            image: named.clone(),
            image_id: base.image().map(|i| i.id().to_string()),
            rm: flags.rm,
            stop_signal: stop_signal(flags, &config)?,
            labels: labels(flags)?,
            seccomp: options.seccomp.clone().unwrap_or_default(),
            spec,
            ..Record::new(id.clone(), name.clone())
        };
        let states = States::of(Face::Image, None)?;
        let streams = if flags.tty { Given::Terminal } else { Given::Pipes { input: flags.interactive } };
        let signals = Signals::hold()?;
        let life = Life {
            plan: &plan,
            groups: &groups.plan,
            states: &states,
            home: &dir.path,
            streams,
            network,
            guarded: true,
        };
        let write = |runner| {
            record.runner = Some(runner);
            record.write(&dir.path)
        };
        let ended = life.live(write, |container, outputs| attend(container, outputs, &signals, flags))?;
        Ok((ended, record))
    })();
    let ((attended, usage), mut record) = ended.inspect_err(|_| made.remove())?;
    if flags.rm {
        made.remove();
    } else {
        let code = match attended.ending.ended.status {
            Status::Exited(code) => code,
            Status::Signaled(signal) => 128 + signal,
        };
        record.exit = Some(Exit { code, at: record::now() });
        // The command's own end is what the caller asked for.
        if let Err(e) = record.write(&dir.path) {
            coracle_sys::warn!("runner: {}", e.wrap("write down how the container ended"));
        }
    }
    Ok(Some((attended, usage)))
}

/// What cannot be, before anything is touched.
fn check(flags: &Flags) -> Result<()> {
    if flags.tty && flags.interactive && !std::io::stdin().is_terminal() {
        return Err(Error::usage("the input device is not a TTY (leave out -t)"));
    }
    timeout(flags)?;
    if flags.rootfs && flags.scratch.is_some() {
        return Err(Error::usage(
            "--scratch is for images: what is written with --rootfs goes into the folder",
        ));
    }
    from_image::shared_words(flags).map(drop)
}

fn timeout(flags: &Flags) -> Result<Option<Duration>> {
    flags.timeout.as_deref().map(|t| units::duration(t, "--timeout")).transpose()
}

/// What the container's root is made of.
enum Base {
    Image(Box<Image>),
    Folder(PathBuf),
}

impl Base {
    fn find(store: &Store, named: &str, folder: bool) -> Result<Self> {
        if folder {
            let path =
                std::fs::canonicalize(named).context(|| format!("open({named:?})")).context(|| "--rootfs")?;
            return match path.is_dir() && path != Path::new("/") {
                true => Ok(Self::Folder(path)),
                false => {
                    Err(Error::usage(format!("--rootfs {named:?}: it is a folder, and not the host's root")))
                }
            };
        }
        match store.resolve(named) {
            Ok(image) => Ok(Self::Image(Box::new(image))),
            Err(e) if e.kind() == Kind::NotFound && Path::new("config.json").exists() => {
                Err(e.wrap("find the image (for the bundle in this folder: runner run --bundle . ID)"))
            }
            Err(e) if e.kind() == Kind::NotFound => Err(Error::not_found(format!(
                "no such image: {named} (rootfs-tool images lists those that are here, rootfs-tool compose makes one)"
            ))),
            other => other.map(|i| Self::Image(Box::new(i))),
        }
    }

    fn image(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            Self::Folder(_) => None,
        }
    }

    fn config(&self) -> ProcessConfig {
        self.image().and_then(|i| i.config.config.clone()).unwrap_or_default()
    }

    /// The directories of the root, lowest first.
    fn dirs(&self, store: &Store) -> Result<Vec<PathBuf>> {
        match self {
            Self::Image(image) => store.stack_paths(image.diff_ids()),
            Self::Folder(path) => Ok(vec![path.clone()]),
        }
    }
}

/// What is there of a container before its process is, and how it goes again.
struct Made<'a> {
    store: &'a Store,
    dir: &'a ContainerDir,
    name: &'a str,
}

impl Made<'_> {
    /// The mounts that were asked for, their folders made, and the volumes that are to be filled.
    fn mounts(&self, flags: &Flags, config: &ProcessConfig) -> Result<(Vec<Mount>, Vec<Fill>)> {
        volumes::make(self.store, self.dir, &asked(flags, config)?)
    }

    fn name_it(&self, id: &str, flags: &Flags) -> Result<()> {
        let Some(name) = &flags.name else { return Ok(()) };
        self.store.claim_name(name, id).map_err(|e| match e.kind() {
            Kind::Exists => Error::new(
                Kind::Exists,
                format!("the container name {name:?} is already in use (runner rm {name} frees it)"),
            ),
            _ => e,
        })?;
        if let Some(path) = &flags.cidfile {
            use std::io::Write;
            let mut options = std::fs::File::options();
            let file = options.write(true).create_new(true).open(path);
            file.and_then(|mut f| f.write_all(id.as_bytes()))
                .context(|| format!("open({path:?}, O_CREAT|O_EXCL)"))
                .context(|| "--cidfile")?;
        }
        Ok(())
    }

    /// Take it all away. The container has ended: what goes wrong here is for a sweep to mend.
    fn remove(&self) {
        let _ = self.store.release_name(self.name, &self.dir.id);
        if let Err(e) = super::remove_files(self.store, &self.dir.id) {
            coracle_sys::warn!("runner: {}", e.wrap("remove the container's files"));
        }
    }
}

/// All that is to be mounted, the image's volumes first: what comes later for the same place replaces it.
fn asked(flags: &Flags, config: &ProcessConfig) -> Result<Vec<Asked>> {
    // Where it was removed, only what is relative to it cannot be had.
    let here = std::env::current_dir().unwrap_or_default();
    let mut all: Vec<Asked> = Vec::new();
    let image = config.volumes.iter().flatten().map(|(at, _)| mounts::image_volume(at));
    let typed = flags.volume.iter().map(|text| mounts::volume(text, &here));
    let typed = typed.chain(flags.mount.iter().map(|text| mounts::mount(text, &here)));
    for next in image.chain(typed).chain(flags.tmpfs.iter().map(|text| mounts::tmpfs(text))) {
        let next = next?;
        all.retain(|a| a.at != next.at);
        all.push(next);
    }
    Ok(all)
}

/// Everything that has to be looked up for the specification.
fn found(
    host: &Host,
    store: &Store,
    base: &Base,
    flags: &Flags,
    config: &ProcessConfig,
    id: &str,
    mounts: &[Mount],
) -> Result<Found> {
    let dirs = base.dirs(store)?;
    let text = |path: &str| passwd::read(&dirs, path).context(|| format!("read the image's {path}"));
    let typed = flags.user.as_deref().or(config.user.as_deref()).unwrap_or_default();
    let who = user::resolve(typed, &flags.group_add, &text("/etc/passwd")?, &text("/etc/group")?)?;
    let mut joined = BTreeMap::new();
    for (kind, _, word) in from_image::shared_words(flags)? {
        if let Some(named) = word.strip_prefix("container:") {
            if host.needs_user_namespace() {
                return Err(Error::unsupported(format!(
                    "{word}: an ordinary user's containers each have a user namespace, and do not share others yet"
                )));
            }
            joined.insert(kind.to_owned(), namespace_of(store, named, kind)?);
        }
    }
    let env_files = flags.env_file.iter().map(|path| {
        let bytes = file::read(Path::new(path)).context(|| "--env-file")?;
        String::from_utf8(bytes).map_err(|_| Error::invalid(format!("--env-file {path:?}: it is not UTF-8")))
    });
    Ok(Found {
        id: id.to_owned(),
        who,
        mounts: mounts.to_vec(),
        swap_counted: flags.memory.is_some() && cgroups::counts_swap(),
        maps: host.needs_user_namespace().then(own_maps),
        ours: host.grantable(),
        window: tty::window_size(std::io::stdin().as_fd()).unwrap_or_default(),
        modules: if flags.security_opt.is_empty() { String::new() } else { host::security_modules() },
        cpus: host::processors(),
        joined,
        variable: |name| std::env::var(name).ok(),
        env_files: env_files.collect::<Result<_>>()?,
    })
}

/// The namespace of another container of ours, which runs.
fn namespace_of(store: &Store, named: &str, kind: &str) -> Result<PathBuf> {
    let id =
        store.find_container(named).map_err(|_| Error::not_found(format!("no such container: {named}")))?.id;
    let state = States::of(Face::Image, None)?.read(&id);
    let state = state.ok().filter(|s| s.init.is_alive());
    let state = state.ok_or_else(|| Error::invalid(format!("the container {named} does not run")))?;
    let file = if kind == "network" { "net" } else { kind };
    Ok(format!("/proc/{}/ns/{file}", state.init.pid).into())
}

/// The maps of an ordinary user's containers.
fn own_maps() -> (Vec<IdMapping>, Vec<IdMapping>) {
    let maps = coracle_sys::idmap::plan(&coracle_sys::idmap::Grant::of_this_user());
    let list = |ranges: &[coracle_sys::idmap::Range]| {
        let one = |r: &coracle_sys::idmap::Range| IdMapping {
            container_id: r.inside,
            host_id: r.outside,
            size: r.count,
        };
        ranges.iter().map(one).collect()
    };
    (list(&maps.uids), list(&maps.gids))
}

/// What the specification does not say.
fn options(
    id: &str,
    dir: &Path,
    base: &Base,
    store: &Store,
    flags: &Flags,
    spec: &Spec,
    cgroup_v1: Option<Vec<Hierarchy>>,
) -> Result<Options> {
    let root = match base {
        Base::Folder(path) => Source::Directory(path.clone()),
        Base::Image(_) => Source::Layers(Layers {
            lower: store.mount_points().into_iter().chain(base.dirs(store)?).collect(),
            top: top(dir, flags)?,
            userxattr: overlay::Options::of_this_process(false).userxattr,
        }),
    };
    let argv0 = spec.process.as_ref().and_then(|p| p.args.first()).map_or("", String::as_str);
    Ok(Options {
        id: id.to_owned(),
        bundle: dir.to_path_buf(),
        root: Some(root),
        init: init(flags, argv0)?,
        die_with_parent: true,
        new_keyring: true,
        preserve_fds: flags.preserve_fds,
        cgroup_v1,
        seccomp: Some(filter(flags, spec)?),
    })
}

/// `--security-opt seccomp=`; a privileged container has none unless it is asked for.
fn filter(flags: &Flags, spec: &Spec) -> Result<Choice> {
    let mut words =
        flags.security_opt.iter().rev().filter_map(|w| w.strip_prefix("seccomp")?.strip_prefix(['=', ':']));
    match words.next() {
        None if flags.privileged => Ok(Choice::Unconfined),
        None | Some("builtin") => Ok(Choice::Default),
        Some("unconfined") => Ok(Choice::Unconfined),
        Some(path) => {
            let read = || {
                let text = String::from_utf8(file::read(Path::new(path))?)
                    .map_err(|_| Error::invalid("it is not UTF-8"))?;
                let system = nix::sys::utsname::uname().context(|| "uname()")?;
                let kernel = system.release().to_string_lossy().into_owned();
                let sets = spec.process.as_ref().and_then(|p| p.capabilities.as_ref());
                let profile = seccomp::load(&text, sets.map_or(&[], |s| &s.bounding), &kernel)?;
                seccomp::compile(&profile).map(|_| profile)
            };
            read().map(Choice::Profile).context(|| format!("read the seccomp profile {path}"))
        }
    }
}

/// Where the container writes.
fn top(dir: &Path, flags: &Flags) -> Result<Top> {
    match flags.scratch.as_deref().map(|s| s.split_once(':').unwrap_or((s, ""))) {
        None => Ok(Top::Upper { upper: dir.join("upper"), work: dir.join("work"), volatile: flags.rm }),
        Some(("tmpfs", "")) => Ok(Top::Scratch { size: None }),
        Some(("tmpfs", size)) => match units::size(size, "--scratch")? {
            0 => Err(Error::usage("--scratch tmpfs:0: nothing can be written into nothing")),
            size => Ok(Top::Scratch { size: Some(size) }),
        },
        Some(_) => Err(Error::usage("--scratch: it is tmpfs[:SIZE]")),
    }
}

/// `--init-opt`: those of init's options by which a container's PID 1 differs. What init refuses it refuses
/// with an exit code that could be the command's.
fn check_init_option(option: &str) -> Result<()> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let signal = |name: &str| name == "0" || units::signal(name).is_ok();
    let known = match option.split_once('=') {
        None => option == "wait-all",
        Some(("grace" | "drain", seconds)) => number(seconds),
        Some(("rewrite", pair)) => pair.split_once(':').is_some_and(|(from, to)| signal(from) && signal(to)),
        Some(_) => false,
    };
    match known {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "--init-opt {option:?}: it is wait-all, grace=SECONDS, drain=SECONDS or rewrite=SIGNAL:SIGNAL"
        ))),
    }
}

/// Whether our init is PID 1: not in front of another one, unless it is asked for.
fn init(flags: &Flags, argv0: &str) -> Result<Init> {
    if flags.no_init && (flags.init || flags.init_mode.is_some()) {
        return Err(Error::usage("--init and --no-init exclude each other"));
    }
    let mode = match (flags.init, flags.init_mode.as_deref()) {
        _ if flags.no_init => false,
        (true, None | Some("always")) | (false, Some("always")) => true,
        (false, Some("never")) => false,
        (false, None | Some("auto")) => !is_an_init(argv0),
        (_, Some(word)) => return Err(Error::usage(format!("--init={word}: it is auto, always or never"))),
    };
    if !mode && !flags.init_opt.is_empty() {
        return Err(Error::usage("--init-opt: init is not run here (see --init)"));
    }
    flags.init_opt.iter().try_for_each(|option| check_init_option(option))?;
    let options = flags.init_opt.iter().map(|option| match option.split_once('=') {
        Some((name, value)) => [format!("--{name}"), value.to_owned()].to_vec(),
        None => vec![format!("--{option}")],
    });
    Ok(if mode { Init::Pid1(options.flatten().collect()) } else { Init::ExecOnly })
}

fn is_an_init(argv0: &str) -> bool {
    let name = argv0.rsplit('/').next().unwrap_or(argv0);
    argv0 == "/init"
        || argv0.ends_with("/sbin/init")
        || matches!(
            name,
            "systemd" | "s6-svscan" | "tini" | "tini-static" | "dumb-init" | "catatonit" | "docker-init"
        )
}

fn stop_signal(flags: &Flags, config: &ProcessConfig) -> Result<i32> {
    units::signal(flags.stop_signal.as_deref().or(config.stop_signal.as_deref()).unwrap_or("TERM"))
}

fn labels(flags: &Flags) -> Result<BTreeMap<String, String>> {
    let read = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        match name {
            "" => Err(Error::usage(format!("--label {text:?}: it is NAME=VALUE"))),
            name => Ok((name.to_owned(), value.to_owned())),
        }
    };
    flags.label.iter().map(read).collect()
}

/// `--dry-run`.
fn print(spec: &Spec, flags: &Flags, options: &Options, host: &Host) -> Result<()> {
    let mut spec = spec.clone();
    let text = match flags.dry_run_mode.as_deref() {
        None | Some("spec") => {
            let bounding =
                spec.process.as_ref().and_then(|p| p.capabilities.clone()).unwrap_or_default().bounding;
            if let (Some(linux), Some(choice)) = (&mut spec.linux, &options.seccomp) {
                linux.seccomp = choice.profile(&bounding)?;
            }
            json::pretty(&spec)
        }
        Some("plan") => json::pretty(&plan::plan(&spec, options, host)?),
        Some(word) => return Err(Error::usage(format!("--dry-run={word}: it is spec or plan"))),
    };
    coracle_sys::say!("{}", text?);
    Ok(())
}

/// The container's terminal is shown on ours; keys are passed on with -i.
fn attend(
    mut container: Container,
    outputs: Vec<Output>,
    signals: &Signals,
    flags: &Flags,
) -> Result<Attended> {
    let stdin = std::io::stdin();
    let screen = match container.console() {
        None => None,
        Some(master) => {
            let input = flags.interactive || flags.bundle.is_some();
            let raw = (input && stdin.is_terminal()).then(|| Raw::take(&stdin)).transpose()?;
            Some(Screen { master, raw, input })
        }
    };
    foreground::attend(&container, signals, Relay::new(screen, outputs)?, timeout(flags)?)
}
