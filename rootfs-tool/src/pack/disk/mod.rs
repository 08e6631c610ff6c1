//! A whole disk: a partition table, a boot partition that firmware reads, the root, and a partition for what changes.
//!
//! ```text
//! 0        MBR and GPT; blobs that a board's loader wants at fixed places
//! 1 MiB    esp      FAT32: EFI/BOOT/BOOTX64.EFI, a unified kernel image; extlinux/ for boards without EFI
//!          root-a   the root, in any format that the kernel mounts
//!          (free)   as large as root-a: the place of root-b, which who updates the system makes
//!          data     ext4, and last, so that it can grow to the disk's end
//! end      the table's copy
//! ```
//!
//! The same input gives the same disk: identifiers follow from what was written.
//!
//! An update with two roots in turn: who updates makes `root-b`, of the same type, in the free place behind `root-a`, writes
//! the new root there, and puts its kernel beside the old one. Firmware knows of one program alone; where the choice is
//! to be a loader's (`Boot::loader`, such as systemd-boot), kernels lie in EFI/Linux by their slots, and one of the name
//! `root-b+3.efi` has three tries: the loader counts them in the name, and falls back to the other when none is left.
//! Whoever finds the new system sound renames it to `root-b.efi`.

mod fat;
mod gpt;
mod uki;
mod window;

use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use coracle_store::layer::pack::Meta;
use coracle_sys::{Context, Error, Result, file};

use self::gpt::{Partition, SECTOR};
pub(crate) use self::window::Window;
use super::Target;
use super::ext4;
use super::tree::{Kind, Node, Tree};
use super::uuid::{Identity, Uuid};

/// Partitions begin and end at multiples of this.
const MIB: u64 = 1 << 20;
/// The least boot partition: FAT32 takes half of it, and a second kernel has room.
const LEAST_ESP: u64 = 64 * MIB;
/// The data partition as it is written; it grows at the first boot.
const LEAST_DATA: u64 = 16 * MIB;
/// Bits of a root that is mounted read only, and of a file system that may be grown (Discoverable Partitions).
const READ_ONLY: u64 = 1 << 60;
const GROW: u64 = 1 << 59;
/// The name of the first root, under which its kernel lies too.
const SLOT: &str = "root-a";
/// What partitions are for (Discoverable Partitions Specification).
const ESP: Uuid = Uuid(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b_u128.to_be_bytes());
const LINUX: Uuid = Uuid(0x0fc63daf_8483_4772_8e79_3d69d8477de4_u128.to_be_bytes());
/// Roots, by the architecture of the image.
const ROOTS: [(&str, u128); 5] = [
    ("amd64", 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709),
    ("arm64", 0xb921b045_1df0_41c3_af44_4c6f280d3fae),
    ("arm", 0x69dad710_2ce4_4e3c_b16c_21a1d49abed3),
    ("386", 0x44479540_f297_41b2_9af7_d131d5f0458a),
    ("riscv64", 0x72ec70a6_cf74_40e6_bd49_4bda08e8f224),
];

/// What starts the system.
pub(crate) struct Boot {
    pub(crate) kernel: Vec<u8>,
    /// As `uname -r` prints it.
    pub(crate) version: String,
    /// Makes a unified kernel image of it; without one there is none.
    pub(crate) stub: Option<Vec<u8>>,
    /// A boot loader that chooses among such images, in the place where the firmware looks; the image itself when none.
    pub(crate) loader: Option<Vec<u8>>,
    pub(crate) initrd: Vec<u8>,
    /// What the kernel is told after where its root is.
    pub(crate) cmdline: String,
    /// The image's os-release.
    pub(crate) os_release: Vec<u8>,
    /// A device tree, by its file's name.
    pub(crate) dtb: Option<(String, Vec<u8>)>,
}

/// A file that is copied to a fixed place of the disk.
#[derive(Clone)]
pub(crate) struct Blob {
    /// As it was typed.
    pub(crate) typed: String,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
}

/// How the disk is to be.
pub(crate) struct How {
    pub(crate) boot: Boot,
    pub(crate) blobs: Vec<Blob>,
    /// The root's file system, as mount(8) names it, and whether it is mounted for writing.
    pub(crate) root: (&'static str, bool),
    /// Bytes of the root's partition; when none, as many as it takes, and half as many again where it cannot be grown.
    pub(crate) slot: Option<u64>,
    /// Bytes of the disk; as few as will do when none.
    pub(crate) size: Option<u64>,
    /// Of the disk, and what those of the partitions follow from.
    pub(crate) uuid: Option<Uuid>,
    /// Of the image, in the words of images.
    pub(crate) architecture: String,
    /// When it was made, in seconds after 1970.
    pub(crate) time: u64,
}

/// Write a disk. `root` writes the root file system.
pub(crate) fn write(
    how: &How,
    root: &mut dyn FnMut(&mut Window<'_>) -> Result<()>,
    out: &mut (impl Write + Seek),
) -> Result<()> {
    let out: &mut dyn Target = out;
    let esp_start = blobs(&how.blobs, out)?;
    let esp_size = esp_size(&how.boot);
    let root_start = esp_start + esp_size;
    let mut window = Window::new(out, root_start);
    root(&mut window).context(|| "write the root")?;
    let (written, of_root) = window.finish();
    let mut of_root = Identity::of("root", of_root);
    if let Some(uuid) = &how.uuid {
        of_root.add(&uuid.0);
    }
    let of_root = of_root.digest();
    let root_uuid = Uuid::of(&of_root);
    let slot = slot(how, written)?;
    let data_start = root_start + 2 * slot;
    let least = data_start + LEAST_DATA + MIB;
    let size = how.size.unwrap_or(least) / SECTOR * SECTOR;
    if size < least {
        return Err(Error::usage(format!("--size: the disk takes {} MiB", least / MIB)));
    }
    let files = files(how, root_uuid)?;
    let mut of_disk = Identity::new("disk");
    of_disk.add(of_root.bytes());
    of_disk.number(size);
    for (name, content) in &files {
        of_disk.add(name.as_bytes());
        of_disk.add(content);
    }
    let of_disk = of_disk.digest();
    let named = |name: &str| {
        let mut identity = Identity::new(name);
        identity.add(of_disk.bytes());
        Uuid::of(&identity.digest())
    };
    let serial = named("fat").0;
    let serial = u32::from_be_bytes([serial[0], serial[1], serial[2], serial[3]]);
    let listed: Vec<(String, &[u8])> =
        files.iter().map(|(name, content)| (name.clone(), &content[..])).collect();
    let of_esp = fat::How { size: esp_size, before: esp_start, serial, time: how.time };
    fat::write(&listed, &of_esp, &mut Window::new(out, esp_start)).context(|| "write the boot partition")?;
    let data_size = (size - MIB - data_start) / MIB * MIB;
    data(how, data_size, named("data file system"), &mut Window::new(out, data_start))?;
    let (_, writable) = how.root;
    let kind = ROOTS.iter().find(|(known, _)| *known == how.architecture);
    let kind = kind.map_or(LINUX, |(_, kind)| Uuid(kind.to_be_bytes()));
    let partition =
        |name, kind, uuid, start, size, attributes| Partition { name, kind, uuid, start, size, attributes };
    let partitions = [
        partition("esp", ESP, named("esp"), esp_start, esp_size, 0),
        partition(SLOT, kind, root_uuid, root_start, slot, if writable { GROW } else { READ_ONLY }),
        partition("data", LINUX, named("data"), data_start, data_size, GROW),
    ];
    gpt::write(out, size, how.uuid.unwrap_or(named("table")), &partitions)
}

/// Copy blobs to their places. Gives where the first partition begins.
fn blobs(blobs: &[Blob], out: &mut dyn Target) -> Result<u64> {
    let mut places = Vec::new();
    for blob in blobs {
        let mut copy = || -> Result<()> {
            let bytes = file::read_plain(&blob.path)?;
            let end = blob.offset.checked_add(bytes.len() as u64).filter(|end| *end < 1 << 40);
            let end = end.ok_or_else(|| Error::usage("it is beyond 1 TiB"))?;
            gpt::check_place(blob.offset..end, &places)?;
            places.push((blob.offset..end, blob.typed.clone()));
            out.seek(SeekFrom::Start(blob.offset)).context(|| format!("seek to {}", blob.offset))?;
            out.write_all(&bytes).context(|| format!("write {} bytes at {}", bytes.len(), blob.offset))
        };
        copy().map_err(|e| e.wrap(format!("--blob {}", blob.typed)))?;
    }
    let end = places.iter().map(|(place, _)| place.end).max().unwrap_or(0);
    Ok(end.max(MIB).next_multiple_of(MIB))
}

/// Room for all that is to be in the boot partition, twice.
fn esp_size(boot: &Boot) -> u64 {
    let dtb = boot.dtb.as_ref().map_or(0, |(_, bytes)| bytes.len());
    let one = boot.kernel.len() + boot.initrd.len() + dtb;
    let loader = boot.loader.as_ref().map_or(0, Vec::len);
    let stub = boot.stub.as_ref().map_or(0, |stub| one + stub.len() + loader);
    let both = if plain(boot) { one } else { 0 } + stub;
    (2 * both as u64 + 4 * MIB).next_multiple_of(MIB).max(LEAST_ESP)
}

/// Is the system to be started without EFI too?
fn plain(boot: &Boot) -> bool {
    boot.stub.is_none() || boot.dtb.is_some()
}

/// Bytes of the root's partition.
fn slot(how: &How, written: u64) -> Result<u64> {
    match how.slot {
        Some(slot) if slot < written => {
            Err(Error::usage(format!("--root-size: the root takes {} MiB", written.div_ceil(MIB))))
        }
        Some(slot) => Ok(slot.next_multiple_of(MIB)),
        // What cannot be grown in its place may be replaced by what is larger.
        None if how.root.1 => Ok(written.next_multiple_of(MIB)),
        None => Ok((written + written / 2).next_multiple_of(4 * MIB)),
    }
}

/// The files of the boot partition.
fn files(how: &How, root: Uuid) -> Result<Vec<(String, Vec<u8>)>> {
    let (boot, (format, writable)) = (&how.boot, how.root);
    let mode = if writable { "rw" } else { "ro" };
    let mut cmdline = format!("root=PARTUUID={root} rootfstype={format} {mode} rootwait");
    if !boot.cmdline.is_empty() {
        cmdline = format!("{cmdline} {}", boot.cmdline);
    }
    let mut files = Vec::new();
    if let Some(stub) = &boot.stub {
        let version = boot.version.as_bytes();
        let mut sections: Vec<(&str, &[u8])> =
            vec![(".osrel", &boot.os_release), (".cmdline", cmdline.as_bytes()), (".uname", version)];
        if let Some((_, dtb)) = &boot.dtb {
            sections.push((".dtb", dtb));
        }
        sections.extend([(".initrd", &boot.initrd[..]), (".linux", &boot.kernel[..])]);
        let image = uki::build(stub, &sections).context(|| "make a unified kernel image")?;
        let program = format!("EFI/BOOT/{}", uki::removable_name(stub)?);
        match &boot.loader {
            None => files.push((program, image)),
            Some(loader) if uki::removable_name(loader)? != uki::removable_name(stub)? => {
                return Err(Error::usage("--loader: it is for another machine than the stub"));
            }
            Some(loader) => {
                files.push((program, loader.clone()));
                files.push((format!("EFI/Linux/{SLOT}.efi"), image));
            }
        }
    }
    if plain(boot) {
        let mut lines = format!(
            "default {SLOT}\ntimeout 10\nlabel {SLOT}\n  kernel /{SLOT}/vmlinuz\n  initrd /{SLOT}/initrd\n"
        );
        files.push((format!("{SLOT}/vmlinuz"), boot.kernel.clone()));
        files.push((format!("{SLOT}/initrd"), boot.initrd.clone()));
        if let Some((name, dtb)) = &boot.dtb {
            lines += &format!("  fdt /{SLOT}/{name}\n");
            files.push((format!("{SLOT}/{name}"), dtb.clone()));
        }
        lines += &format!("  append {cmdline}\n");
        files.push(("extlinux/extlinux.conf".to_owned(), lines.into_bytes()));
    }
    Ok(files)
}

/// An empty file system for what changes.
fn data(how: &How, size: u64, uuid: Uuid, out: &mut Window<'_>) -> Result<()> {
    let mut meta = Meta::new(0o755);
    meta.mtime.0 = how.time as i64;
    let tree = Tree { nodes: vec![Node { meta, kind: Kind::Dir(Vec::new()), links: 2, parent: 0 }] };
    let of = ext4::How {
        size: Some(size),
        uuid: Some(uuid),
        label: "data".to_owned(),
        time: how.time,
        spare: false,
    };
    ext4::write(&tree, &of, out).context(|| "write the data partition")
}
