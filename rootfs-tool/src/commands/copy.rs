//! `rootfs-tool copy`.

use std::fs::File;
use std::path::Path;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::Platform;
use coracle_store::{Locations, Reference, Store};
use coracle_sys::{Context, Error, Result, interrupt};

use super::{enter_user_namespace, missing, new_name, platform, warn};
use crate::archive::members::Members;
use crate::archive::write::Writer;
use crate::archive::{docker, oci};
use crate::progress::{COPY, Progress};
use crate::registry::{Access, Repository};
use crate::streams;
use crate::transfer::{
    Folder, Origin, Place, Remote, Sending, Squeezed, Stored, choose_entry, load, relay, take, take_all,
    unpack_into,
};

/// Copy an image from one place to another: NAME or store:NAME, docker://REFERENCE (a registry), oci:DIR[:ref],
/// oci-archive:FILE[:ref], docker-archive:FILE[:ref], dir:ROOTFS (a plain tree).
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "copy",
    example = "rootfs-tool copy docker://debian:12 oci:layout:debian
rootfs-tool copy --all docker://debian:12 docker://localhost:5000/debian:12
rootfs-tool copy shell dir:/srv/root"
)]
pub(crate) struct Copy {
    /// say nothing
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// every platform that the image is for; its index and manifests stay as they are
    #[argh(switch, short = 'a')]
    all: bool,
    /// keep the digest: in a layout docker's manifests become OCI's otherwise, which umoci and skopeo look for
    #[argh(switch, long = "preserve-digests")]
    preserve_digests: bool,
    /// the machine, of an image for several: OS/ARCHITECTURE[/VARIANT]
    #[argh(option, arg_name = "PLATFORM")]
    platform: Option<String>,
    /// how layers that were made here are compressed for a registry: gzip (the default) or zstd
    #[argh(option, arg_name = "FORMAT")]
    compression: Option<String>,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// as --tls-verify, for the source alone
    #[argh(option, long = "src-tls-verify", arg_name = "BOOL")]
    src_tls_verify: Option<bool>,
    /// as --tls-verify, for the destination alone
    #[argh(option, long = "dest-tls-verify", arg_name = "BOOL")]
    dest_tls_verify: Option<bool>,
    /// USER:PASSWORD for the registries, instead of what login has kept; others see it in the list of processes
    #[argh(option, arg_name = "CREDS")]
    creds: Option<String>,
    /// as --creds, for the source alone
    #[argh(option, long = "src-creds", arg_name = "CREDS")]
    src_creds: Option<String>,
    /// as --creds, for the destination alone
    #[argh(option, long = "dest-creds", arg_name = "CREDS")]
    dest_creds: Option<String>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// where it is
    #[argh(positional, arg_name = "source")]
    source: String,
    /// where it goes
    #[argh(positional, arg_name = "destination")]
    destination: String,
}

impl Copy {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        if self.all && self.platform.is_some() {
            return Err(Error::usage("--all and --platform exclude each other"));
        }
        let (from, to): (Place, Place) = (self.source.parse()?, self.destination.parse()?);
        let platform = platform(self.platform.as_deref())?;
        let how = super::push::compression(self.compression.as_deref())?;
        let at = Locations::from_env(self.store.as_deref())?;
        if matches!(to, Place::Store(_) | Place::Tree(_)) {
            enter_user_namespace();
        }
        interrupt::watch()?;
        let copy = || -> Result<()> {
            let mut store = Store::open(&at)?;
            let reader = store.clone();
            match &from {
                Place::Store(name) => {
                    let stored = Stored::find(&reader, name).map_err(|e| missing(e, name))?;
                    match to {
                        // What was made here is compressed once, on its way out.
                        Place::Registry(_) => {
                            let tx = store.begin()?;
                            let squeezed = Squeezed::new(&tx, stored, how)?;
                            drop(tx);
                            self.to(&mut store, &squeezed, &to, &platform)
                        }
                        _ => self.to(&mut store, &stored, &to, &platform),
                    }
                }
                Place::Registry(reference) => {
                    let full = reference.qualified();
                    let repository =
                        Repository::to_pull(&full, self.access(self.src_tls_verify, &self.src_creds)?)?;
                    self.to(&mut store, &Remote::new(&repository, &full), &to, &platform)
                }
                Place::Layout(dir, reference) => {
                    self.to(&mut store, &Folder::new(dir, reference.as_deref()), &to, &platform)
                }
                Place::OciArchive(path, reference) => {
                    let members = members(path)?;
                    let index = oci::index(&members)?;
                    let entry = choose_entry(&index, reference.as_deref())?.clone();
                    self.to(&mut store, &oci::Oci::new(&members, entry), &to, &platform)
                }
                Place::DockerArchive(path, reference) => {
                    let members = members(path)?;
                    let images = docker::images(&members)?;
                    self.to(&mut store, one_of(&images, reference.as_deref())?, &to, &platform)
                }
                Place::Tree(dir) => Err(Error::usage(format!(
                    "copy from the tree {dir:?}: `tar -C {} -c . | rootfs-tool import - NAME` makes an image of it",
                    dir.display()
                ))),
            }
        };
        copy().map_err(|e| e.wrap(format!("copy {} to {}", self.source, self.destination)))
    }

    /// How one side is spoken to: as is said for it, else as for both.
    fn access(&self, tls_verify: Option<bool>, creds: &Option<String>) -> Result<Access> {
        Access::new(tls_verify.or(self.tls_verify), creds.as_deref().or(self.creds.as_deref()))
    }

    fn to(&self, store: &mut Store, origin: &dyn Origin, to: &Place, platform: &Platform) -> Result<()> {
        let platform_or_all = (!self.all).then_some(platform);
        let how = Sending { platform: platform_or_all, as_it_is: self.preserve_digests, quiet: self.quiet };
        match to {
            Place::Store(name) => {
                let name = new_name(name)?.local().to_string();
                let tx = store.begin()?;
                let taken = match self.all {
                    true => take_all(&tx, origin, Some(&name), &coracle_store::ingest::Quiet)?,
                    false => {
                        let loaded = load(origin, platform)?;
                        let progress = Progress::new(COPY, &loaded.manifest.layers, self.quiet);
                        take(&tx, origin, loaded, Some(&name), &progress)?
                    }
                };
                warn(&taken.warnings);
            }
            Place::Registry(reference) => {
                let full = reference.qualified();
                let repository =
                    Repository::to_push(&full, self.access(self.dest_tls_verify, &self.dest_creds)?)?;
                relay(origin, &Remote::new(&repository, &full), COPY, how)?;
            }
            Place::Layout(dir, reference) => {
                let folder = Folder::new(dir, reference.as_deref());
                relay(origin, &folder, COPY, how)?;
            }
            Place::OciArchive(path, reference) => streams::write(Some(path), |out| {
                let writer = Writer::new(out);
                writer.name(reference.as_deref());
                relay(origin, &writer, COPY, how)?;
                writer.finish()
            })?,
            Place::DockerArchive(_, _) if self.all => {
                return Err(Error::usage("docker's archives hold one platform: leave --all out"));
            }
            Place::DockerArchive(path, reference) => streams::write(Some(path), |out| {
                let writer = Writer::new(out);
                let names = reference.as_deref().map(str::parse::<Reference>).transpose()?;
                let names = names.map(|r| r.qualified().to_string());
                let names = names.map_or_else(|| origin.names(), |n| vec![n]);
                writer.put_docker(origin, platform, &names)?;
                writer.finish()
            })?,
            Place::Tree(_) if self.all => {
                return Err(Error::usage("a tree is of one platform: leave --all out"));
            }
            Place::Tree(dir) => warn(&unpack_into(origin, platform, dir)?),
        }
        Ok(())
    }
}

fn members(path: &Path) -> Result<Members> {
    let file = File::open(path).context(|| format!("open({path:?})"))?;
    Members::open(file, &std::env::temp_dir()).context(|| format!("read {path:?}"))
}

/// The image that is meant: the one of that name, else the only one.
fn one_of<'a, 'b>(
    images: &'a [docker::Docker<'b>],
    reference: Option<&str>,
) -> Result<&'a docker::Docker<'b>> {
    let names = || images.iter().flat_map(Origin::names).take(10).collect::<Vec<_>>().join(", ");
    match (reference, images) {
        (None, [one]) => Ok(one),
        (None, _) => Err(Error::usage(format!("choose an image of the archive: there is {}", names()))),
        (Some(wanted), _) => {
            let full = wanted.parse::<Reference>()?.qualified().to_string();
            let found = images.iter().find(|i| i.names().contains(&full));
            found.ok_or_else(|| {
                Error::not_found(format!("find {wanted:?} in the archive: there is {}", names()))
            })
        }
    }
}
