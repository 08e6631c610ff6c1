//! The runner's own choices for a container of an image, which a config.json does not say: its root, init,
//! filter.

use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_store::driver::{Driver, fuse, overlay};
use coracle_sys::{Context, Error, Result, file, quantity};

use super::lookup::Base;
use crate::from_image::flags::Flags;
use crate::from_image::units;
use crate::host::Host;
use crate::mounts::Hierarchy;
use crate::plan::{self, Options, Plan};
use crate::process::Init;
use crate::rootfs::{Layers, Source, Top};
use crate::seccomp::{self, Choice};
use crate::spec::Spec;

/// What the container's root is made of: a folder, or these layers below a top in `dir`.
pub(crate) fn root(
    base: &Base,
    store: &Store,
    dirs: Vec<PathBuf>,
    dir: &Path,
    flags: &Flags,
) -> Result<Source> {
    Ok(match base {
        Base::Folder(path) => Source::Directory(path.clone()),
        Base::Image(_) => Source::Layers(Layers {
            lower: store.mount_points().into_iter().chain(dirs).collect(),
            top: top(dir, flags)?,
            driver: store.driver(),
            by_program: store.driver() == Driver::Fuse || fuse::is_marked(&dir.join("upper")),
            userxattr: overlay::Options::of_this_process(false).userxattr,
        }),
    })
}

/// What the specification does not say.
pub(crate) fn options(
    id: &str,
    dir: &Path,
    root: Source,
    flags: &Flags,
    spec: &Spec,
    cgroup_v1: Option<Vec<Hierarchy>>,
    seccomp: Choice,
) -> Result<Options> {
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
        seccomp: Some(seccomp),
    })
}

/// The plan. Of groups is shown what was made: where v1 has none for the container, nothing is mounted that would be empty.
pub(crate) fn decide(spec: &Spec, options: &Options, host: &Host) -> Result<Plan> {
    let mut plan = plan::plan(spec, options, host)?;
    plan.mounts.retain(|mount| !mount.shows_no_group());
    Ok(plan)
}

/// The filter, which keeps a container to its quota as well.
pub(crate) fn filter(flags: &Flags, spec: &Spec) -> Result<Choice> {
    let chosen = chosen(flags, spec)?;
    Ok(if flags.storage_opt.is_empty() { chosen } else { Choice::Counted(Box::new(chosen)) })
}

/// `--security-opt seccomp=`; a privileged container has none unless it is asked for.
fn chosen(flags: &Flags, spec: &Spec) -> Result<Choice> {
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
        Some(("tmpfs", size)) => match quantity::size(size, "--scratch")? {
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
