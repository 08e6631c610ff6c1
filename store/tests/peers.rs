//! A store as it lies on disk is an OCI image layout: other people's tools read it and write it.
//! A tool that is not installed is reported as skipped, and fails under REQUIRE_ALL=1.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coracle_store::image::{ImageConfig, Platform, RootFs};
use coracle_store::layer::pack::{Archive, Content, Meta};
use coracle_store::{Locations, Store};
use coracle_sys::file::{remove_tree, unique_name};

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

fn open(at: &Path) -> Store {
    Store::open(&Locations { main: at.to_owned(), behind: Vec::new() }).unwrap()
}

/// A store with one image of two layers.
fn store(name: &str) -> (Scratch, PathBuf) {
    let dir = Scratch(std::env::temp_dir().join(unique_name(name)));
    std::fs::create_dir(&dir.0).unwrap();
    let at = dir.0.join("store");
    let mut store = open(&at);
    let tx = store.begin().unwrap();
    let mut config = ImageConfig {
        architecture: Platform::host().architecture,
        os: "linux".into(),
        rootfs: RootFs::default(),
        ..Default::default()
    };
    let mut layers = Vec::new();
    for (path, text) in [("etc/below", "below"), ("etc/above", "above")] {
        let mut a = Archive::new();
        a.put(path, Meta::new(0o640), Content::Bytes(text.into())).unwrap();
        a.put("long".repeat(60), Meta::new(0o600), Content::Bytes(text.into())).unwrap();
        a.put_parents();
        let put = tx.put_layer(&a, &config.rootfs.diff_ids).unwrap();
        config.rootfs.diff_ids.push(put.diff_id);
        layers.push(put.descriptor);
    }
    let manifest = tx.put_image(&config, layers).unwrap();
    tx.tag("localhost/two:latest", &manifest).unwrap();
    (dir, at)
}

/// Run a tool; none when it is not installed.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(out) => Some(out),
        Err(e) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "{program}: {e}");
            println!("skipped: {program}: {e}");
            None
        }
    }
}

fn check(out: &Output) {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn skopeo_copies_an_image_out_of_a_store_and_into_another() {
    let (dir, at) = store("coracle-skopeo-");
    let other = dir.0.join("other");
    open(&other).create(None).unwrap();
    let from = format!("oci:{}:localhost/two:latest", at.display());
    let to = format!("oci:{}:came:1", other.display());
    let Some(out) = run("skopeo", &["copy", "--insecure-policy", &from, &to]) else { return };
    check(&out);
    let (source, mut copied) = (open(&at), open(&other));
    let image = copied.resolve("came:1").unwrap();
    assert_eq!(image.diff_ids(), source.resolve("two").unwrap().diff_ids());
    assert!(copied.layer_dirs(&image).is_err(), "skopeo applies nothing");
    let warnings = copied.begin().unwrap().apply_image(&image).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let paths = copied.stack_paths(image.diff_ids()).unwrap();
    assert_eq!(std::fs::read_to_string(paths[1].join("etc/above")).unwrap(), "above");
    assert_eq!(paths.len(), 2);
}

#[test]
fn skopeo_reads_a_compressed_image_back_that_went_through_an_archive() {
    let (dir, at) = store("coracle-gzip-");
    let from = format!("oci:{}:localhost/two:latest", at.display());
    let packed = dir.0.join("packed");
    let to = format!("dir:{}", packed.display());
    let Some(out) = run("skopeo", &["copy", "--insecure-policy", "--dest-compress", &from, &to]) else {
        return;
    };
    check(&out);
    let other = dir.0.join("other");
    open(&other).create(None).unwrap();
    let back = format!("oci:{}:gz:latest", other.display());
    check(&run("skopeo", &["copy", "--insecure-policy", &to, &back]).unwrap());
    let mut copied = open(&other);
    let image = copied.resolve("gz").unwrap();
    assert!(image.manifest.layers[0].media_type.ends_with("gzip"), "{:?}", image.manifest.layers);
    copied.begin().unwrap().apply_image(&image).unwrap();
    let paths = copied.stack_paths(image.diff_ids()).unwrap();
    assert_eq!(std::fs::read_to_string(paths[0].join("etc/below")).unwrap(), "below");
}

#[test]
fn umoci_lists_and_unpacks_an_image_of_a_store() {
    let (dir, at) = store("coracle-umoci-");
    // umoci takes what follows the first colon for the tag, so it is given one without.
    let mut writer = open(&at);
    let image = writer.resolve("two").unwrap();
    writer.begin().unwrap().tag("plain", &image.descriptor).unwrap();
    let layout = at.display().to_string();
    let Some(out) = run("umoci", &["ls", "--layout", &layout]) else { return };
    check(&out);
    let bundle = dir.0.join("bundle");
    let from = format!("{layout}:plain");
    let out =
        run("umoci", &["unpack", "--rootless", "--image", &from, &bundle.display().to_string()]).unwrap();
    check(&out);
    for (file, text) in [("etc/below", "below"), ("etc/above", "above")] {
        assert_eq!(std::fs::read_to_string(bundle.join("rootfs").join(file)).unwrap(), text);
    }
}

#[test]
fn tar_reads_the_archives_that_are_made() {
    let (_dir, at) = store("coracle-tar-");
    let store = open(&at);
    let image = store.resolve("two").unwrap();
    let blob = store.blob_path(&image.manifest.layers[0].digest).unwrap();
    let Some(out) = run("tar", &["-tvf", &blob.display().to_string()]) else { return };
    check(&out);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("etc/below") && text.contains(&"long".repeat(60)), "{text}");
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
}
