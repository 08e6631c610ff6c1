//! `pack --format disk`: what starts the system from the disk, found and made ready.

use std::path::{Path, PathBuf};

use coracle_store::layer::Compression;
use coracle_store::layer::compress::Compressor;
use coracle_store::layer::pack::Archive;
use coracle_store::{Image, Store};
use coracle_sys::{Error, Kind as ErrorKind, Result, file, quantity};
use serde_json::Value;

use super::super::config_json;
use super::super::source::Source;
use super::Pack;
use crate::boot::conf::{self, Beside};
use crate::boot::initrd;
use crate::boot::kernel::{Kernel, STUB, VMLINUZ, fitting};
use crate::boot::modules::{self, Modules};
use crate::pack::disk::{Blob, Boot, How};
use crate::pack::ext4;
use crate::pack::format::{Format, Kind};
use crate::pack::uuid::Uuid;
use crate::recipe;

/// Modules by which disks are found, on virtual machines and on metal: those that the kernel has are loaded.
const DISKS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ahci",
    "ata_piix",
    "nvme",
    "vmw_pvscsi",
    "mptspi",
    "xhci_pci",
    "ehci_pci",
    "usb_storage",
    "uas",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
];
/// More than the words by which the root is named take.
const ROOT_WORDS: usize = 100;

/// Modules by which roots and data are mounted; ext4 asks for its sums by a name that no dependency tells.
const FILE_SYSTEMS: &[&str] = &["crc32c_generic", "ext4", "squashfs", "erofs", "overlay"];
/// Modules by which the end is told and the power button is heard.
const MACHINE: &[&str] = &["virtio_console", "button", "gpio_keys", "evdev"];
/// What systemd calls architectures in the names of its stubs.
const STUBS: &[(&str, &str)] =
    &[("amd64", "x64"), ("arm64", "aa64"), ("386", "ia32"), ("arm", "arm"), ("riscv64", "riscv64")];
/// What was typed, read.
pub(super) struct Typed {
    /// The root's format, and how it is made where that is ext4.
    pub(super) root: Format,
    mounted: (&'static str, bool),
    pub(super) ext4: ext4::How,
    size: Option<u64>,
    uuid: Option<Uuid>,
    blobs: Vec<Blob>,
}

impl Typed {
    /// Read it.
    pub(super) fn read(pack: &Pack, time: u64) -> Result<Self> {
        let root = pack.root.as_deref().unwrap_or("ext4");
        let format = Format::read(root).map_err(|e| e.wrap(format!("--root {root}")))?;
        let not = || Error::usage(format!("--root {root}: no kernel mounts that"));
        let mounted = format.kind.mounted().ok_or_else(not)?;
        source(pack).check()?;
        if let Some(words) = pack.cmdline.iter().find(|words| words.contains(['\n', '\0'])) {
            return Err(Error::usage(format!("--cmdline {words:?}: it is one line")));
        }
        let slot = pack.root_size.as_deref().map(|text| quantity::size(text, "--root-size")).transpose()?;
        if pack.label.is_some() && !matches!(format.kind, Kind::Ext4 | Kind::Erofs) {
            return Err(Error::usage(format!("--label: a root of {root} has none")));
        }
        Ok(Self {
            root: format,
            mounted,
            // A root that is written to has room for that.
            ext4: ext4::How {
                size: slot,
                spare: true,
                uuid: None,
                label: pack.label.clone().unwrap_or_default(),
                time,
            },
            size: pack.size.as_deref().map(|text| quantity::size(text, "--size")).transpose()?,
            uuid: pack.uuid.as_deref().map(|text| Uuid::parse(text, "--uuid")).transpose()?,
            blobs: pack.blob.iter().map(|typed| blob(typed)).collect::<Result<_>>()?,
        })
    }

    /// Find all that the disk takes besides the root's tree.
    pub(super) fn how(
        &self,
        pack: &Pack,
        store: &mut Store,
        image: &Image,
        tree: &Archive,
        time: u64,
    ) -> Result<How> {
        let platform = image.config.platform();
        let source = source(pack);
        let kernel = source.kernel(store, &platform)?;
        let config = image.config.process();
        let said = recipe::Boot::of(&config.labels.clone().unwrap_or_default())?;
        let commanded = config_json::has_command(image);
        let spec = spec(pack, commanded)?;
        let beside = Beside { stop_signal: config.stop_signal, commanded, ..Beside::default() };
        let conf = conf::of(&spec, &beside)?;
        let of = kernel.modules()?;
        let words = [said.cmdline.as_slice(), &pack.cmdline].concat().join(" ");
        let (words, mut asked) = of.take_asked(&words);
        asked.extend(said.modules);
        let names = self.modules(pack, &of, asked);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let loaded = initrd::modules(&kernel, &of, &names)?;
        let init = source.init(&platform)?;
        let mut packed = Compressor::new(Vec::new(), Compression::Gzip, None)?;
        initrd::write(None, &init, &conf, &loaded, &mut packed)?;
        let stub = stub(pack, &kernel, &platform.architecture)?;
        let dtb = pack.dtb.as_deref().map(device_tree).transpose()?;
        let boot = Boot {
            kernel: kernel.bytes(VMLINUZ)?.unwrap_or_default(),
            version: kernel.version.clone(),
            stub,
            loader: pack.loader.as_deref().map(file::read_plain).transpose()?,
            initrd: packed.finish()?,
            cmdline: fitting(words, ROOT_WORDS)?,
            os_release: os_release(tree)?,
            dtb,
        };
        let blobs = self.blobs.clone();
        Ok(How {
            boot,
            blobs,
            root: self.mounted,
            slot: self.ext4.size,
            size: self.size,
            uuid: self.uuid,
            architecture: platform.architecture,
            time,
        })
    }

    /// Names of the modules to load: what is not known is refused where it was typed, and left away where it is ours.
    fn modules(&self, pack: &Pack, of: &Modules, asked: Vec<String>) -> Vec<String> {
        let known = |names: &[&str]| {
            names.iter().filter(|name| of.has(name)).map(|name| (*name).to_owned()).collect()
        };
        let mut names: Vec<String> = known(DISKS);
        let file_systems: Vec<String> = known(FILE_SYSTEMS);
        let machine: Vec<String> = known(MACHINE);
        names.extend(file_systems);
        names.extend(machine);
        names.extend(asked);
        let typed = pack.modules.iter().flat_map(|names| names.split(','));
        names.extend(typed.filter(|name| !name.is_empty()).map(str::to_owned));
        names
    }
}

/// What was typed of the kernel and of init.
fn source(pack: &Pack) -> Source<'_> {
    Source {
        kernel: pack.kernel.as_deref(),
        modules: (pack.modules_dir.as_deref(), "--modules-dir"),
        bootfs: pack.bootfs.as_deref(),
        init: pack.init.as_deref(),
    }
}

/// The loader stub: of --stub, of the kernel's bootfs, or this machine's. A board may do without.
fn stub(pack: &Pack, kernel: &Kernel, architecture: &str) -> Result<Option<Vec<u8>>> {
    if let Some(path) = &pack.stub {
        return file::read_plain(path).map(Some);
    }
    if let Some(bytes) = kernel.bytes(STUB)? {
        return Ok(Some(bytes));
    }
    let name = STUBS.iter().find(|(known, _)| *known == architecture).map_or("none", |(_, name)| name);
    let path = Path::new("/usr/lib/systemd/boot/efi").join(format!("linux{name}.efi.stub"));
    match file::read_plain(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound && matches!(architecture, "amd64" | "386") => {
            Err(Error::not_found(format!(
                "find a loader stub: there is no {} (apt-get install systemd-boot-efi), and none was named: --stub FILE",
                path.display()
            )))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// FILE@OFFSET.
fn blob(typed: &str) -> Result<Blob> {
    let wrong = || Error::usage(format!("--blob {typed}: it has the form FILE@OFFSET"));
    let (path, offset) = typed.rsplit_once('@').filter(|(path, _)| !path.is_empty()).ok_or_else(wrong)?;
    let offset = quantity::size(offset, &format!("--blob {path}@"))?;
    Ok(Blob { typed: typed.to_owned(), path: PathBuf::from(path), offset })
}

fn device_tree(path: &Path) -> Result<(String, Vec<u8>)> {
    let read = || {
        let bytes = file::read_plain(path)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        // As Linux and U-Boot have them: FAT and extlinux.conf hold no others for certain.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ',' | '+' | '-');
        if !bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
            return Err(Error::invalid("it is no device tree in its binary form"));
        }
        match name.chars().all(plain) && !name.ends_with('.') {
            true => Ok((name, bytes)),
            false => Err(Error::usage("its name is not of letters, digits and ._,+-")),
        }
    };
    read().map_err(|e| e.wrap(format!("--dtb {}", path.display())))
}

/// The image's os-release, by which loaders name the entry.
fn os_release(tree: &Archive) -> Result<Vec<u8>> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if let Some((_, content)) = tree.get(path)
            && let Ok(bytes) = modules::bytes(content)
        {
            return Ok(bytes);
        }
    }
    Ok(b"ID=linux\nNAME=Linux\nPRETTY_NAME=Linux\n".to_vec())
}

/// The config.json that the runner makes of the image.
fn spec(pack: &Pack, commanded: bool) -> Result<Value> {
    let mut runner = config_json::spec(pack.store.as_deref())?;
    // By itself it draws one.
    let hostname = format!("--hostname={}", hostname(&pack.image));
    for word in [&hostname, "--", &pack.image] {
        runner.word(word);
    }
    if !commanded {
        runner.word(config_json::NO_COMMAND);
    }
    let made = config_json::made_by(&runner)?;
    made.ok_or_else(|| Error::invalid("ask the runner for the image's config.json"))
}

/// The machine's name, as the image's has it: without registry, folders and tag.
fn hostname(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = last.split([':', '@']).next().unwrap_or(last).chars().filter(plain).take(63).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { "machine".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_as_its_image() {
        for (image, name) in [
            ("shell", "shell"),
            ("localhost:5000/team/web_app:1.2", "webapp"),
            ("debian@sha256:0123", "debian"),
            ("__", "machine"),
        ] {
            assert_eq!(hostname(image), name);
        }
    }

    #[test]
    fn a_blob_is_a_file_at_an_offset() {
        let read = blob("dir/u-boot@x.bin@32K").expect("a blob");
        assert_eq!((read.path, read.offset), (PathBuf::from("dir/u-boot@x.bin"), 32 << 10));
        for typed in ["", "file", "@1M", "file@", "file@1Q"] {
            assert!(blob(typed).is_err(), "{typed}");
        }
    }
}
