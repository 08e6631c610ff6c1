//! Where the kernel and the init of a machine come from, as `boot` and `pack` name them.

use std::path::{Path, PathBuf};

use coracle_store::Store;
use coracle_store::image::Platform;
use coracle_sys::process::Status;
use coracle_sys::program::Program;
use coracle_sys::{Error, Kind, Result, file};

use crate::boot::kernel::{Kernel, installed};
use crate::compose::deb::Choices;
use crate::dockerfile::exec::find_runner;

/// Where a bootfs is looked for.
const BOOTFS: &str = "localhost/bootfs:latest";

/// What was typed.
pub(super) struct Source<'a> {
    /// `--kernel`: a file, or one of the words.
    pub(super) kernel: Option<&'a str>,
    /// The folder of a file's modules, and what its flag is called.
    pub(super) modules: (Option<&'a Path>, &'static str),
    /// `--bootfs`
    pub(super) bootfs: Option<&'a str>,
    /// `--init`
    pub(super) init: Option<&'a Path>,
}

impl Source<'_> {
    /// Do the flags go together?
    pub(super) fn check(&self) -> Result<()> {
        let is_word = |kernel| matches!(kernel, "package" | "host" | "bootfs");
        let (modules, flag) = self.modules;
        if modules.is_some() && self.kernel.is_none_or(is_word) {
            return Err(Error::usage(format!("{flag} goes with --kernel FILE")));
        }
        if self.bootfs.is_some() && self.kernel.is_some_and(|kernel| kernel != "bootfs") {
            return Err(Error::usage("--bootfs and --kernel: it is one or the other"));
        }
        Ok(())
    }

    /// The kernel: where nothing is named that of the bootfs, else this machine's.
    pub(super) fn kernel(&self, store: &mut Store, platform: &Platform) -> Result<Kernel> {
        let of_image = |store: &Store, name: &str| {
            let image = store.resolve_for(name, platform)?;
            Kernel::of_image(store, &image, name)
        };
        let kernel = match (self.kernel, self.bootfs) {
            (Some("package"), _) => {
                let tx = store.begin()?;
                Kernel::of_package(&tx, None, None, &Choices::default(), platform)
            }
            (Some("host"), _) => Kernel::of_host(),
            (Some("bootfs"), name) => of_image(store, name.unwrap_or(BOOTFS)),
            (Some(path), _) => self.of_file(path.as_ref()),
            (None, Some(name)) => of_image(store, name),
            (None, None) => match store.find(BOOTFS) {
                Ok(_) => of_image(store, BOOTFS),
                Err(e) if e.kind() == Kind::NotFound => of_host(platform),
                Err(e) => Err(e),
            },
        }?;
        kernel.check_for(&platform.architecture)?;
        Ok(kernel)
    }

    fn of_file(&self, path: &Path) -> Result<Kernel> {
        // Its modules may be where they are of a kernel that is installed.
        let modules = |version: &str| self.modules.0.map(Path::to_owned).or_else(|| installed(version));
        Kernel::of_files(path, &modules, None)
    }

    /// init's bytes: of --init, of $CORACLE_INIT, or those that the runner carries.
    pub(super) fn init(&self, platform: &Platform) -> Result<Vec<u8>> {
        let named = std::env::var_os("CORACLE_INIT").filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = self.init.or(named.as_deref()) {
            let bytes = file::read_plain(path)?;
            // Of anything else the kernel would pass on to the image's own init, without a word.
            return match bytes.starts_with(b"\x7fELF") {
                true => Ok(bytes),
                false => Err(Error::usage(format!("read init: {path:?} is no program"))),
            };
        }
        let host = Platform::host().architecture;
        if platform.architecture != host {
            return Err(Error::usage(format!(
                "make a machine of {}: the runner's init is for {host}, name another: --init FILE",
                platform.architecture
            )));
        }
        let mut runner = Program::new(&find_runner()?);
        runner.word("init");
        match runner.hear()? {
            (Status::Exited(0), bytes, _) => Ok(bytes),
            (_, _, said) => {
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                Err(Error::invalid(format!("ask the runner for init: {said}")))
            }
        }
    }
}

/// This machine's own kernel, where nothing else was made or named.
fn of_host(platform: &Platform) -> Result<Kernel> {
    let architecture = &platform.architecture;
    if *architecture != Platform::host().architecture {
        return Err(Error::not_found(format!(
            "find a kernel: this machine's is not for {architecture}: rootfs-tool bootfs --platform {platform}, or --kernel FILE"
        )));
    }
    Kernel::of_host().map_err(|e| {
        Error::not_found(format!(
            "find a kernel: {e}: apt-get install linux-image-cloud-{architecture}, or rootfs-tool bootfs, or --kernel FILE"
        ))
    })
}
