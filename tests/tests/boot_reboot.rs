//! A machine with cgroup v2 alone whose power is cut while containers run in the background, and which is booted again. What
//! is checked inside is `boot/reboot.sh`.

use coracle_tests::machine::Machine;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Scratch, Store};

#[test]
fn containers_in_the_background_outlive_their_caller_and_come_back_after_a_power_cut() {
    let scratch = Scratch::new("reboot");
    let Some(machine) = Machine::new(&scratch, "reboot.sh", &["overlay.ko"]) else { return };
    let store = Store::new("reboot-store");
    let image = Image::busybox().expect("busybox").compose(&store, "box");
    // The disk holds the store; the root of a container without an image is a folder of the machine.
    let content = scratch.mkdir("content");
    Cmd::new("cp").arg("-a").arg(store.path()).arg(content.join("store")).ok();
    drop(image);
    let disk = scratch.join("disk");
    Cmd::new("truncate").args(["-s", "256M"]).arg(&disk).ok();
    Cmd::new("mkfs.ext4").args(["-q", "-d"]).arg(&content).arg(&disk).ok();
    let machine = machine.with_disk(disk);
    machine.boot("", Some("POWER")).passed(16, "CHECK ok POWER");
    machine.boot("again", None).passed(15, "CHECKS DONE");
}
