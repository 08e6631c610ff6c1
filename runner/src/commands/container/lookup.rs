//! What `run` looks up before it decides: the image or folder, users, other containers' namespaces, ids.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_store::image::{Platform, ProcessConfig};
use coracle_store::{Image, Locations, Reference, Store};
use coracle_sys::{Context, Error, Kind, Result, file, terminal as tty};

use super::ids;
use crate::cgroups;
use crate::commands::{Global, image_verb};
use crate::from_image::flags::Flags;
use crate::from_image::userns::{self, Mode};
use crate::from_image::{self, Found, env_file, user};
use crate::host::{self, Host};
use crate::passwd;
use crate::spec::Mount;
use crate::state::{Face, States};

/// What the container's root is made of.
pub(crate) enum Base {
    Image(Box<Image>),
    Folder(PathBuf),
}

impl Base {
    /// The image or the folder. An image that is not here is pulled, as `--pull` has it.
    pub(crate) fn find(global: &Global, store: &mut Store, named: &str, flags: &Flags) -> Result<Self> {
        if flags.rootfs {
            let path =
                std::fs::canonicalize(named).context(|| format!("open({named:?})")).context(|| "--rootfs")?;
            return match path.is_dir() && path != Path::new("/") {
                true => Ok(Self::Folder(path)),
                false => {
                    Err(Error::usage(format!("--rootfs {named:?}: it is a folder, and not the host's root")))
                }
            };
        }
        let platform = flags.platform.as_deref().map(str::parse).transpose()?.unwrap_or_else(Platform::host);
        let pull = |store: &mut Store| {
            image_verb::pull(global, named, flags.platform.as_deref(), flags.quiet)?;
            // It may not have been there before.
            *store = Store::open(&Locations::from_env(global.store.as_deref())?)?;
            Ok::<_, Error>(())
        };
        let policy = Policy::of(flags)?;
        if policy == Policy::Always {
            pull(store)?;
        }
        let image = match store.resolve_for(named, &platform) {
            Err(e) if e.kind() == Kind::NotFound && Path::new("config.json").exists() => {
                Err(Error::not_found(format!(
                    "no such image: {named} (the bundle in this folder: runner run --bundle . ID)"
                )))
            }
            Err(e)
                if e.kind() == Kind::NotFound
                    && policy == Policy::Missing
                    && named.parse::<Reference>().is_ok() =>
            {
                coracle_sys::warn!("Unable to find image '{named}' locally");
                pull(store)?;
                store.resolve_for(named, &platform)
            }
            Err(e) if e.kind() == Kind::NotFound => Err(Error::not_found(format!(
                "no such image: {named} (rootfs-tool images lists those that are here, rootfs-tool compose makes one)"
            ))),
            other => other,
        }?;
        if flags.platform.is_some()
            && let Err(e) = image.config.suits(&platform)
        {
            return Err(Error::invalid(format!("image {named} was found but {e}")));
        }
        Ok(Self::Image(Box::new(image)))
    }

    pub(crate) fn image(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            Self::Folder(_) => None,
        }
    }

    pub(crate) fn config(&self) -> ProcessConfig {
        self.image().and_then(|i| i.config.config.clone()).unwrap_or_default()
    }

    /// [`Base::dirs`], of an image of which only the blobs are there too: another tool has put them there.
    pub(crate) fn applied(&self, global: &Global, store: &Store, flags: &Flags) -> Result<Vec<PathBuf>> {
        match (self.dirs(store), &flags.image) {
            (Err(e), Some(named)) if e.kind() == Kind::NotFound => {
                image_verb::apply(global, named, flags.platform.as_deref())?;
                self.dirs(store)
            }
            (dirs, _) => dirs,
        }
    }

    /// The directories of the root, lowest first.
    pub(crate) fn dirs(&self, store: &Store) -> Result<Vec<PathBuf>> {
        match self {
            Self::Image(image) => store.stack_paths(image.diff_ids()),
            Self::Folder(path) => Ok(vec![path.clone()]),
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    Missing,
    Never,
}

impl Policy {
    /// What `--pull` says. A start that is only shown touches nothing.
    fn of(flags: &Flags) -> Result<Self> {
        let shown = flags.dry_run || flags.dry_run_mode.is_some();
        match flags.pull.as_deref() {
            None | Some("missing") if !shown => Ok(Self::Missing),
            Some("always") if !shown => Ok(Self::Always),
            None | Some("missing" | "always" | "never") => Ok(Self::Never),
            Some(other) => {
                Err(Error::usage(format!("--pull {other:?}: there are always, missing and never")))
            }
        }
    }
}

/// Everything that has to be looked up for the specification. Of a container that is only `shown` nothing is written.
pub(crate) fn found(
    host: &Host,
    store: &Store,
    dirs: &[PathBuf],
    flags: &Flags,
    config: &ProcessConfig,
    (id, shown): (&str, bool),
    mounts: &[Mount],
) -> Result<Found> {
    let text = |path: &str| passwd::read(dirs, path).context(|| format!("read the image's {path}"));
    let (users, groups) = (text("/etc/passwd")?, text("/etc/group")?);
    let mode = userns::mode(flags)?;
    let kept = match &mode {
        Mode::KeepId { uid, gid } => {
            format!("{}:{}", uid.unwrap_or(host.uid), gid.unwrap_or(host.gid))
        }
        _ => String::new(),
    };
    let said = flags.user.as_deref().or(config.user.as_deref()).filter(|user| !user.is_empty());
    let who = user::resolve(said.unwrap_or(&kept), &flags.group_add, &users, &groups)?;
    let nobody = [who.uid, who.gid].iter().chain(&who.groups).any(|id| *id == userns::NOBODY);
    let ids = (userns::needed([&users, &groups], &who), nobody);
    Ok(Found {
        id: id.to_owned(),
        who,
        mounts: mounts.to_vec(),
        swap_counted: flags.memory.is_some() && cgroups::counts_swap(),
        maps: ids::maps(host, store, &mode, (!shown).then_some(id), ids)?,
        ours: if mode == Mode::Host { host.grantable() } else { u64::MAX },
        window: tty::window_size(std::io::stdin().as_fd()).unwrap_or_default(),
        modules: if flags.security_opt.is_empty() { String::new() } else { host::security_modules() },
        cpus: host::processors(),
        online: if flags.cpus.is_some() { host::online_processors() } else { 0 },
        joined: joined(host, store, flags)?,
        variable: |name| std::env::var(name).ok(),
        env_files: env_files(&flags.env_file)?,
    })
}

/// The lines of the files of `--env-file`, each `NAME=VALUE`.
pub(crate) fn env_files(paths: &[String]) -> Result<Vec<String>> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for path in paths {
        let bytes = file::read(Path::new(path)).context(|| "--env-file")?;
        all.extend(env_file::read("env file", path, &bytes, &variable)?);
    }
    Ok(all)
}

/// The namespaces of other containers, by kind.
pub(crate) fn joined(host: &Host, store: &Store, flags: &Flags) -> Result<BTreeMap<String, PathBuf>> {
    let mut joined = BTreeMap::new();
    for (kind, _, word) in from_image::shared_words(flags)? {
        if let Some(named) = word.strip_prefix("container:") {
            if host.needs_user_namespace() || userns::mode(flags)? != Mode::Host {
                return Err(Error::unsupported(format!(
                    "{word}: a container with a user namespace of its own, as an ordinary user's have, does not share others yet"
                )));
            }
            joined.insert(kind.to_owned(), namespace_of(store, named, kind)?);
        } else if let Some(path) = word.strip_prefix("ns:") {
            joined.insert(kind.to_owned(), path.into());
        }
    }
    Ok(joined)
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
