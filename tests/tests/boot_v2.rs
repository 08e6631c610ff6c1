//! A machine with cgroup v2 alone: Debian's cloud kernel in an emulator, with an initramfs of busybox
//! and our runner. What is checked inside is `boot/v2.sh`; each of its lines has to be `ok`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_tests::{Cmd, Privilege, Scratch, binaries, need, peer, workspace};

/// The kernel to boot: `$CORACLE_TEST_KERNEL`, else the one that `make test` fetched.
fn kernel() -> Option<PathBuf> {
    let named = std::env::var_os("CORACLE_TEST_KERNEL").filter(|v| !v.is_empty()).map(PathBuf::from);
    let kernel = named.unwrap_or_else(|| workspace().join("target/test-kernel/vmlinuz"));
    kernel.is_file().then_some(kernel)
}

/// An initramfs as the kernel takes it.
fn initramfs(scratch: &Scratch, busybox: &Path) -> PathBuf {
    let root = scratch.mkdir("initramfs");
    let bin = scratch.mkdir("initramfs/bin");
    scratch.mkdir("initramfs/new");
    scratch.mkdir("initramfs/dev");
    std::fs::copy(busybox, bin.join("busybox")).expect("copy busybox");
    std::fs::copy(binaries::runner(), bin.join("runner")).expect("copy the runner");
    let tools = "sh mount mkdir cp ln switch_root sed grep cat ls sleep kill tr rm chown chmod su find poweroff head umount rmdir";
    for tool in tools.split(' ') {
        std::os::unix::fs::symlink("busybox", bin.join(tool)).expect("link a tool");
    }
    let script = workspace().join("tests/boot/v2.sh");
    Cmd::new("install").args(["-m", "755"]).arg(script).arg(root.join("init")).ok();
    let image = scratch.join("initramfs.cpio");
    let pack = "cd \"$1\" && find . | \"$0\" cpio -o -H newc >\"$2\"";
    Cmd::new("sh").args(["-c", pack]).arg(busybox).arg(&root).arg(&image).ok();
    image
}

#[test]
fn limits_hold_on_cgroup_v2_alone() {
    // What is inside does not depend on who boots it, and one boot takes long enough.
    if !need(Privilege::Root) {
        return;
    }
    if !need(Privilege::Peer("qemu-system-x86_64")) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let Some(kernel) = kernel() else {
        let required = std::env::var("REQUIRE_ALL").is_ok_and(|v| !matches!(v.as_str(), "" | "0"));
        assert!(!required, "REQUIRE_ALL is set and there is no kernel to boot (tests/needs fetches one)");
        eprintln!("skipped: limits_hold_on_cgroup_v2_alone: no kernel to boot (tests/needs fetches one)");
        return;
    };
    let scratch = Scratch::new("boot");
    let image = initramfs(&scratch, &peer("busybox").expect("busybox"));
    let output = Cmd::new("qemu-system-x86_64")
        .words(
            "-machine q35,accel=tcg -cpu max -m 1536 -smp 1 -nographic -no-reboot -nodefaults -serial stdio",
        )
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", "console=ttyS0 quiet loglevel=0 panic=-1 cgroup_no_v1=all"])
        .limit(Duration::from_secs(300))
        .ok();
    // The firmware leaves its own last line open.
    let check = |l: &str| l.find("CHECK").map(|at| l[at..].trim_end().to_owned());
    let lines: Vec<String> = output.stdout.lines().filter_map(check).collect();
    let failed: Vec<_> =
        lines.iter().filter(|l| !l.starts_with("CHECK ok ") && *l != "CHECKS DONE").collect();
    assert!(
        failed.is_empty() && lines.last().is_some_and(|l| l == "CHECKS DONE") && lines.len() == 24,
        "{output}"
    );
}
