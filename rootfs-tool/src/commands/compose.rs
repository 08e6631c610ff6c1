//! `rootfs-tool compose`.

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Locations, Store};
use coracle_sys::{Error, Result};

use crate::compose::deb::Choices;
use crate::compose::{self, Settings};
use crate::recipe::Recipe;
use coracle_sys::table;

/// Make an image from a recipe: a folder with a rootfs.toml.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "compose", example = "rootfs-tool compose images/shell -t shell")]
pub(crate) struct Compose {
    /// a name of the image, instead of the recipe's
    #[argh(option, short = 't', arg_name = "NAME")]
    tag: Vec<String>,
    /// compose for another machine, such as linux/arm64
    #[argh(option, arg_name = "OS/ARCH")]
    platform: Option<String>,
    /// deb: the repository, instead of those of this machine's apt
    #[argh(option, arg_name = "URL")]
    mirror: Option<String>,
    /// deb: a file of keys that have to have signed the index
    #[argh(option, arg_name = "FILE")]
    keyring: Vec<PathBuf>,
    /// deb: take the newest packages, and lock those
    #[argh(switch)]
    update: bool,
    /// deb: take packages as rootfs.lock has them or not at all
    #[argh(switch)]
    locked: bool,
    /// print the image's id and nothing else
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// the recipe's folder
    #[argh(positional, arg_name = "folder")]
    folder: PathBuf,
}

impl Compose {
    /// What `build` of a recipe's folder is.
    pub(crate) fn of(tag: Vec<String>, quiet: bool, store: Option<String>, folder: PathBuf) -> Self {
        let (platform, mirror, keyring) = (None, None, Vec::new());
        Self { tag, platform, mirror, keyring, update: false, locked: false, quiet, store, folder }
    }

    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.folder.is_file() {
            let folder = self.folder.parent().filter(|p| !p.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).display();
            return Err(Error::usage(format!("compose takes the recipe's folder: {folder}")));
        }
        if self.update && self.locked {
            return Err(Error::usage("--update and --locked: it is one or the other"));
        }
        let settings = Settings {
            platform: self.platform.as_deref().map(|p| super::platform(Some(p))).transpose()?,
            deb: Choices {
                mirror: self.mirror.clone(),
                keyring: self.keyring.clone(),
                update: self.update,
                locked: self.locked,
            },
        };
        let recipe = Recipe::read(&self.folder)?;
        let folder = self.folder.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut names = self.tag.clone();
        if names.is_empty() {
            let name = recipe.name.clone().or(folder);
            names.push(name.ok_or_else(|| Error::usage("name the image: the recipe does not, use -t NAME"))?);
        }
        let full = |name: &String| Ok(super::new_name(name)?.local().to_string());
        let names = names.iter().map(full).collect::<Result<Vec<String>>>()?;
        let at = Locations::from_env(self.store.as_deref())?;
        enter_user_namespace(&recipe);
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let manifest = compose::compose(&tx, Path::new(&self.folder), &recipe, &settings, |step| {
            if self.quiet {
                return;
            }
            let cached = if step.cached { "  cached" } else { "" };
            coracle_sys::say!("{:>8}  {}{cached}", table::size(step.size), step.what);
            step.notes.iter().for_each(|n| coracle_sys::say!("{:>8}  {n}", ""));
        })?;
        for name in &names {
            tx.tag(name, &super::dated(&tx, name, manifest.clone()))?;
        }
        drop(tx);
        let image = store.resolve(&names[0])?;
        if self.quiet {
            coracle_sys::say!("{}", image.id());
        } else {
            names.iter().for_each(|name| coracle_sys::say!("{name}  {}", image.id().short()));
        }
        Ok(())
    }
}

/// Only layers that may have other owners than the user need more than the one id.
fn enter_user_namespace(recipe: &Recipe) {
    let plain = recipe.layers.iter().all(|l| {
        l.tar.is_none() && l.image.is_none() && l.deb.is_none() && l.users.is_empty() && l.owner.is_none()
    });
    if !plain {
        super::enter_user_namespace();
    }
}
