//! `rootfs-tool push`.

use std::collections::HashSet;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{Descriptor, Manifest, REGISTRY_DIGEST};
use coracle_store::layer::Compression;
use coracle_store::{Digest, Locations, Reference, Store};
use coracle_sys::{Error, Result, interrupt};

use super::missing;
use crate::progress::PUSH;
use crate::registry::{Access, Repository};
use crate::transfer::{Remote, Sending, Squeezed, Stored, relay};

/// Send images to their registries. Layers that are there are not sent again; those that were made here are
/// compressed first, once.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "push",
    example = "rootfs-tool tag shell localhost:5000/team/shell
rootfs-tool push localhost:5000/team/shell"
)]
pub(crate) struct Push {
    /// print the image's full name and nothing else
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// every tag of the repository that is here
    #[argh(switch, short = 'a', long = "all-tags")]
    all_tags: bool,
    /// how layers that are not compressed are: gzip (the default) or zstd
    #[argh(option, arg_name = "FORMAT")]
    compression: Option<String>,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// USER:PASSWORD for the registry, instead of what login has kept; others see it in the list of processes
    #[argh(option, arg_name = "CREDS")]
    creds: Option<String>,
    /// docker's, and always so: there is no content trust
    #[argh(switch, long = "disable-content-trust")]
    #[allow(dead_code)] // it is so anyhow
    disable_content_trust: bool,
    /// the word for --disable-content-trust=false
    #[argh(switch, long = "no-disable-content-trust", hidden_help)]
    content_trust: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// the image's name, which says where it goes
    #[argh(positional, arg_name = "name")]
    name: String,
}

/// `gzip` or `zstd`.
pub(super) fn compression(typed: Option<&str>) -> Result<Compression> {
    match typed {
        None | Some("gzip") => Ok(Compression::Gzip),
        Some("zstd") => Ok(Compression::Zstd),
        Some(other) => Err(Error::usage(format!("--compression {other:?}: there are gzip and zstd"))),
    }
}

impl Push {
    /// Of one image.
    pub(super) fn of(name: &str, quiet: bool, tls_verify: Option<bool>, store: Option<String>) -> Self {
        Self {
            quiet,
            all_tags: false,
            compression: None,
            tls_verify,
            creds: None,
            disable_content_trust: true,
            content_trust: false,
            store,
            name: name.to_owned(),
        }
    }

    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        super::no_content_trust(self.content_trust)?;
        let how = compression(self.compression.as_deref())?;
        let reference: Reference = self.name.parse()?;
        if reference.digest.is_some() {
            return Err(Error::usage(format!("push {:?}: a name has no digest", self.name)));
        }
        if self.all_tags && reference.tag.is_some() {
            return Err(Error::usage("--all-tags wants a name without tag"));
        }
        interrupt::watch()?;
        let mut store = Store::open(&Locations::from_env(self.store.as_deref())?)?;
        // A name without a registry is docker.io's, though the image may have been made here.
        let full = reference.qualified();
        let repository = Repository::to_push(&full, Access::new(self.tls_verify, self.creds.as_deref())?)?;
        if !self.quiet {
            if !self.all_tags && reference.tag.is_none() {
                coracle_sys::say!("Using default tag: latest");
            }
            coracle_sys::say!("The push refers to repository [{}]", repository.name);
        }
        let tags: Vec<Reference> = match self.all_tags {
            false => vec![reference],
            true => tags_here(&store, &reference)?,
        };
        for reference in &tags {
            self.one(&mut store, &repository, reference, how)
                .map_err(|e| e.wrap(format!("push {reference}")))?;
        }
        Ok(())
    }

    fn one(
        &self,
        store: &mut Store,
        repository: &Repository,
        reference: &Reference,
        how: Compression,
    ) -> Result<()> {
        let typed = reference.to_string();
        let full = reference.qualified();
        let tx = store.begin()?;
        let stored = Stored::find(tx.store(), &typed).map_err(|e| missing(e, &typed))?;
        let elsewhere = elsewhere(tx.store(), &full, &stored.entry)?;
        let (name, manifest) = (stored.name.clone(), stored.entry.digest);
        let origin = Squeezed::new(&tx, stored, how)?;
        let target = Remote::new(repository, &full).or_from(elsewhere);
        let d = relay(&origin, &target, PUSH, Sending { quiet: self.quiet, ..Sending::default() })?;
        if let Some(name) = name.filter(|n| *n == full.to_string()) {
            tx.note(&name, &manifest, REGISTRY_DIGEST, &d.digest.to_string())?;
        }
        match self.quiet {
            true => coracle_sys::say!("{full}"),
            false => {
                let tag = full.tag.as_deref().unwrap_or_default();
                coracle_sys::say!("{tag}: digest: {} size: {}", d.digest, d.size);
            }
        }
        Ok(())
    }
}

/// The names of a repository that are in the store.
fn tags_here(store: &Store, reference: &Reference) -> Result<Vec<Reference>> {
    let wanted: Vec<Reference> = reference.candidates();
    let mut out = Vec::new();
    for (_, entry) in store.entries()? {
        let Some(Ok(name)) = entry.ref_name().map(str::parse::<Reference>) else { continue };
        let of = |w: &Reference| w.registry == name.registry && w.path == name.path;
        if name.tag.is_some() && name.digest.is_none() && wanted.iter().any(of) {
            out.push(Reference { tag: name.tag, ..reference.clone() });
        }
    }
    match out.is_empty() {
        true => Err(Error::not_found(format!("No such image: {reference}"))),
        false => Ok(out),
    }
}

/// Repositories of the same registry whose images have layers of this one, as far as the store knows.
fn elsewhere(store: &Store, full: &Reference, entry: &Descriptor) -> Result<Vec<String>> {
    let layers = |d: &Descriptor| -> HashSet<Digest> {
        let manifest: Result<Manifest> = store.json(d);
        manifest.map(|m| m.layers.iter().map(|l| l.digest).collect()).unwrap_or_default()
    };
    let own = layers(entry);
    let mut out = Vec::new();
    for (_, other) in store.entries()? {
        let Some(Ok(name)) = other.ref_name().map(str::parse::<Reference>) else { continue };
        let same = name.registry == full.registry && name.path != full.path && !out.contains(&name.path);
        if same && layers(&other).intersection(&own).next().is_some() {
            out.push(name.path);
        }
    }
    Ok(out)
}
