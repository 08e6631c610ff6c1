//! `rootfs-tool verify`: what a disk has lost or changed is found, and put right where it can be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use coracle_tests::{Scratch, Store};

fn with_image() -> Store {
    let store = Store::new("verify");
    let recipe = Scratch::new("recipe");
    let layers = ["one", "two"].map(|n| format!("[[layer]]\nfile = {{ \"etc/{n}\" = \"{n}\" }}\n"));
    recipe.write("rootfs.toml", layers.concat());
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    store
}

/// A file of a layer that is applied.
fn applied(store: &Store, name: &str) -> PathBuf {
    let driver = if store.path().join("layers/vfs").exists() { "vfs" } else { "overlay" };
    let layers = fs::read_dir(store.path().join("layers").join(driver)).expect("list the layers").flatten();
    let mut found = layers.map(|l| l.path().join("fs").join(name)).filter(|p| p.exists());
    found.next().expect("a layer with the file")
}

#[test]
fn a_store_that_is_as_it_was_made_is_good() {
    let store = with_image();
    store.rootfs_tool().arg("verify").ok().prints("localhost/app:latest  good");
    store.rootfs_tool().words("verify --json app").ok().prints("\"Faults\":[]");
    store.rootfs_tool().words("verify none").fails(1).complains("No such image: none");
}

#[test]
fn what_is_applied_otherwise_than_its_archive_is_found_and_applied_again() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 5] = [
        ("its content is another", |p| fs::write(p, "six").expect("write")),
        ("its mode is", |p| fs::set_permissions(p, fs::Permissions::from_mode(0o600)).expect("chmod")),
        ("it is missing", |p| fs::remove_file(p).expect("unlink")),
        ("it is not in the archive", |p| fs::write(p.with_file_name("more"), "").expect("write")),
        ("it is of another type", |p| {
            fs::remove_file(p).expect("unlink");
            fs::create_dir(p).expect("mkdir");
        }),
    ];
    for (words, damage) in damages {
        let store = with_image();
        damage(&applied(&store, "etc/two"));
        store.rootfs_tool().arg("verify").fails(1).prints(words).prints("verify --repair applies it again");
        store.rootfs_tool().words("verify --repair").ok().prints("applied again");
        store.rootfs_tool().arg("verify").ok().prints("good");
        assert_eq!(fs::read_to_string(applied(&store, "etc/two")).expect("read"), "two");
    }
}

#[test]
fn a_blob_that_is_broken_is_found_and_one_that_is_gone_too() {
    let store = with_image();
    let image = store.rootfs_tool().words("inspect app").ok().json();
    let layer = image[0]["RootFS"]["Layers"][1].as_str().expect("a layer").replace("sha256:", "");
    let blob = store.path().join("blobs/sha256").join(layer);
    let mut bytes = fs::read(&blob).expect("the blob");
    bytes[700] ^= 1;
    fs::write(&blob, bytes).expect("write");
    store.rootfs_tool().arg("verify").fails(1).prints("promised").prints("--repair takes it away");
    store.rootfs_tool().words("verify --repair").fails(1).prints("taken away: pull or load the image again");
    assert!(!blob.exists());
    store
        .rootfs_tool()
        .arg("verify")
        .fails(1)
        .prints("it is missing")
        .prints("pull or load the image again")
        .complains("one image has faults");
    let layer = applied(&store, "etc/one");
    fs::remove_dir_all(layer.ancestors().nth(3).expect("the layer")).expect("remove the layer");
    store.rootfs_tool().arg("verify").fails(1).prints("it is not applied");
}

#[test]
fn an_image_that_takes_files_away_is_good() {
    let store = with_image();
    let tar = store.scratch.mkdir("over");
    for name in ["etc/.wh.one", "etc/.wh..wh..opq", "etc/three"] {
        let path = tar.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, "").expect("write");
    }
    let archive = store.scratch.join("over.tar");
    coracle_tests::Cmd::new("tar").arg("-C").arg(&tar).arg("-cf").arg(&archive).arg("etc").ok();
    let recipe = Scratch::new("recipe");
    fs::copy(&archive, recipe.join("over.tar")).expect("copy");
    recipe.write("rootfs.toml", "[[layer]]\nimage = \"app\"\n[[layer]]\ntar = \"over.tar\"\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "over", "-q"]).ok();
    // What marks a file as gone has the time at which it was made.
    std::thread::sleep(std::time::Duration::from_millis(50));
    store.rootfs_tool().words("verify over").ok().prints("localhost/over:latest  good");
    let tree = store.scratch.join("tree");
    store.rootfs_tool().args(["copy", "-q", "over", &format!("dir:{}", tree.display())]).ok();
    let left: Vec<_> =
        fs::read_dir(tree.join("etc")).expect("list").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["three"]);
}
