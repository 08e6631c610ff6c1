//! `rootfs-tool bootfs`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use coracle_store::image::{History, ImageConfig, Platform, ProcessConfig, RootFs};
use coracle_store::layer::pack::source_date_epoch;
use coracle_store::{Locations, Store, Transaction};
use coracle_sys::{Error, Result, table, time};

use super::dated;
use crate::boot::kernel::{Kernel, LABEL};
use crate::compose::deb::Choices;

/// Make a bootfs: an image of a kernel, its modules and a loader stub, to boot any root file system with.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "bootfs",
    example = "rootfs-tool bootfs
rootfs-tool bootfs --package linux-image-amd64 -t bootfs:generic
rootfs-tool bootfs --kernel vmlinuz --modules /lib/modules/6.12.9",
    note = "The kernel is that of Debian's package, fetched and checked as compose does it; nothing is installed. The
same package makes the same image. It is called localhost/bootfs:latest, and by its kernel's version as tag too, unless
-t names it."
)]
pub(crate) struct Bootfs {
    /// a name of the image, instead of bootfs:latest and bootfs:VERSION
    #[argh(option, short = 't', arg_name = "NAME")]
    tag: Vec<String>,
    /// the package with the kernel, instead of the one for machines in a cloud
    #[argh(option, arg_name = "NAME")]
    package: Option<String>,
    /// the suite of the package, instead of the one that runs here
    #[argh(option, arg_name = "SUITE")]
    suite: Option<String>,
    /// the kernel: a file, or host for the one that runs here, else the newest in /boot
    #[argh(option, arg_name = "FILE|host")]
    kernel: Option<String>,
    /// of --kernel FILE: the folder of its modules
    #[argh(option, arg_name = "DIR")]
    modules: Option<PathBuf>,
    /// of --kernel FILE: the stub that makes a unified kernel image of it, such as linuxx64.efi.stub
    #[argh(option, arg_name = "FILE")]
    stub: Option<PathBuf>,
    /// for another machine, such as linux/arm64
    #[argh(option, arg_name = "OS/ARCH")]
    platform: Option<String>,
    /// the repository, instead of those of this machine's apt
    #[argh(option, arg_name = "URL")]
    mirror: Option<String>,
    /// a file of keys that have to have signed the index
    #[argh(option, arg_name = "FILE")]
    keyring: Vec<PathBuf>,
    /// print the image's id and nothing else
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
}

impl Bootfs {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        self.check()?;
        let names = self.tag.iter().map(|name| Ok(super::new_name(name)?.local().to_string()));
        let names = names.collect::<Result<Vec<String>>>()?;
        let platform = super::platform(self.platform.as_deref())?;
        let at = Locations::from_env(self.store.as_deref())?;
        super::enter_user_namespace();
        let mut store = Store::open(&at)?;
        let tx = store.begin()?;
        let kernel = self.find(&tx, &platform)?;
        let names = if names.is_empty() { own_names(&kernel.version) } else { names };
        let (manifest, size) = put(&tx, &kernel, platform)?;
        for name in &names {
            tx.tag(name, &dated(&tx, name, manifest.clone()))?;
        }
        drop(tx);
        let image = store.resolve(&names[0])?;
        if self.quiet {
            coracle_sys::say!("{}", image.id());
        } else {
            coracle_sys::say!("{:>8}  {} of {}", table::size(size), kernel.version, kernel.from);
            names.iter().for_each(|name| coracle_sys::say!("{name}  {}", image.id().short()));
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let of_package = self.package.is_some()
            || self.suite.is_some()
            || self.mirror.is_some()
            || !self.keyring.is_empty();
        match self.kernel.as_deref() {
            Some(_) if of_package => Err(Error::usage("--kernel: no package is fetched for it")),
            Some("host") if self.modules.is_some() || self.stub.is_some() => Err(Error::usage(
                "--kernel host has its own modules: --modules and --stub go with --kernel FILE",
            )),
            None if self.modules.is_some() || self.stub.is_some() => {
                Err(Error::usage("--modules and --stub go with --kernel FILE"))
            }
            _ => Ok(()),
        }
    }

    fn find(&self, tx: &Transaction<'_>, platform: &Platform) -> Result<Kernel> {
        match self.kernel.as_deref() {
            Some("host") => Kernel::of_host(),
            Some(file) => Kernel::of_files(file.as_ref(), &|_| self.modules.clone(), self.stub.as_deref()),
            None => {
                let choices = Choices {
                    mirror: self.mirror.clone(),
                    keyring: self.keyring.clone(),
                    ..Choices::default()
                };
                Kernel::of_package(tx, self.package.as_deref(), self.suite.as_deref(), &choices, platform)
            }
        }
    }
}

/// A version may hold what a tag may not.
fn own_names(version: &str) -> Vec<String> {
    let tag: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    vec!["localhost/bootfs:latest".to_owned(), format!("localhost/bootfs:{tag}")]
}

/// One layer. No time is of today: the kernel's own is that of the image.
fn put(
    tx: &Transaction<'_>,
    kernel: &Kernel,
    platform: Platform,
) -> Result<(coracle_store::image::Descriptor, u64)> {
    let mut files = kernel.files.clone();
    files.put_parents();
    let layer = tx.put_layer(&files, &[])?;
    super::warn(&layer.warnings);
    let created = time::rfc3339(source_date_epoch().unwrap_or(kernel.mtime().0));
    let labels = [
        (LABEL, kernel.version.clone()),
        ("org.opencontainers.image.title", "bootfs".to_owned()),
        ("org.opencontainers.image.version", kernel.version.clone()),
    ];
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = ImageConfig {
        created: Some(created.clone()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(ProcessConfig { labels: Some(labels), ..ProcessConfig::default() }),
        rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
        history: Some(vec![History {
            created: Some(created),
            created_by: Some(format!("rootfs-tool bootfs: {} of {}", kernel.version, kernel.from)),
            ..History::default()
        }]),
        ..ImageConfig::default()
    };
    let size = layer.descriptor.size;
    Ok((tx.put_image(&config, vec![layer.descriptor])?, size))
}
