//! Machines of another architecture: an image for arm64 with Debian's kernel, booted by the emulator and, as a disk, by firmware.
//! They take a network and minutes: `CORACLE_TEST_ALL=1`, which `make test-all` sets.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle_tests::{Cmd, Privilege, Store, machine, need, workspace};

const FIRMWARE: &str = "/usr/share/AAVMF/AAVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/AAVMF/AAVMF_VARS.fd";

/// A program without a C library: it says who it is, and ends with 7.
const PROGRAM: &str = r#"
.globl _start
_start:
    mov x8, #64
    mov x0, #1
    adr x1, 1f
    mov x2, #16
    svc #0
    mov x8, #93
    mov x0, #7
    svc #0
1:  .ascii "spoken by arm64\n"
"#;

/// What the firmware's machine says until it is off.
fn started_by_firmware(disk: &Path, variables: &Path) -> Vec<String> {
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-machine", "virt,accel=tcg", "-cpu", "max", "-m", "768", "-nographic", "-no-reboot"]);
    qemu.args(["-nodefaults", "-serial", "stdio", "-drive"])
        .arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"));
    qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
    qemu.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", disk.display()));
    qemu.args(["-device", "virtio-blk-pci,drive=disk"]);
    let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start qemu");
    let lines = machine::lines(&mut qemu);
    let end = Instant::now() + Duration::from_secs(400);
    let mut console = Vec::new();
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        console.push(line);
    }
    let _ = qemu.kill();
    let _ = qemu.wait();
    console
}

#[test]
fn an_image_for_arm64_boots_by_itself_and_as_a_disk() {
    if !coracle_tests::test_all() || !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: machines of arm64 are for CORACLE_TEST_ALL=1 on x86-64");
        return;
    }
    let init = workspace().join("dist/aarch64/init");
    let peers = [
        "qemu-system-aarch64",
        "aarch64-linux-gnu-gcc",
        "apt-get",
        "sgdisk",
        FIRMWARE,
        VARIABLES,
        init.to_str().expect("a path"),
    ];
    if !need(Privilege::Root) || !peers.iter().all(|peer| need(Privilege::Peer(peer))) {
        return;
    }
    let store = Store::new("boot-arm64");
    let scratch = &store.scratch;
    scratch.mkdir("recipe/files");
    let source = scratch.write("program.S", PROGRAM);
    let gcc = Cmd::new("aarch64-linux-gnu-gcc").args(["-nostdlib", "-static", "-o"]);
    gcc.arg(scratch.join("recipe/files/program")).arg(source).ok();
    let recipe = "[[layer]]\nstandard = true\n[[layer]]\ndir = \"files/\"\n[config]\ncmd = [\"/program\"]\n";
    scratch.write("recipe/rootfs.toml", recipe);
    let compose = store.rootfs_tool().arg("compose").arg(scratch.join("recipe"));
    compose.words("--platform linux/arm64 -t machine").ok();

    let boot = |words: &str| {
        let boot = store.rootfs_tool().arg("boot").words(words).arg("machine");
        boot.limit(Duration::from_secs(600))
    };
    let init = format!("--init {}", init.display());
    boot("").fails(125).complains("the runner's init is for amd64, name another: --init FILE");
    boot(&init).fails(125).complains("rootfs-tool bootfs --platform linux/arm64");
    let patience = Duration::from_secs(900);
    store.rootfs_tool().words("bootfs --platform linux/arm64").limit(patience).ok();
    for words in ["", "--root erofs"] {
        let out = boot(&format!("{init} {words}")).fails(7);
        assert_eq!(out.stdout, "spoken by arm64\n", "{words}: {}", out.stderr);
    }

    let (disk, variables) = (scratch.join("disk"), scratch.join("variables"));
    let pack = store.rootfs_tool().words("pack machine --format disk -o").arg(&disk).words(&init);
    pack.args(["--cmdline", "console=ttyAMA0 panic=-1"]).limit(patience).ok();
    let told = Cmd::new("sgdisk").args(["--verify", "--info=2"]).arg(&disk).ok().stdout;
    let root = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE";
    assert!(told.contains("No problems found") && told.contains(root), "{told}");
    std::fs::copy(VARIABLES, &variables).expect("copy");
    let console = started_by_firmware(&disk, &variables);
    for says in ["spoken by arm64", "reboot: Power down"] {
        assert!(console.iter().any(|line| line.ends_with(says)), "{says}:\n{}", console.join("\n"));
    }
}
