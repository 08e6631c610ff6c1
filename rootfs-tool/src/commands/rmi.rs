//! `rootfs-tool rmi`.

use std::collections::BTreeSet;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{Descriptor, Platform};
use coracle_store::users::User;
use coracle_store::{Digest, Image, Reference, Store};
use coracle_sys::idmap::{self, Grant};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result, order};

use super::{each, missing, open};

/// Remove names, and the images that have none left. Layers that others share stay.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rmi", example = "rootfs-tool rmi shell")]
pub(crate) struct Rmi {
    /// also where a container uses the image, it is mounted, or an id has several names
    #[argh(switch, short = 'f')]
    force: bool,
    /// leave blobs and layers that nothing needs any more to a later prune
    #[argh(switch, long = "no-prune")]
    no_prune: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Rmi {
    /// Run it: every image that can be removed is, the others are named at the end.
    pub(crate) fn run(self) -> Result<()> {
        if self.images.is_empty() {
            return Err(Error::usage("rmi needs an image"));
        }
        let mut store = open(self.store.as_deref())?;
        let mut removed = false;
        let done = each(&self.images, |typed| {
            match self.remove(&mut store, typed) {
                // With force what is gone is as it should be.
                Err(e) if self.force && e.kind() == Kind::NotFound => {
                    coracle_sys::warn!("rootfs-tool: {e}");
                    return Ok(());
                }
                other => other?,
            }
            removed = true;
            Ok(())
        });
        if removed && !self.no_prune {
            prune(&store)?;
        }
        done
    }

    fn remove(&self, store: &mut Store, typed: &str) -> Result<()> {
        let image = match store.resolve(typed) {
            Ok(image) => image,
            Err(e) => return self.remove_unreadable(store, typed, e),
        };
        let manifest = image.descriptor.digest;
        let main = coracle_store::read::read_index(store.main())?.manifests;
        let by_id = is_id(typed, &image);
        // One id may lie here under several manifests: as it was made, and compressed as it came back.
        let is_same = |d: &&Descriptor| {
            let load = || store.load(None, (*d).clone(), &Platform::host());
            d.digest == manifest || load().is_ok_and(|other| other.id() == image.id())
        };
        let entries: Vec<&Descriptor> = main.iter().filter(is_same).collect();
        let names: Vec<String> = entries.iter().filter_map(|d| d.ref_name().map(str::to_owned)).collect();
        if !main.iter().any(|d| d.digest == manifest) {
            return Err(Error::new(
                Kind::Denied,
                format!("remove the image {typed:?}: it is in a store that is only read"),
            ));
        }
        if by_id && names.len() > 1 && !self.force {
            return Err(Error::new(
                Kind::Busy,
                format!(
                    "conflict: unable to delete {typed} (must be forced) - image is referenced by {}",
                    names.join(", ")
                ),
            ));
        }
        let all = by_id || names.len() <= 1;
        let manifests: BTreeSet<Digest> = order::gather(entries.iter().map(|d| d.digest));
        let is_meant = |m: &Digest| *m == image.manifest_digest || manifests.contains(m);
        if all
            && !self.force
            && let Some(user) = user(store, is_meant)?
        {
            let why = match user {
                User::Container(id) => {
                    format!("container {} is using its referenced image {}", short(&id), image.id().short())
                }
                User::Mount(at) => format!("it is mounted on {}", at.display()),
            };
            let what = format!("conflict: unable to remove {typed} (must force) - {why}");
            return Err(Error::new(Kind::Busy, what));
        }
        let tx = store.begin()?;
        if all {
            for manifest in manifests {
                for name in tx.forget(&manifest)?.iter().filter_map(|d| d.ref_name()) {
                    coracle_sys::say!("Untagged: {}", harmless(name));
                }
            }
            coracle_sys::say!("Deleted: {}", image.id());
        } else if let Some(name) = &image.name {
            tx.untag(name)?;
            coracle_sys::say!("Untagged: {}", harmless(name));
        }
        Ok(())
    }

    /// A name whose image the disk has lost or changed, or which is another machine's, can go all the same.
    fn remove_unreadable(&self, store: &mut Store, typed: &str, why: Error) -> Result<()> {
        let Ok(reference) = typed.parse::<Reference>() else { return Err(missing(why, typed)) };
        let names: Vec<String> = reference.candidates().iter().map(ToString::to_string).collect();
        let index = coracle_store::read::read_index(store.main())?.manifests;
        let is_named =
            |d: &&Descriptor| d.ref_name().is_some_and(|n| n == typed || names.iter().any(|c| c == n));
        let Some(entry) = index.iter().find(is_named) else { return Err(missing(why, typed)) };
        if !self.force
            && let Some(user) = user(store, |m| *m == entry.digest)?
        {
            let user = match user {
                User::Container(id) => format!("container {} uses it", short(&id)),
                User::Mount(at) => format!("it is mounted on {}", at.display()),
            };
            return Err(why.wrap(format!("remove {typed} (must force: {user})")));
        }
        let name = entry.ref_name().unwrap_or(typed).to_owned();
        store.begin()?.untag(&name)?;
        coracle_sys::warn!("rootfs-tool: {}", why.wrap(format!("read {name}, which is only untagged")));
        coracle_sys::say!("Untagged: {}", harmless(&name));
        Ok(())
    }
}

/// Remove what nothing uses. Layers of an ordinary user may hold files of subordinate ids, which only that
/// user's namespace may remove: what is left is removed in there.
fn prune(store: &Store) -> Result<()> {
    if store.is_being_written() {
        coracle_sys::warn!("rootfs-tool: waiting for somebody else to have written to the store");
    }
    match store.prune() {
        Err(e) if e.kind() == Kind::Denied && !nix::unistd::geteuid().is_root() => {
            idmap::plan(&Grant::of_this_user()).do_inside(|| store.prune().map(drop))
        }
        other => other.map(drop),
    }
}

/// Was the image found by an id rather than by a name?
fn is_id(typed: &str, image: &Image) -> bool {
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    let named = image.name.as_deref().is_some_and(|n| {
        typed
            .parse::<coracle_store::Reference>()
            .is_ok_and(|r| r.candidates().iter().any(|c| c.to_string() == n) || n == typed)
    });
    !named && (image.id().hex().starts_with(hex) || image.manifest_digest.hex().starts_with(hex))
}

/// Who uses one of the manifests that are meant.
fn user(store: &Store, is_meant: impl Fn(&Digest) -> bool) -> Result<Option<User>> {
    Ok(store.users()?.into_iter().find(|(manifest, _)| is_meant(manifest)).map(|(_, user)| user))
}

/// A container's id as docker shows it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
