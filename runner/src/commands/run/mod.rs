//! `run IMAGE`: from what was typed to the end of the container. A bundle goes to
//! [`super::bundle`] instead.

mod lookup;
mod made;
mod options;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_store::image::ProcessConfig;
use coracle_store::{Locations, Store, names};
use coracle_sys::process::Status;
use coracle_sys::{Error, Result};

use super::Global;
use lookup::{Base, found};
use made::Made;
use options::{options, root};

use super::life::{Given, Life, Usage};
use crate::cgroups::{self, Lifetime};
use crate::etc;
use crate::foreground::{self, Attended, Signals};
use crate::from_image::flags::Flags;
use crate::from_image::{self, units};
use crate::host::Host;
use crate::json;
use crate::launch::{Ahead, Container};
use crate::network::{self, Who};
use crate::plan::{self, Options};
use crate::record::{self, Exit, Record};
use crate::relay::{Output, Relay, Screen};
use crate::report::{Report, Sink};
use crate::spec::Spec;
use crate::state::{Face, States};
use crate::terminal::Raw;

/// Run it. The exit code is the command's.
pub(crate) fn run(global: &Global, mut flags: Flags, typed: &[String]) -> Result<u8> {
    let mut sink = flags.report.as_deref().map(Sink::open).transpose()?;
    let began = Instant::now();
    let result = if is_of_a_bundle(global, &flags, typed) {
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

/// It names a bundle; or one is in this folder, and it is typed as OCI clients do, who name no command.
fn is_of_a_bundle(global: &Global, flags: &Flags, typed: &[String]) -> bool {
    let clients = global.root.is_some()
        || flags.keep
        || flags.no_pivot
        || flags.no_new_keyring
        || flags.preserve_fds > 0
        || [&flags.pid_file, &flags.console_socket, &flags.pidfd_socket].iter().any(|f| f.is_some());
    flags.bundle.is_some()
        || flags.config.is_some()
        || clients && !flags.rootfs && typed.is_empty() && Path::new("config.json").exists()
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
        detach: false,
        keep: false,
        no_pivot: false,
        pid_file: None,
        console_socket: None,
        pidfd_socket: None,
        preserve_fds: 0,
        no_new_keyring: false,
        report: None,
        timeout: None,
        rm: false,
        ..flags.clone()
    };
    if others != Flags::default() {
        return Err(Error::usage(
            "run --bundle: only --config, --detach, --keep, --report, --timeout, --pid-file, --console-socket, --pidfd-socket, --preserve-fds, --no-new-keyring and --no-pivot go with it, the rest is config.json's to say",
        ));
    }
    let own = super::bundle::Flags {
        config: flags.config.as_ref().map(PathBuf::from),
        root: global.root.clone(),
        groups: global.groups,
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
        keep: flags.keep,
        pid_file: flags.pid_file.clone(),
        console_socket: flags.console_socket.clone(),
        pidfd_socket: flags.pidfd_socket.clone(),
    };
    let dir = Path::new(flags.bundle.as_deref().unwrap_or("."));
    if flags.detach {
        return super::bundle::begin(dir, id, &own, false).map(|()| None);
    }
    let signals = Signals::hold()?;
    super::bundle::run(dir, id, &own, |container, outputs| attend(container, outputs, &signals, flags))
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
    let base = Base::find(global, &mut store, &named, flags)?;
    let id = record::new_id()?;
    let name = flags.name.clone().unwrap_or_else(|| names::made_up(&id));
    let config = base.config();
    if flags.dry_run || flags.dry_run_mode.is_some() {
        let dir = store.main().container(&id);
        let dirs = base.dirs(&store)?;
        let spec =
            from_image::spec(&config, flags, typed, found(&host, &store, &dirs, flags, &config, &id, &[])?)?;
        let groups = cgroups::prepare(&spec, &id, global.groups, Lifetime::ForegroundRun, flags.best_effort)?;
        let root = root(&base, &store, dirs, &dir, flags)?;
        let options = options(&id, &dir, root, flags, &spec, groups.mounted)?;
        let wanted = network::plan(flags, &config, &store, &host)?;
        return print(&spec, flags, &options, &host, &wanted).map(|()| None);
    }
    let wanted = network::plan(flags, &config, &store, &host)?;
    let ahead = wanted.makes_namespace() && !host.needs_user_namespace();
    let network = ahead.then(Ahead::begin).flatten();
    let (dir, _held) = store.new_container(&id, base.image().map(|i| &i.manifest_digest))?;
    let made = Made { store: &store, dir: &dir, name: &name };
    let ended = (|| {
        let dirs = base.applied(global, &store, flags)?;
        let (mounts, fills) = made.mounts(flags, &config)?;
        let found = found(&host, &store, &dirs, flags, &config, &id, &mounts)?;
        let spec = from_image::spec(&config, flags, typed, found)?;
        let groups = cgroups::prepare(&spec, &id, global.groups, Lifetime::ForegroundRun, flags.best_effort)?;
        let root = root(&base, &store, dirs, &dir.path, flags)?;
        let options = options(&id, &dir.path, root, flags, &spec, groups.mounted)?;
        let mut plan = plan::Plan { volumes: fills, ..plan::plan(&spec, &options, &host)? };
        plan.mounts.extend(etc::mounts(&id, &dir.path, flags, &wanted, &spec.mounts));
        wanted.prepare(&dir.path)?;
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
        let attached = std::cell::RefCell::new(network::Attached::default());
        let attach = |pid: i32, namespace: BorrowedFd<'_>| {
            let who = Who { id: &id, name: &name, dir: &dir.path, pid, namespace };
            attached.replace(wanted.attach(&who)?);
            Ok(())
        };
        let life = Life {
            plan: &plan,
            groups: &groups.plan,
            states: &states,
            home: &dir.path,
            streams,
            network,
            attach: wanted.attaches().then_some(&attach),
            guarded: true,
            keep: false,
            oci: None,
        };
        let write = |runner| {
            record.runner = Some(runner);
            record.write(&dir.path)
        };
        let ended = life.live(write, |container, outputs| attend(container, outputs, &signals, flags))?;
        Ok((ended, record))
    })();
    if wanted.attaches()
        && let Err(e) = network::detach(&id)
    {
        coracle_sys::warn!("runner: {}", e.wrap("take the container off its network"));
    }
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
    if flags.detach {
        return Err(Error::unsupported("run -d: containers of images in the background are not there yet"));
    }
    if flags.pid_file.is_some() || flags.console_socket.is_some() || flags.pidfd_socket.is_some() {
        return Err(Error::usage("--pid-file, --console-socket and --pidfd-socket go with --bundle"));
    }
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
    coracle_sys::order::map(flags.label.iter().map(read))
}

/// `--dry-run`.
fn print(spec: &Spec, flags: &Flags, options: &Options, host: &Host, wanted: &network::Plan) -> Result<()> {
    let mut spec = spec.clone();
    let shown = match flags.dry_run_mode.as_deref() {
        None | Some("spec") => {
            let bounding =
                spec.process.as_ref().and_then(|p| p.capabilities.clone()).unwrap_or_default().bounding;
            if let (Some(linux), Some(choice)) = (&mut spec.linux, &options.seccomp) {
                linux.seccomp = choice.profile(&bounding)?;
            }
            json::value(&spec)?
        }
        Some("plan") => {
            let mut shown = json::value(&plan::plan(&spec, options, host)?)?;
            shown["network"] = wanted.json();
            shown
        }
        Some(word) => return Err(Error::usage(format!("--dry-run={word}: it is spec or plan"))),
    };
    coracle_sys::print::json(&shown, true);
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
