//! A whole disk, started by firmware: its kernel, its root, its data partition, which grows, and what is left of all that
//! when the power is cut.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use coracle_tests::firmware::{FIRMWARE, STUB, VARIABLES, partition};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, firmware, machine, need};

const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// What the image does: tell what it finds, count the boots, and write without an end where the count says so.
const COMMAND: &str = r#"#!/bin/sh
echo "CHECK root $(awk '$2 == "/" { print $3, substr($4, 1, 2) }' /proc/mounts)"
echo "CHECK data $(awk '$2 == "/data" { print $3 }' /proc/mounts)"
echo "CHECK size $(df -m /data | awk 'END { print ($2 > 150 ? "large" : "small") }')"
echo boot >>/data/boots
sync
echo "CHECK boots $(wc -l </data/boots)"
if [ "$(wc -l </data/boots)" = 2 ]; then
    while :; do n=$((n + 1)); echo "$n" >/data/new; mv /data/new /data/last; [ "$n" != 50 ] || echo CHECK writing; done
fi
echo "CHECK done"
"#;

/// The console's checks until the machine is off, or until the power is cut after `cut`.
fn boot(disk: &Path, variables: &Path, cut: &str) -> Vec<String> {
    let mut qemu = firmware::machine(disk, variables);
    let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start qemu");
    let lines = machine::lines(&mut qemu);
    let end = Instant::now() + Duration::from_secs(240);
    let (mut console, mut checks) = (Vec::new(), Vec::new());
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if let Some(at) = line.find("CHECK ") {
            checks.push(line[at + 6..].to_owned());
        }
        let over = line.ends_with(cut);
        console.push(line);
        if over {
            break;
        }
    }
    let _ = qemu.kill();
    let _ = qemu.wait();
    assert!(!checks.is_empty(), "the command was not reached:\n{}", console.join("\n"));
    checks
}

/// A partition's file system has no fault, and was unmounted.
#[track_caller]
fn clean(store: &Store, disk: &Path, number: u32) {
    let to = store.scratch.join("partition");
    firmware::take(disk, number, &to);
    let said = Cmd::new("e2fsck").args(["-f", "-n"]).arg(&to).ok().stdout;
    assert!(!said.contains('?') && !said.contains("recover"), "{said}");
    std::fs::remove_file(to).expect("remove");
}

/// A disk of an image whose command is this, with further words of `pack`; none where it cannot be booted here.
fn disk(command: &str, words: &[&str]) -> Option<(Store, PathBuf, PathBuf)> {
    let programs = ["qemu-system-x86_64", "sgdisk", "e2fsck", "mren", "busybox"];
    let files = [STUB, LOADER, FIRMWARE, VARIABLES];
    if !need(Privilege::Root) || !programs.iter().chain(&files).all(|peer| need(Privilege::Peer(peer))) {
        return None;
    }
    let (kernel, _) = machine::need_kernel()?;
    let store = Store::new("boot-disk");
    Image::busybox()?.script("command", command).config("cmd = [\"/command\"]").compose(&store, "machine");
    let (disk, variables) = (store.scratch.join("disk"), store.scratch.join("variables"));
    // All that such a machine's disk takes is in this kernel itself.
    let modules = store.scratch.mkdir("no-modules");
    let pack =
        store.rootfs_tool().args(["pack", "machine", "--format=disk", "--stub", STUB, "-o"]).arg(&disk);
    let pack = pack.arg("--kernel").arg(&kernel).arg("--modules-dir").arg(&modules).args(words);
    pack.args(["--cmdline", "console=ttyS0 quiet panic=-1 init.data=PARTLABEL=data:/data"]).ok();
    std::fs::copy(VARIABLES, &variables).expect("copy");
    Some((store, disk, variables))
}

#[test]
fn firmware_starts_a_disk_whose_data_grows_and_outlives_a_power_cut() {
    let Some((store, disk, variables)) = disk(COMMAND, &[]) else { return };
    let (_, small) = partition(&disk, 3);
    Cmd::new("truncate").args(["-s", "400M"]).arg(&disk).ok();

    let first = boot(&disk, &variables, "reboot: Power down");
    assert_eq!(first, ["root ext4 rw", "data ext4", "size large", "boots 1", "done"]);
    let told = Cmd::new("sgdisk").arg("--verify").arg(&disk).ok().stdout;
    assert!(told.contains("No problems found") && partition(&disk, 3).1 > small, "{told}");
    clean(&store, &disk, 2);
    clean(&store, &disk, 3);

    let second = boot(&disk, &variables, "CHECK writing");
    assert_eq!(second, ["root ext4 rw", "data ext4", "size large", "boots 2", "writing"]);
    let third = boot(&disk, &variables, "reboot: Power down");
    assert_eq!(third, ["root ext4 rw", "data ext4", "size large", "boots 3", "done"]);
    clean(&store, &disk, 2);
    clean(&store, &disk, 3);
}

#[test]
fn a_boot_loader_counts_the_tries_of_a_kernel_on_the_disk() {
    let Some((store, disk, variables)) = disk("#!/bin/sh\necho CHECK done\n", &["--loader", LOADER]) else {
        return;
    };
    let esp = format!("{}@@{}", disk.display(), partition(&disk, 1).0 * 512);
    Cmd::new("mren").args(["-i", &esp, "::EFI/Linux/root-a.efi", "root-a+3.efi"]).ok();
    assert_eq!(boot(&disk, &variables, "reboot: Power down"), ["done"]);
    let listed = Cmd::new("mdir").args(["-b", "-i", &esp, "::EFI/Linux"]).ok().stdout;
    assert_eq!(listed.trim(), "::/EFI/Linux/root-a+2-1.efi");
    clean(&store, &disk, 2);
}
