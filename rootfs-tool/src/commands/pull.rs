//! `rootfs-tool pull`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{Descriptor, Platform};
use coracle_store::read::read_index;
use coracle_store::{Digest, Image, Locations, Reference, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Result, interrupt};

use super::{each, enter_user_namespace, platform, warn};
use crate::progress::{PULL, Progress};
use crate::registry::{Access, Repository};
use crate::transfer::{self, Loaded};

/// Get images from their registries. What is here already is not fetched again.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "pull",
    example = "rootfs-tool pull debian:bookworm-slim
rootfs-tool pull --platform linux/arm64 localhost:5000/team/app"
)]
pub(crate) struct Pull {
    /// print the image's full name and nothing else
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// every tag of the repository
    #[argh(switch, short = 'a', long = "all-tags")]
    all_tags: bool,
    /// the machine that it is for: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
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
    /// names, with a tag or a digest
    #[argh(positional, arg_name = "name")]
    names: Vec<String>,
}

impl Pull {
    /// Run it: every image that can be had is, the others are named at the end.
    pub(crate) fn run(self) -> Result<()> {
        super::no_content_trust(self.content_trust)?;
        if self.names.is_empty() {
            return Err(Error::usage("pull needs the name of an image"));
        }
        let platform = platform(self.platform.as_deref())?;
        let references: Vec<(&String, Reference)> =
            self.names.iter().map(|n| Ok((n, n.parse()?))).collect::<Result<_>>()?;
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace();
        interrupt::watch()?;
        let mut store = Store::open(&at)?;
        each(&references, |(typed, reference)| self.pull(&mut store, typed, reference, &platform))
    }

    fn access(&self) -> Result<Access> {
        Access::new(self.tls_verify, self.creds.as_deref())
    }

    fn pull(&self, store: &mut Store, typed: &str, reference: &Reference, platform: &Platform) -> Result<()> {
        let pull = |e: Error| e.wrap(format!("pull {typed}"));
        if !self.all_tags {
            return self.one(store, reference, platform).map_err(pull);
        }
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(pull(Error::usage("--all-tags wants a name without tag and digest")));
        }
        let tags = Repository::to_pull(reference, self.access()?)?.tags().map_err(pull)?;
        if tags.is_empty() {
            return Err(pull(Error::not_found("the repository has no tags")));
        }
        for tag in tags {
            let reference = Reference { tag: Some(tag.clone()), ..reference.clone() };
            self.one(store, &reference, platform).map_err(|e| pull(e.wrap(format!("tag {tag}"))))?;
        }
        Ok(())
    }

    fn one(&self, store: &mut Store, reference: &Reference, platform: &Platform) -> Result<()> {
        let full = reference.qualified();
        if !self.quiet && reference.tag.is_none() && reference.digest.is_none() {
            coracle_sys::say!("Using default tag: latest");
        }
        let repository = Repository::to_pull(&full, self.access()?)?;
        let origin = transfer::Remote::new(&repository, &full);
        // The digest alone says which it is; the tag beside it is only for people.
        let name = match full.digest {
            Some(_) => Reference { tag: None, ..full.clone() }.to_string(),
            None => full.to_string(),
        };
        let tag = full.tag.clone().filter(|_| full.digest.is_none());
        let tag = tag.or(full.digest.map(|d| d.to_string())).unwrap_or_default();
        let mut loaded = transfer::load(&origin, platform)?;
        let known_as = *loaded.known_as.get_or_insert(loaded.descriptor.digest);
        if !self.quiet {
            let path = full.path.as_str();
            let place = repository.name.strip_prefix("docker.io/").map_or(repository.name.as_str(), |_| path);
            coracle_sys::say!("{tag}: Pulling from {}", harmless(place));
        }
        // Only an index has a choice.
        if self.platform.is_some()
            && let Err(e) = loaded.config.suits(platform)
        {
            coracle_sys::warn!("rootfs-tool: warning: {} {e}", harmless(&name));
        }
        let was_there = if is_here(store, &name, known_as, &loaded)? {
            true
        } else {
            let progress = Progress::new(PULL, &loaded.manifest.layers, self.quiet);
            let tx = store.begin()?;
            let taken = transfer::take(&tx, &origin, loaded, Some(&name), &progress)?;
            drop(progress);
            warn(&taken.warnings);
            taken.was_there
        };
        if self.quiet {
            coracle_sys::say!("{name}");
            return Ok(());
        }
        let shown = match reference.registry {
            None => Reference { registry: None, path: reference.path.clone(), ..full }.to_string(),
            Some(_) => name.clone(),
        };
        coracle_sys::say!("Digest: {}", known_as);
        match was_there {
            true => coracle_sys::say!("Status: Image is up to date for {shown}"),
            false => coracle_sys::say!("Status: Downloaded newer image for {shown}"),
        }
        coracle_sys::say!("{name}");
        Ok(())
    }
}

/// Does the name stand for this image already, though under another manifest? What was made here and pushed lies
/// here as it was made, and in the registry compressed.
fn is_here(store: &Store, name: &str, known_as: Digest, loaded: &Loaded) -> Result<bool> {
    let index = read_index(store.main())?;
    let named = |d: &&Descriptor| {
        d.ref_name() == Some(name) && d.known_as() == known_as && d.digest != loaded.descriptor.digest
    };
    let Some(entry) = index.manifests.iter().find(named) else { return Ok(false) };
    let Ok(image) = store.load(None, entry.clone(), &loaded.config.platform()) else { return Ok(false) };
    let whole = |image: &Image| {
        image.manifest.layers.iter().all(|d| store.blob_path(&d.digest).is_some())
            && store.stack_paths(image.diff_ids()).is_ok()
    };
    Ok(image.id() == loaded.manifest.config.digest && whole(&image))
}
