//! The escape corpus: what an image's config, its labels and the filter's defaults must not let through.

use coracle_tests::canary::Canary;
use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Store, need};

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

/// A line of /proc/self/status in a program's output.
#[track_caller]
fn field<'a>(out: &'a Output, name: &str) -> &'a str {
    let line = out.stdout.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}\n{out}")).trim()
}

// CVE-2024-40635, as an image says it
#[test]
fn an_images_user_that_is_out_of_range_is_refused() {
    if !ready() {
        return;
    }
    for user in ["4294967296", "-1", "2147483648:99999999999"] {
        let store = Store::new("image-user");
        let image = Image::busybox().expect("busybox").config(format!("user = \"{user}\""));
        if image.compose_command(&store, "image").run().code() == 0 {
            let out = store.run("image id").run();
            assert!(out.code() != 0 && !out.stdout.contains("uid=0"), "{user}: {out}");
        }
    }
}

// CVE-2026-53488
#[test]
fn a_label_of_an_image_is_inert() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("labels"), Canary::new());
    let touch = format!("touch {}/made", canary.path().display());
    let labels = ["run", "RUN", "INSTALL", "io.podman.annotations.privileged", "coracle.privileged"];
    let labels: Vec<String> = labels.iter().map(|l| format!("{l:?} = {touch:?}")).collect();
    let image = Image::busybox().expect("busybox").config(format!("labels = {{ {} }}", labels.join(", ")));
    let _image = image.compose(&store, "image");
    let out = store.run("image cat /proc/self/status").ok();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field(&out, "CapEff"), "00000000a80425fb");
    }
    store.rootfs_tool().words("inspect image").ok();
    canary.assert_untouched();
}

// CVE-2026-31431
#[test]
fn sockets_of_the_kernels_crypto_and_of_the_hypervisor_are_refused() {
    if !ready() || !need(Privilege::Peer("cc")) {
        return;
    }
    let store = Store::new("sockets");
    let image = Image::busybox().expect("busybox").program("bin/sockets", SOCKETS).expect("a compiler");
    let _image = image.compose(&store, "image");
    let out = store.run("image sockets").ok();
    assert_eq!(out.text(), "38 1\n40 1\ninet 0", "EPERM is 1");
}

const SOCKETS: &str = "
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
int main(void) {
    int families[] = {38, 40};
    for (int i = 0; i < 2; i++)
        printf(\"%d %d\\n\", families[i], socket(families[i], SOCK_SEQPACKET, 0) < 0 ? errno : 0);
    printf(\"inet %d\\n\", socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0);
    return 0;
}";
