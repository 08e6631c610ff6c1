//! A kernel with all that belongs to it, wherever it comes from: a Debian package, this machine, files, or a bootfs, which
//! is an image of just this. All become one layout: `boot/vmlinuz`, `boot/config`, `boot/stub.efi` (what makes a unified
//! kernel image of it) and `lib/modules/VERSION/`.

use std::path::{Path, PathBuf};

use coracle_store::image::Platform;
use coracle_store::layer::pack::{Archive, Content, FromDir, Meta};
use coracle_store::write::Scratch;
use coracle_store::{Image, Store, Transaction};
use coracle_sys::{Context, Error, Kind, Result, file};

use super::modules::{self, Modules};
use super::vmlinuz;
use crate::compose::deb;
use crate::pack;

/// The kernel's file.
pub(crate) const VMLINUZ: &str = "boot/vmlinuz";
/// How it was configured.
const CONFIG: &str = "boot/config";
/// The loader stub.
pub(crate) const STUB: &str = "boot/stub.efi";
/// The folder of folders of modules.
const MODULES: &str = "lib/modules";

/// The label of a bootfs that has its kernel's version.
pub(crate) const LABEL: &str = "coracle.kernel.version";

/// Architectures of images: Debian's package with a kernel for machines that are emulated, and the name of the stub.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("amd64", "linux-image-cloud-amd64", "linuxx64.efi.stub"),
    ("arm64", "linux-image-cloud-arm64", "linuxaa64.efi.stub"),
    ("riscv64", "linux-image-riscv64", "linuxriscv64.efi.stub"),
    ("386", "linux-image-686", "linuxia32.efi.stub"),
    ("arm", "linux-image-armmp", ""),
    ("ppc64le", "linux-image-powerpc64le", ""),
    ("s390x", "linux-image-s390x", ""),
];

/// A kernel.
pub(crate) struct Kernel {
    /// As `uname -r` prints it.
    pub(crate) version: String,
    /// Where it is from, as it is told.
    pub(crate) from: String,
    /// In the one layout.
    pub(crate) files: Archive,
    /// Files of the archive lie in it.
    _scratch: Option<Scratch>,
}

impl Kernel {
    /// Its newest package, or the one named, of a suite or of the host's.
    pub(crate) fn of_package(
        tx: &Transaction<'_>,
        package: Option<&str>,
        suite: Option<&str>,
        choices: &deb::Choices,
        platform: &Platform,
    ) -> Result<Self> {
        let row = PACKAGES.iter().find(|(name, ..)| *name == platform.architecture);
        let package = package.or(row.map(|r| r.1));
        let package = package.ok_or_else(|| {
            Error::usage(format!("name the package with a kernel for {platform}: --package NAME"))
        })?;
        let stub = row.map_or("", |r| r.2);
        let names = [(package, "linux-image-"), ("systemd-boot-efi", "")];
        let wanted = if stub.is_empty() { &names[..1] } else { &names };
        let deb::Single { archive, packages, scratch } = deb::take(tx, suite, wanted, choices, platform)?;
        let (name, version) = packages.first().cloned().unwrap_or_default();
        let unpack = || Self::of_tree(&archive, stub, format!("{name} {version}"));
        let mut kernel = unpack().context(|| format!("read the package {name}"))?;
        kernel._scratch = Some(scratch);
        Ok(kernel)
    }

    /// Of an unpacked package.
    fn of_tree(tree: &Archive, stub: &str, from: String) -> Result<Self> {
        let mut files = Archive::new();
        let mut version = None;
        // Debian has moved lib below usr.
        let inside = |path: &str| path.strip_prefix("usr/").unwrap_or(path).to_owned();
        let paths = tree.paths().filter_map(Path::to_str);
        for path in paths {
            let Some((meta, content)) = tree.get(path) else { continue };
            let below = inside(path);
            let to = if let Some(found) = below.strip_prefix("boot/vmlinu").filter(|_| version.is_none()) {
                version = found.split_once('-').map(|(_, version)| version.to_owned());
                VMLINUZ.to_owned()
            } else if below.starts_with("boot/config-") {
                CONFIG.to_owned()
            } else if !stub.is_empty() && below.rsplit('/').next() == Some(stub) {
                STUB.to_owned()
            } else if below.starts_with("lib/modules/") {
                below
            } else {
                continue;
            };
            files.put(to, meta.clone(), content.clone())?;
        }
        let version = version.ok_or_else(|| Error::not_found("it holds no boot/vmlinuz-VERSION"))?;
        Self { version, from, files, _scratch: None }.whole()
    }

    /// The one that runs here, else the newest in /boot.
    pub(crate) fn of_host() -> Result<Self> {
        let uname = nix::sys::utsname::uname().context(|| "uname()")?;
        let running = uname.release().to_string_lossy().into_owned();
        let mut all: Vec<String> = std::fs::read_dir("/boot")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
            .collect();
        coracle_sys::order::sort_by(&mut all, |a, b| deb::version::compare(a, b));
        let version = all.iter().find(|v| **v == running).or(all.last());
        let version = version
            .ok_or_else(|| Error::not_found("find a kernel of this machine: there is no /boot/vmlinuz-*"))?;
        let vmlinuz = PathBuf::from(format!("/boot/vmlinuz-{version}"));
        let mut kernel = Self::of_files(&vmlinuz, &|_| installed(version), None)?;
        kernel.put_file(CONFIG, Path::new(&format!("/boot/config-{version}")))?;
        Ok(kernel)
    }

    /// Of a kernel's file, the folder of the modules of its version, and the stub.
    pub(crate) fn of_files(
        vmlinuz: &Path,
        modules: &dyn Fn(&str) -> Option<PathBuf>,
        stub: Option<&Path>,
    ) -> Result<Self> {
        let read = || -> Result<(String, Vec<u8>)> {
            let bytes = file::read_plain(vmlinuz)?;
            vmlinuz::whole(&bytes)?;
            Ok((vmlinuz::version(&bytes).and_then(plain)?, bytes))
        };
        let (version, bytes) = read().context(|| format!("read the kernel {vmlinuz:?}"))?;
        let mut files = Archive::new();
        let meta = vmlinuz.metadata().context(|| format!("stat({vmlinuz:?})"))?;
        let mtime = (std::os::unix::fs::MetadataExt::mtime(&meta), 0);
        files.put(VMLINUZ, Meta { mtime, ..Meta::new(0o644) }, Content::Bytes(bytes))?;
        if let Some(dir) = modules(&version) {
            // The folder of folders will do, and what make modules_install wrote.
            let inside = [dir.join(&version), dir.join(MODULES).join(&version)];
            let dir = inside.into_iter().find(|inside| inside.is_dir()).unwrap_or(dir);
            let how = FromDir { xattrs: false, ..FromDir::default() };
            // Links to the kernel's sources lead nowhere in an image; tables of another format than text are the host's.
            let mut wanted =
                |path: &[u8], _: bool| !matches!(path, b"build" | b"source") && !path.ends_with(b".bin");
            let mut tree = Archive::new();
            tree.put_dir_where(&dir, how, &mut wanted)?;
            let of_modules = |path: &[u8]| {
                path.starts_with(b"modules.")
                    || modules::ENDS.iter().any(|end| path.ends_with(end.as_bytes()))
            };
            // An empty one says that all is in the kernel itself.
            if tree.inside(b"").next().is_some() && !tree.inside(b"").any(|(path, ..)| of_modules(path)) {
                return Err(Error::usage(format!(
                    "the folder of modules {dir:?} has no *.ko: name the one of {version}, or an empty one where there are none"
                )));
            }
            for (path, meta, content) in tree.inside(b"") {
                files.put(
                    format!("{MODULES}/{version}/{}", String::from_utf8_lossy(path)),
                    meta.clone(),
                    content.clone(),
                )?;
            }
        }
        let mut kernel = Self { version, from: vmlinuz.display().to_string(), files, _scratch: None };
        if let Some(stub) = stub {
            kernel.put_file(STUB, stub)?;
            kernel
                .files
                .get(STUB)
                .ok_or_else(|| Error::not_found(format!("read {stub:?}: there is no such file")))?;
        }
        kernel.whole()
    }

    /// Put a file where there is one.
    fn put_file(&mut self, at: &str, path: &Path) -> Result<()> {
        let bytes = match file::read_plain(path) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            bytes => bytes?,
        };
        let mtime = self.mtime();
        self.files.put(at, Meta { mtime, ..Meta::new(0o644) }, Content::Bytes(bytes))
    }

    /// Of a bootfs.
    pub(crate) fn of_image(store: &Store, image: &Image, name: &str) -> Result<Self> {
        let read = || {
            let files = pack::archive(store, image, None)?;
            let not = || Error::invalid("it is no bootfs: it has no boot/vmlinuz");
            let (_, content) = files.get(VMLINUZ).ok_or_else(not)?;
            let labels = image.config.process().labels.unwrap_or_default();
            let version = match labels.get(LABEL) {
                Some(version) => version.clone(),
                None => vmlinuz::version(&modules::bytes(content)?)?,
            };
            Self { version, from: name.to_owned(), files, _scratch: None }.whole()
        };
        read().context(|| format!("read the bootfs {name}"))
    }

    /// With tables of its modules, and nothing but plain owners.
    fn whole(mut self) -> Result<Self> {
        self.version = plain(self.version)?;
        let dir = self.dir();
        let has_modules = self.files.inside(dir.as_bytes()).next().is_some();
        if has_modules && self.files.get(format!("{dir}/modules.dep")).is_none() {
            let mtime = self.mtime();
            modules::put_tables(&mut self.files, &dir, mtime)?;
        }
        Ok(self)
    }

    /// When the kernel's file was made: what else is made for it has no other time.
    pub(crate) fn mtime(&self) -> (i64, u32) {
        self.files.get(VMLINUZ).map_or((0, 0), |(meta, _)| meta.mtime)
    }

    /// The folder of its modules.
    pub(crate) fn dir(&self) -> String {
        format!("{MODULES}/{}", self.version)
    }

    /// Is it for this architecture? Where its file does not say, it is taken to be.
    pub(crate) fn check_for(&self, architecture: &str) -> Result<()> {
        let bytes = self.bytes(VMLINUZ)?.unwrap_or_default();
        match vmlinuz::architecture(&bytes) {
            // Such a kernel runs programs of its smaller brother.
            Some(found) if found != architecture && (found, architecture) != ("amd64", "386") => {
                Err(Error::usage(format!(
                    "the kernel {} is for {found}, and the image for {architecture}",
                    self.from
                )))
            }
            _ => Ok(()),
        }
    }

    /// Its modules.
    pub(crate) fn modules(&self) -> Result<Modules> {
        Modules::of(&self.files, &self.dir())
    }

    /// The bytes of one of its files, none where it has no such file.
    pub(crate) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let found = self.files.get(path).map(|(_, content)| modules::bytes(content)).transpose();
        found.context(|| format!("read {path} of the kernel {}", self.version))
    }
}

/// Where the modules of an installed kernel are.
pub(crate) fn installed(version: &str) -> Option<PathBuf> {
    let dir = Path::new("/").join(MODULES).join(version);
    dir.is_dir().then_some(dir)
}

/// A version, which is to name a folder.
fn plain(version: String) -> Result<String> {
    match version.is_empty() || version.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        true => Err(Error::invalid(format!("{version:?} is no kernel's version"))),
        false => Ok(version),
    }
}

/// The most that a kernel takes of a command line, its end included: COMMAND_LINE_SIZE of x86 and arm64. It cuts off what is
/// beyond, without a word.
const COMMAND_LINE: usize = 2048;

/// A command line that a kernel takes whole, with so many bytes beside it.
pub(crate) fn fitting(line: String, beside: usize) -> Result<String> {
    match line.len() + beside {
        ..COMMAND_LINE => Ok(line),
        length => Err(Error::usage(format!(
            "the kernel's command line has {length} bytes, and {} are the most: variables and words of the command need none of it",
            COMMAND_LINE - 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_becomes_the_layout_of_a_bootfs() {
        for lib in ["lib", "usr/lib"] {
            let mut tree = Archive::new();
            let module = modules::plain(super::super::modinfo::tests::module(b"depends=\0")).unwrap();
            for (path, bytes) in [
                ("boot/vmlinuz-6.1-x".to_owned(), b"kernel".to_vec()),
                ("boot/config-6.1-x".to_owned(), Vec::new()),
                ("boot/System.map-6.1-x".to_owned(), Vec::new()),
                (format!("{lib}/modules/6.1-x/kernel/a.ko"), module),
                ("usr/lib/systemd/boot/efi/linuxx64.efi.stub".to_owned(), b"stub".to_vec()),
                ("usr/share/doc/x/copyright".to_owned(), Vec::new()),
            ] {
                tree.put(path, Meta { mtime: (9, 0), ..Meta::new(0o644) }, Content::Bytes(bytes)).unwrap();
            }
            let kernel = Kernel::of_tree(&tree, "linuxx64.efi.stub", "x".to_owned()).unwrap();
            let paths: Vec<&str> = kernel.files.paths().filter_map(Path::to_str).collect();
            let dir = "lib/modules/6.1-x";
            let expected = ["kernel/a.ko", "modules.alias", "modules.dep", "modules.softdep"]
                .map(|f| format!("{dir}/{f}"));
            assert_eq!(paths[..3], ["boot/config", "boot/stub.efi", "boot/vmlinuz"]);
            assert_eq!(paths[3..], expected);
            assert_eq!((kernel.version.as_str(), kernel.mtime()), ("6.1-x", (9, 0)));
            assert!(kernel.modules().unwrap().has("a"));
        }
    }
}
