//! `rootfs-tool mount` and `rootfs-tool umount`.

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use coracle_store::{Digest, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Error, Kind, Result};
use nix::errno::Errno;
use serde_json::{Value, json};

use super::{each, find, open};

/// Mount an image's root file system, read only, and print where; without an image, list what is mounted.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "mount",
    example = "ls $(rootfs-tool mount shell)
rootfs-tool mount
rootfs-tool umount shell"
)]
pub(crate) struct Mount {
    /// list what is mounted as one JSON array
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names or ids
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Mount {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let mut store = open(self.store.as_deref())?;
        if self.images.is_empty() {
            return list(&store, self.json);
        }
        if self.json {
            return Err(Error::usage("--json lists what is mounted: it goes with no image"));
        }
        let single = self.images.len() == 1;
        each(&self.images, |typed| {
            let image = find(&store, typed)?;
            let mounted = store.begin()?.mount(&image).map_err(|e| explain(e, typed))?;
            let at = mounted.display();
            if single {
                coracle_sys::say!("{at}")
            } else {
                coracle_sys::say!("{}  {at}", harmless(typed))
            }
            Ok(())
        })
    }
}

/// Unmount images.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "umount",
    example = "rootfs-tool umount shell
rootfs-tool umount -a"
)]
pub(crate) struct Umount {
    /// all that are mounted
    #[argh(switch, short = 'a')]
    all: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// names, ids, or where they are mounted
    #[argh(positional, arg_name = "image")]
    images: Vec<String>,
}

impl Umount {
    /// Run it: every image that can be unmounted is, the others are named at the end.
    pub(crate) fn run(self) -> Result<()> {
        if self.all != self.images.is_empty() {
            return Err(Error::usage("umount needs images, or --all without any"));
        }
        let store = open(self.store.as_deref())?;
        let mounted = store.mounted()?;
        let typed = self.images.iter().map(|typed| (typed.clone(), mounted_as(&store, &mounted, typed)));
        let all = mounted.iter().map(|(manifest, at)| (named(&store, manifest), Some(at.clone())));
        let wanted: Vec<(String, Option<PathBuf>)> = if self.all { all.collect() } else { typed.collect() };
        each(&wanted, |(name, at)| {
            let Some(at) = at else { return Err(Error::not_found(format!("{name} is not mounted"))) };
            store.unmount(at).map_err(|e| e.wrap(format!("unmount {name}")))?;
            coracle_sys::say!("{}", harmless(name));
            Ok(())
        })
    }
}

/// Where the image is mounted that is meant; one whose name is gone is known by its id.
fn mounted_as(store: &Store, mounted: &[(Digest, PathBuf)], typed: &str) -> Option<PathBuf> {
    let manifest = store.resolve(typed).ok().map(|image| image.manifest_digest);
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    let by_name = mounted.iter().find(|(m, at)| manifest == Some(*m) || at.as_path() == Path::new(typed));
    let by_id = || mounted.iter().find(|(m, _)| hex.len() >= 4 && m.hex().starts_with(hex));
    by_name.or_else(by_id).map(|(_, at)| at.clone())
}

fn list(store: &Store, as_json: bool) -> Result<()> {
    let mounted = store.mounted()?;
    if as_json {
        let row = |(manifest, at): &(Digest, PathBuf)| json!({"Image": named(store, manifest), "Digest": manifest.to_string(), "Mountpoint": at.display().to_string()});
        coracle_sys::print::json(&Value::Array(mounted.iter().map(row).collect()), false);
        return Ok(());
    }
    for (manifest, at) in &mounted {
        coracle_sys::say!("{}  {}", harmless(&named(store, manifest)), at.display());
    }
    Ok(())
}

/// A name of the image, else its manifest's digest.
fn named(store: &Store, manifest: &Digest) -> String {
    let entry = store.find(&manifest.to_string()).ok();
    entry.and_then(|(name, _)| name).unwrap_or_else(|| manifest.to_string())
}

/// An ordinary user has no right to mount where others see it.
fn explain(e: Error, typed: &str) -> Error {
    match e.errno() {
        Some(Errno::EPERM) => Error::new(
            Kind::Denied,
            format!(
                "mount {typed}: only root may mount on the host; `rootfs-tool copy {typed} dir:FOLDER` writes its files out"
            ),
        ),
        _ => e.wrap(format!("mount {typed}")),
    }
}
