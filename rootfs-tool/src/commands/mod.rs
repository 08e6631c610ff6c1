//! The verbs, one file each, and what they share: opening the store, finding an image, docker's words
//! for one that is not there.

pub(crate) mod compose;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod rmi;
pub(crate) mod tag;

use coracle_store::{Image, Locations, Store};
use coracle_sys::{Error, Kind, Result};

/// Open the store of `--store`.
fn open(flag: Option<&str>) -> Result<Store> {
    Store::open(&Locations::from_env(flag)?)
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

/// Repository and tag of a full name.
fn split_name(name: &str) -> (String, String) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), "<none>".to_owned()),
    }
}
