//! The verbs, one file each, and what they share: opening the store, finding an image, docker's words
//! for one that is not there.

pub(crate) mod apply;
pub(crate) mod boot;
pub(crate) mod bootfs;
pub(crate) mod build;
pub(crate) mod compose;
mod config_json;
pub(crate) mod container_commit;
pub(crate) mod container_cp;
pub(crate) mod container_diff;
pub(crate) mod container_export;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod du;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod mount;
pub(crate) mod pack;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remote;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod sbom;
pub(crate) mod search;
mod source;
pub(crate) mod tag;
pub(crate) mod verify;

use coracle_store::image::{CREATED, Descriptor, Platform};
use coracle_store::layer::pack::source_date_epoch;
use coracle_store::{Image, Locations, Reference, Store, Transaction};
use coracle_sys::idmap::{self, Grant};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result, interrupt, time};

/// Open the store of `--store`.
fn open(flag: Option<&str>) -> Result<Store> {
    let at = Locations::from_env(flag)?;
    let named = flag.is_some() || std::env::var_os("CORACLE_STORE").is_some_and(|s| !s.is_empty());
    if named && !at.main.exists() {
        coracle_sys::warn!("rootfs-tool: warning: there is no store at {} yet", at.main.display());
    }
    Store::open(&at)
}

/// Find an image.
fn find(store: &Store, typed: &str) -> Result<Image> {
    store.resolve(typed).map_err(|e| missing(e, typed))
}

/// Docker's words, where there is no such image.
fn missing(e: Error, typed: &str) -> Error {
    let unknown = e.kind() == Kind::NotFound && store_has_no(&e);
    if unknown { Error::not_found(format!("No such image: {typed}")) } else { e }
}

fn store_has_no(e: &Error) -> bool {
    e.errno().is_none() && e.to_string().starts_with("find the image")
}

/// Do it for each, whatever comes of the others; the last error comes back, those before it are told.
fn each<T>(all: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<()> {
    let mut last: Option<Error> = None;
    for one in all {
        if let Err(e) = work(one)
            && let Some(before) = last.replace(e)
        {
            coracle_sys::warn!("rootfs-tool: {before}");
        }
        if interrupt::requested().is_some() {
            break;
        }
    }
    last.map_or(Ok(()), Err)
}

/// Tell what could not be as in the archives.
fn warn(warnings: &[String]) {
    warnings.iter().for_each(|w| coracle_sys::warn!("rootfs-tool: {}", harmless(w)));
}

/// A name for an image that is made here.
fn new_name(typed: &str) -> Result<Reference> {
    let name: Reference = typed.parse()?;
    match name.digest {
        Some(_) => Err(Error::usage(format!("name the image {typed:?}: a name has no digest"))),
        None => Ok(name),
    }
}

/// `--disable-content-trust=false`.
fn no_content_trust(wanted: bool) -> Result<()> {
    match wanted {
        true => Err(Error::usage("--disable-content-trust=false: there is no content trust here")),
        false => Ok(()),
    }
}

/// Repository and tag of a full name.
fn split_name(name: &str) -> (String, String) {
    // What was pulled by its digest has no tag.
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), "<none>".to_owned()),
    }
}

/// An ordinary user's files of other owners belong to that user's subordinate ids, where there are some;
/// elsewhere the store keeps a table of owners. To be called before there is a second thread.
fn enter_user_namespace() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let maps = idmap::plan(&Grant::of_this_user());
    if maps.has_ranges()
        && let Err(e) = maps.enter()
    {
        coracle_sys::warn!("rootfs-tool: owners are kept in a table: {e}");
    }
}

/// What `--platform` says; this machine when nothing does.
fn platform(typed: Option<&str>) -> Result<Platform> {
    typed.map_or_else(|| Ok(Platform::host()), str::parse)
}

/// The image itself is the same whenever it is made; the entry of the index notes when that was. One that
/// was made before keeps its time, and one that SOURCE_DATE_EPOCH was set for has that: then the store is the same too.
fn dated(tx: &Transaction<'_>, name: &str, mut manifest: Descriptor) -> Descriptor {
    let before = tx.store().find(name).ok().map(|(_, d)| d).filter(|d| d.digest == manifest.digest);
    let before = before.and_then(|d| d.annotations?.remove(CREATED));
    let now = || source_date_epoch().unwrap_or_else(time::now);
    let created = before.unwrap_or_else(|| time::rfc3339(now()));
    manifest.annotations.get_or_insert_default().insert(CREATED.to_owned(), created);
    manifest
}
