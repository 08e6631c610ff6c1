//! `run IMAGE`: from what was typed to the end of the container. A bundle goes to
//! [`super::bundle`] instead.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use coracle_sys::{Error, Result};
use serde_json::Value;

use super::Global;
use super::attach::How;
use super::container::lookup::found;
use super::container::options::{decide, filter, options, root};
use super::container::{self, Made, Wanted, timeout};
use super::life::Usage;
use crate::attach::{Outcome, Shows, keys};
use crate::cgroups::{self, Lifetime};
use crate::foreground::{self, Attended, Signals};
use crate::from_image;
use crate::from_image::flags::Flags;
use crate::host::Host;
use crate::json;
use crate::launch::{Ahead, Container};
use crate::network;
use crate::own_file;
use crate::plan::Options;
use crate::record;
use crate::relay::{Output, Relay, Screen};
use crate::report::{Report, Sink};
use crate::spec::Spec;
use crate::state::{Face, States};
use coracle_sys::raw::Raw;

/// Run it. The exit code is the command's.
pub(crate) fn run(global: &Global, flags: Flags, typed: &[String]) -> Result<u8> {
    if may_be_seen(&flags) {
        own_file::shield()?;
    }
    let mut sink = flags.report.as_deref().map(Sink::open).transpose()?;
    let began = Instant::now();
    let result = if is_of_a_bundle(global, &flags, typed) {
        bundle(global, &flags, typed)
    } else {
        image(global, flags.clone(), typed)
    };
    let report = match result {
        Ok(Some(Told::Here(lived))) => {
            let (attended, usage) = *lived;
            let report = Report::of(&attended.ending, attended.timed_out, began.elapsed());
            let mut report = report.with_usage(&usage.stats, usage.dropped, usage.ran_out);
            report.confined = usage.confined;
            report.json()?
        }
        Ok(Some(Told::ByAttaching(Outcome::Ended(_, report)))) => report,
        Ok(Some(Told::ByAttaching(other))) => return Ok(other.code()),
        Ok(None) => return Ok(0),
        Err(e) => {
            if let Some(sink) = &mut sink {
                sink.write(&Report::of_error(&e, super::exit_code(&e)).json()?)?;
            }
            return Err(e);
        }
    };
    let told: Value = serde_json::from_slice(&report).map_err(|e| Error::invalid(e.to_string()))?;
    match told["cause"].as_str() {
        Some("timeout") => coracle_sys::warn!(
            "runner: the container was killed: its time of {} was over",
            flags.timeout.unwrap_or_default()
        ),
        Some("oom") => {
            coracle_sys::warn!("runner: the container was killed: it needed more than its memory limit");
        }
        _ if told["oomKills"].is_u64() => coracle_sys::warn!(
            "runner: a process of the container was killed: it needed more than the container's memory limit"
        ),
        _ => {}
    }
    if let Some(sink) = &mut sink {
        sink.write(&report)?;
    }
    Ok(told["code"].as_u64().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Whether its first process, before it is the command, is seen by others who may look into it.
fn may_be_seen(flags: &Flags) -> bool {
    let traces =
        |name: &String| matches!(name.to_ascii_uppercase().trim_start_matches("CAP_"), "ALL" | "SYS_PTRACE");
    flags.privileged
        || flags.cap_add.iter().any(traces)
        || flags.pid.as_deref().is_some_and(|pid| pid.starts_with("container:"))
}

/// How a container ended that we were attached to.
enum Told {
    /// It was ours.
    Here(Box<(Attended, Usage)>),
    /// It has a monitor, which reports it.
    ByAttaching(Outcome),
}

impl Told {
    #[allow(clippy::unnecessary_wraps)] // there is nothing to tell of one that was left
    fn here((attended, usage): (Attended, Usage)) -> Option<Self> {
        Some(Self::Here(Box::new((attended, usage))))
    }
}

/// It names a bundle; or one is in this folder, and it is typed as OCI clients do, who name no command.
fn is_of_a_bundle(global: &Global, flags: &Flags, typed: &[String]) -> bool {
    if let Some(said) = global.guise.means_bundles() {
        return said;
    }
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

/// `run ID --bundle DIR`, as runc takes it too. A command whose flag is called so has no bundle there.
pub(crate) fn names_its_bundle_behind(words: &[OsString]) -> bool {
    let word = |n: usize| words.get(n).and_then(|word| word.to_str()).unwrap_or_default();
    let dir = match word(1) {
        "-b" | "--bundle" => word(2),
        other => other.strip_prefix("--bundle=").unwrap_or_default(),
    };
    !word(0).starts_with('-') && !dir.is_empty() && Path::new(dir).join("config.json").exists()
}

/// `run --bundle DIR ID`.
fn bundle(global: &Global, flags: &Flags, typed: &[String]) -> Result<Option<Told>> {
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
    super::bundle::run(dir, id, &own, |container, outputs, signals| {
        attend(container, outputs, signals, flags)
    })
    .map(Told::here)
}

/// `run IMAGE` and `run --rootfs DIR`.
fn image(global: &Global, flags: Flags, typed: &[String]) -> Result<Option<Told>> {
    if flags.tty && flags.interactive && !flags.detach && !std::io::stdin().is_terminal() {
        return Err(Error::usage("the input device is not a TTY (leave out -t)"));
    }
    let shows = shows(&flags)?;
    let wanted = Wanted::find(global, flags, typed)?;
    if wanted.flags.dry_run || wanted.flags.dry_run_mode.is_some() {
        return show(&wanted).map(|()| None);
    }
    if wanted.flags.detach {
        let made = Made::new(wanted)?;
        made.name_it().inspect_err(|_| made.remove())?;
        let id = made.record.id.clone();
        made.background(true)?;
        coracle_sys::say!("{id}");
        return Ok(None);
    }
    if is_supervised(&wanted.flags) {
        return attached(Made::new(wanted)?, shows).map(|outcome| Some(Told::ByAttaching(outcome)));
    }
    let ahead = network(&wanted)?.makes_namespace() && !wanted.has_user_namespace();
    let network = ahead.then(Ahead::begin).flatten();
    let made = Made::new(wanted)?;
    let planned = made.plan(Lifetime::ForegroundRun).inspect_err(|_| made.remove())?;
    made.name_it().inspect_err(|_| made.remove())?;
    let signals = Signals::hold()?;
    let flags = made.flags.clone();
    let attend = |container, outputs| attend(container, outputs, &signals, &flags);
    made.foreground(&planned, network, attend).map(Told::here)
}

/// Whether a container in front of its caller has a monitor all the same: it can be left, or what was asked for is what
/// monitors do.
fn is_supervised(flags: &Flags) -> bool {
    flags.tty
        || flags.restart.as_deref().is_some_and(|policy| policy != "no")
        || flags.log_driver.is_some()
        || !flags.log_opt.is_empty()
        || flags.health_cmd.is_some()
        || flags.detach_keys.is_some()
        // What is not shown is in its log.
        || !flags.attach.is_empty()
        || flags.no_sig_proxy
}

/// What `--attach` says is shown.
pub(crate) fn shows(flags: &Flags) -> Result<Shows> {
    let words: Vec<String> = flags.attach.iter().map(|word| word.to_lowercase()).collect();
    let known = |word: &&String| !matches!(word.as_str(), "stdin" | "stdout" | "stderr");
    if let Some(wrong) = words.iter().find(known) {
        return Err(Error::usage(format!("--attach {wrong:?}: it is stdin, stdout or stderr")));
    }
    if flags.detach && !words.is_empty() {
        return Err(Error::usage("conflicting options: cannot specify both --attach and --detach"));
    }
    let said = |stream: &str| words.is_empty() || words.iter().any(|word| word == stream);
    Ok(Shows { output: said("stdout"), error: said("stderr") })
}

/// Start it with a monitor, and stay attached.
fn attached(made: Made, shows: Shows) -> Result<Outcome> {
    made.name_it().inspect_err(|_| made.remove())?;
    let (flags, record) = (&made.flags, &made.record);
    let how = How {
        terminal: flags.tty,
        input: flags.interactive,
        leave: keys(flags.detach_keys.as_deref()).inspect_err(|_| made.remove())?,
        shows,
        signals: !flags.no_sig_proxy,
    };
    let (id, name) = (record.id.clone(), record.name.clone());
    let client = made.attached(true, true)?;
    // One that has ended already needs no signals.
    let init = States::of(Face::Image, None)?.read(&id).map(|s| s.init).unwrap_or_default();
    how.stay(&client, init, &name)
}

/// `--dry-run`.
fn show(wanted: &Wanted<'_>) -> Result<()> {
    let Wanted { global, flags, typed, store, host, base, .. } = wanted;
    let id = record::new_id()?;
    let dir = store.main().container(&id);
    let config = base.config();
    let dirs = base.dirs(store)?;
    let mounts = container::shown(store, &dir, flags, &config)?;
    let found = found(host, store, &dirs, flags, &config, (&id, true), &mounts)?;
    let spec = from_image::spec(&config, flags, typed, found)?;
    let name = cgroups::own_name(&id);
    let lifetime = Lifetime::ForegroundRun;
    let groups = cgroups::prepare(&spec, &id, &name, global.groups, lifetime, flags.best_effort)?;
    let root = root(base, store, dirs, &dir, flags)?;
    let seccomp = filter(flags, &spec)?;
    let options = options(&id, &dir, root, flags, &spec, groups.mounted, seccomp)?;
    print(&spec, flags, &options, host, &network(wanted)?)
}

fn network(wanted: &Wanted<'_>) -> Result<network::Plan> {
    network::plan(&wanted.flags, &wanted.base.config(), &wanted.store, &wanted.host)
}

/// `--dry-run`.
fn print(spec: &Spec, flags: &Flags, options: &Options, host: &Host, network: &network::Plan) -> Result<()> {
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
            let mut shown = json::value(&decide(&spec, options, host)?)?;
            shown["network"] = network.json();
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
