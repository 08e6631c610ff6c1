//! A machine whose disk keeps quotas of projects, which few hosts of tests have. What is checked inside is `boot/quota.sh`.

use coracle_tests::machine::Machine;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Scratch, Store};

/// Puts a directory into project 0, and lets what is made in it be of none.
const REPROJECT: &str = r#"
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/ioctl.h>
    struct { unsigned xflags, extsize, nextents, projid, cowextsize; char pad[8]; } none;
    int main(int argc, char **argv) {
        int fd = open(argv[1], O_RDONLY), flags = 0;
        printf("FSSETXATTR: %s\n", strerror(ioctl(fd, _IOW('X', 32, none), &none) ? errno : 0));
        ioctl(fd, _IOR('f', 1, long), &flags);
        flags &= ~0x20000000;
        printf("SETFLAGS: %s\n", strerror(ioctl(fd, _IOW('f', 2, long), &flags) ? errno : 0));
    }
"#;

#[test]
fn what_a_container_writes_to_disk_is_held_to_its_quota() {
    let scratch = Scratch::new("quota");
    let modules = ["overlay.ko", "quota_tree.ko", "quota_v2.ko"];
    let Some(machine) = Machine::new(&scratch, "quota.sh", &modules) else { return };
    let store = Store::new("quota-store");
    let image = Image::busybox().expect("busybox").program("bin/reproject", REPROJECT).expect("a compiler");
    let image = image.compose(&store, "box");
    let content = scratch.mkdir("content");
    Cmd::new("cp").arg("-a").arg(store.path()).arg(content.join("store")).ok();
    drop(image);
    let disk = scratch.join("disk");
    Cmd::new("truncate").args(["-s", "256M"]).arg(&disk).ok();
    Cmd::new("mkfs.ext4").args(["-q", "-O", "quota,project", "-d"]).arg(&content).arg(&disk).ok();
    machine.with_disk(disk).boot("", None).passed(17, "CHECKS DONE");
}
