//! The store is an OCI image layout, to the letter, after everything that can be done to it.

use std::fs;
use std::path::Path;

use coracle_tests::layout::{assert_valid, faults, strays};
use coracle_tests::liar::{Liar, Served};
use coracle_tests::noise::noise;
use coracle_tests::registry::{Registry, tool};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};
use serde_json::{Value, json};

/// A store with the image `app` of two layers.
fn with_image() -> Store {
    let store = Store::new("layout");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/opt/noise", noise(3, 100_000));
    let text = "[[layer]]\nfile = { \"etc/x\" = \"1\" }\n[[layer]]\ndir = \"tree\"\n\
                [config]\ncmd = [\"/x\"]\nenv = { A = \"b\" }\nlabels = { l = \"v\" }\n";
    recipe.write("rootfs.toml", text);
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    store
}

#[track_caller]
fn valid(store: &Store, when: &str) {
    assert_valid(&store.path(), when);
    assert_eq!(strays(&store.path()), [""; 0], "{when}: blobs that no image has");
}

#[test]
fn the_store_is_a_layout_after_every_verb_that_writes_to_it() {
    if !need(Privilege::Peer("zstd")) {
        return;
    }
    let store = with_image();
    valid(&store, "compose");
    store.rootfs_tool().words("tag app r.example:5000/team/app_x:v1.2-3").ok();
    valid(&store, "tag");
    for format in ["docker-archive", "oci-archive"] {
        let file = store.scratch.join(format);
        store.rootfs_tool().args(["save", "--format", format, "app", "-o"]).arg(&file).ok();
        let other = Store::new("layout");
        other.rootfs_tool().args(["load", "-q", "-i"]).arg(&file).ok();
        valid(&other, format);
        // What an archive holds of a layout is one, too.
        if format == "oci-archive" {
            let tree = store.scratch.mkdir("unpacked");
            Cmd::new("tar").arg("-xf").arg(&file).dir(&tree).ok();
            assert_valid(&tree, "save");
        }
    }
    let tar = store.scratch.join("tree.tar");
    store.rootfs_tool().args(["export", "app", "-o"]).arg(&tar).ok();
    for (name, program) in [("plain", "cat"), ("gz", "gzip -1"), ("zst", "zstd -q -1")] {
        let line = format!("{program} < tree.tar > tree.{name}");
        Cmd::new("sh").args(["-c", &line]).dir(store.scratch.path()).ok();
        let import = store.rootfs_tool().args(["import", "-c", "CMD [\"a\"]"]);
        import.arg(store.scratch.join(format!("tree.{name}"))).arg(name).ok();
        valid(&store, &format!("import of {name}"));
    }
    let layout = store.scratch.join("copied");
    store.rootfs_tool().args(["copy", "-q", "app", &format!("oci:{}:app", layout.display())]).ok();
    store.rootfs_tool().args(["copy", "-q", "gz", &format!("oci:{}:second", layout.display())]).ok();
    assert_valid(&layout, "copy to a layout that has an image");
    store.rootfs_tool().words("rmi gz r.example:5000/team/app_x:v1.2-3").ok();
    valid(&store, "rmi");
    store.rootfs_tool().words("prune --force").ok();
    valid(&store, "prune");
    store.rootfs_tool().words("rmi plain zst").ok();
    store.rootfs_tool().words("prune --all --force").ok();
    valid(&store, "prune of all");
    assert_eq!(store.rootfs_tool().words("images -q").ok().text(), "");
}

#[test]
fn the_store_is_a_layout_after_pushes_and_pulls() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Peer("zstd"))) {
        return;
    }
    let registry = Registry::plain();
    let store = with_image();
    for how in ["gzip", "zstd"] {
        let name = registry.name(&format!("app:{how}"));
        tool(&store).args(["tag", "app", &name]).ok();
        tool(&store).args(["push", "-q", "--compression", how, &name]).ok();
        // What was compressed is kept for the next push, as long as the image is.
        assert_valid(&store.path(), &format!("push by {how}"));
        let other = Store::new("layout");
        tool(&other).args(["pull", "-q", &name]).ok();
        valid(&other, &format!("pull by {how}"));
    }
    let names = ["app", &registry.name("app:gzip"), &registry.name("app:zstd")];
    tool(&store).arg("rmi").args(names).ok();
    tool(&store).words("prune --all --force").ok();
    valid(&store, "rmi of what was pushed");
}

/// An index of `app` for two machines.
fn for_two_machines(store: &Store) -> Served {
    let layout = store.scratch.join("one");
    store.rootfs_tool().args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    let mut served = Served::from_layout(&layout);
    let mut manifest = served.parsed();
    let config = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let mut config: Value = serde_json::from_slice(&served.blobs[&config]).expect("a config");
    config["architecture"] = "s390x".into();
    manifest["config"]["size"] = config.to_string().len().into();
    manifest["config"]["digest"] = served.put(config.to_string()).into();
    let other = served.put(manifest.to_string());
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": served.blobs[digest].len(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let own = entry(&served.manifest, coracle_tests::binaries::go_architecture());
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [own, entry(&other, "s390x")]});
    served.manifest = served.put(index.to_string());
    served
}

#[test]
fn an_index_for_several_machines_leaves_layouts_wherever_it_goes() {
    let store = with_image();
    let registry = Liar::start(for_two_machines(&store), |_, _| None);
    let name = format!("{}/app:1", registry.host);
    for platform in [coracle_tests::binaries::go_architecture(), "s390x"] {
        let other = Store::new("layout");
        tool(&other).args(["pull", "-q", "--platform", &format!("linux/{platform}"), &name]).ok();
        valid(&other, platform);
    }
    let other = Store::new("layout");
    for to in ["oci:all", "oci:all:second"] {
        tool(&other).args(["copy", "-q", "--all", &format!("docker://{name}"), to]).ok();
        assert_valid(&other.scratch.join("all"), to);
    }
    tool(&other).args(["copy", "-q", "--all", "oci:all:second", "oci-archive:all.tar:x"]).ok();
    let tree = other.scratch.mkdir("unpacked");
    Cmd::new("tar").arg("-xf").arg(other.scratch.join("all.tar")).dir(&tree).ok();
    assert_valid(&tree, "copy of an index into an archive");
}

/// Change a JSON file; its name stays.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("write");
}

// What the tests above are worth.
#[test]
fn what_is_no_layout_is_found_out() {
    type Bend = fn(&Path);
    let bends: [(&str, &str, Bend); 9] = [
        ("no marker", "oci-layout", |d| fs::remove_file(d.join("oci-layout")).expect("remove")),
        ("another version", "imageLayoutVersion", |d| {
            edit(&d.join("oci-layout"), |v| v["imageLayoutVersion"] = "2".into())
        }),
        ("a schema that is a string", "schemaVersion", |d| {
            edit(&d.join("index.json"), |v| v["schemaVersion"] = "2".into())
        }),
        ("a size that is wrong", "size", |d| {
            edit(&d.join("index.json"), |v| v["manifests"][0]["size"] = 1.into())
        }),
        ("a digest in capitals", "no digest", |d| {
            edit(&d.join("index.json"), |v| {
                let digest = v["manifests"][0]["digest"].as_str().expect("a digest").to_uppercase();
                v["manifests"][0]["digest"] = digest.replace("SHA", "sha").into();
            });
        }),
        ("a name with a space", "is no name", |d| {
            edit(&d.join("index.json"), |v| v["manifests"][0]["annotations"][REF_NAME] = "a b".into());
        }),
        ("a file that is no blob", "another digest", |d| {
            fs::write(d.join("blobs/sha256/x"), "").expect("write")
        }),
        ("a blob that is gone", "is not there", |d| {
            let blobs = fs::read_dir(d.join("blobs/sha256")).expect("list").flatten();
            let largest = blobs.max_by_key(|e| e.metadata().expect("stat").len()).expect("a blob");
            fs::remove_file(largest.path()).expect("remove");
        }),
        ("diff ids in another order", "diff_ids", |d| {
            let mut served = Served::from_layout(d);
            let mut manifest = served.parsed();
            let layers = manifest["layers"].as_array_mut().expect("layers");
            layers.reverse();
            let bytes = manifest.to_string();
            let digest = served.put(bytes.clone());
            fs::write(d.join("blobs").join(digest.replace(':', "/")), &bytes).expect("write");
            edit(&d.join("index.json"), |v| {
                v["manifests"][0]["digest"] = digest.into();
                v["manifests"][0]["size"] = bytes.len().into();
            });
        }),
    ];
    const REF_NAME: &str = "org.opencontainers.image.ref.name";
    let store = with_image();
    for (n, (what, words, bend)) in bends.into_iter().enumerate() {
        let layout = store.scratch.join(format!("bent-{n}"));
        store.rootfs_tool().args(["copy", "-q", "app", &format!("oci:{}:app", layout.display())]).ok();
        assert_valid(&layout, what);
        bend(&layout);
        let found = faults(&layout);
        assert!(found.iter().any(|f| f.contains(words)), "{what}: {found:?}");
    }
}
