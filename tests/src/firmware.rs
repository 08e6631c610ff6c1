//! A machine that firmware starts from a disk: OVMF in the emulator, the disk as an NVMe drive.

use std::path::Path;
use std::process::Command;

/// What makes a unified kernel image.
pub const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// The firmware, and the variables that it begins with.
pub const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Each machine has its own copy.
pub const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The emulator's command line, with its console on standard output and no network.
pub fn machine(disk: &Path, variables: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot"]);
    qemu.args(["-nodefaults", "-serial", "stdio", "-drive"])
        .arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"));
    qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
    qemu.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", disk.display()));
    qemu.args(["-device", "nvme,drive=disk,serial=disk"]);
    qemu
}

/// The offset and the size of a partition, in sectors.
pub fn partition(disk: &Path, number: u32) -> (u64, u64) {
    let told = crate::Cmd::new("sgdisk").arg(format!("--info={number}")).arg(disk).ok().stdout;
    let field = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    (field("First sector: "), field("Partition size: "))
}

/// Take a partition out of a disk.
pub fn take(disk: &Path, number: u32, to: &Path) {
    let (first, sectors) = partition(disk, number);
    let words = format!("bs=512 skip={first} count={sectors} conv=sparse status=none");
    let dd = crate::Cmd::new("dd").arg(format!("if={}", disk.display())).arg(format!("of={}", to.display()));
    dd.words(&words).ok();
}
