//! The verbs, one file each, and what they share: global flags, exit codes, how a container's files go.

pub(crate) mod attach;
pub(crate) mod bundle;
pub(crate) mod container;
pub(crate) mod container_files;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod df;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod image_verb;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod kill;
mod life;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod nouns;
mod oci;
pub(crate) mod pause;
pub(crate) mod port;
mod processes;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod sweep;
pub(crate) mod top;
pub(crate) mod typed;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_sys::{Context, Error, Kind, Result, idmap};

/// Flags that stand before the verb.
#[derive(Clone, Debug, Default)]
pub(crate) struct Global {
    /// The store, `RW[:RO...]`.
    pub(crate) store: Option<String>,
    /// An OCI client's directory of states.
    pub(crate) root: Option<PathBuf>,
    /// Who makes a container's groups.
    pub(crate) groups: crate::cgroups::Manager,
    /// As whom it was called.
    pub(crate) guise: crate::guise::Guise,
    /// Where docker's config.json lies, where that was said.
    pub(crate) docker_config: Option<PathBuf>,
}

/// The exit code of the runner's own errors.
pub(crate) fn exit_code(e: &Error) -> u8 {
    match e.kind() {
        Kind::CannotExecute => 126,
        Kind::CommandNotFound => 127,
        _ => 125,
    }
}

/// A container that nobody knows.
pub(crate) fn no_such_container(typed: &str) -> Error {
    Error::not_found(format!("No such container: {typed}"))
}

/// Remove a container with all its files. Its record goes first, so that no list shows it without its name; volumes of its
/// own that other containers have mounted stay until those go.
pub(crate) fn forget(store: &Store, id: &str, name: Option<&str>) -> Result<()> {
    let dir = store.main().container(id);
    let _ = std::fs::remove_file(dir.join(crate::record::FILE));
    if let Some(name) = name {
        store.release_name(name, id)?;
    }
    let volumes = dir.join(VOLUMES);
    let lent = volumes.exists() && !container::users::of_container(store, &dir)?.is_empty();
    let remove = || match lent {
        false => store.remove_container(id),
        true => store.empty_container(id, VOLUMES),
    };
    as_owner(remove).context(|| format!("remove the files of the container {id}"))?;
    // Files of these ids may be in the volumes that are lent.
    store.release_project(id)?;
    if lent { Ok(()) } else { store.release_ids(id) }
}

/// The volumes without a name, in a container's directory.
const VOLUMES: &str = "volumes";

/// Does a container's directory hold what others have mounted, though the container is gone?
pub(crate) fn is_lent(store: &Store, dir: &Path) -> bool {
    dir.join(VOLUMES).exists()
        && container::users::of_container(store, dir).is_ok_and(|users| !users.is_empty())
}

/// Remove a tree that containers wrote.
pub(crate) fn remove_outside(path: &Path) -> Result<()> {
    as_owner(|| coracle_sys::file::remove_tree(path))
}

/// Remove what killed processes left of what they were making.
pub(crate) fn sweep_unfinished(store: &Store) -> Result<()> {
    as_owner(|| store.sweep().map(drop))
}

/// What an ordinary user's container wrote belongs to subordinate ids, which only its user namespace may
/// remove: where it is denied outside, it is done again inside.
fn as_owner(remove: impl Fn() -> Result<()>) -> Result<()> {
    match remove() {
        Err(e) if e.kind() == Kind::Denied && !nix::unistd::geteuid().is_root() => {}
        other => return other,
    }
    inside(remove)
}

/// Do it as root of an ordinary user's own user namespace.
pub(crate) fn inside(work: impl FnOnce() -> Result<()>) -> Result<()> {
    idmap::plan(&idmap::Grant::of_this_user()).do_inside(work)
}
