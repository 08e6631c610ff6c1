//! What layers bring into a container beside their files.

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// A store with the image `image`: busybox, a layer of an archive, and one that says nothing of the root.
/// `make` fills the folder `l`, and `tar` archives it.
fn compose(store: &Store, make: &str, tar: &str) {
    Image::busybox().expect("busybox").compose(store, "base");
    let recipe = Scratch::new("layers");
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nimage = \"base\"\n[[layer]]\ntar = \"layer.tar\"\n[[layer]]\nfile = { \"etc/top\" = \"\" }\n",
    );
    recipe.mkdir("l");
    Cmd::new("sh").args(["-c", make]).dir(recipe.path()).ok();
    Cmd::new("tar").words("--numeric-owner -C l -cf layer.tar").words(tar).dir(recipe.path()).ok();
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "image"]).ok();
}

#[test]
fn the_root_directory_is_what_the_topmost_layer_that_has_one_says() {
    if !need(Privilege::Containers) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let look = |store: &Store, flags: &str| {
        store.run(flags).args(["image", "stat", "-c", "%a %u:%g", "/"]).ok().text().to_owned()
    };
    for (tar, driver, root) in [
        (".", "overlay", "1751 0:0"),
        (".", "vfs", "1751 0:0"),
        ("file", "overlay", "755 0:0"),
        (". --owner 7 --group 8", "overlay", "1751 7:8"),
    ] {
        if tar.contains("owner") && !nix::unistd::geteuid().is_root() {
            continue; // without subordinate ids there is no such owner
        }
        let store = Store::new("layers-root");
        if driver == "vfs" {
            let scratch = Scratch::new("layers-vfs");
            scratch.write("rootfs.toml", "[[layer]]\nstandard = true\n");
            let first = store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "first"]);
            first.env("CORACLE_DRIVER", driver).ok();
        }
        compose(&store, "chmod 1751 l; touch l/file", tar);
        assert_eq!(look(&store, ""), root, "{tar} {driver}");
        assert_eq!(look(&store, "--scratch tmpfs:1m"), root, "{tar} {driver}, in memory");
    }
}
