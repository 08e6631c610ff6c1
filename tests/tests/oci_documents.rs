//! `features` and `spec`: documents that clients begin with. They say what is so.

use coracle_tests::bundle::{self, Bundle};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need, peer};
use serde_json::Value;

fn read(path: std::path::PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read config.json")).expect("JSON")
}

#[test]
fn features_hold_all_that_runc_tells_of() {
    let ours = Cmd::runner().words("features").ok().json();
    assert_eq!(ours["ociVersionMax"], "1.3.0");
    assert_eq!(ours["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    let Some(runc) = peer("runc") else { return };
    let theirs = Cmd::new(runc).words("features").ok().json();
    fn within(ours: &Value, theirs: &Value, at: &str) {
        match theirs {
            Value::Object(members) => {
                for (name, value) in members.iter().filter(|(name, _)| *name != "annotations") {
                    within(&ours[name], value, &format!("{at}/{name}"));
                }
            }
            Value::Array(list) => {
                let ours = ours.as_array().unwrap_or_else(|| panic!("{at}: {ours}"));
                for word in list {
                    assert!(ours.contains(word), "{at}: {word}");
                }
            }
            Value::String(_) => assert!(ours.is_string(), "{at}"),
            other => assert_eq!(ours, other, "{at}"),
        }
    }
    within(&ours, &theirs, "");
}

#[test]
fn spec_writes_what_runc_writes_and_never_over_another() {
    let scratch = Scratch::new("spec");
    for words in ["spec", "spec --rootless"] {
        let (ours, theirs) = (scratch.mkdir("ours"), scratch.mkdir("theirs"));
        Cmd::runner().words(words).arg("--bundle").arg(&ours).ok();
        let again = Cmd::runner().words(words).dir(&ours).fails(125);
        again.complains("File config.json exists. Remove it first");
        let mut written = read(ours.join("config.json"));
        if let Some(runc) = peer("runc") {
            Cmd::new(runc).words(words).arg("-b").arg(&theirs).ok();
            let mut theirs = read(theirs.join("config.json"));
            for config in [&mut written, &mut theirs] {
                (config["ociVersion"], config["hostname"]) = (Value::Null, Value::Null);
            }
            assert_eq!(written, theirs, "{words}");
        }
        std::fs::remove_dir_all(scratch.join("ours")).expect("remove");
        std::fs::remove_dir_all(scratch.join("theirs")).expect("remove");
    }
    Cmd::runner().words("spec --bundle /nowhere").fails(125).complains("/nowhere");
}

#[test]
fn what_spec_writes_can_be_run() {
    if !need(Privilege::Root) || !bundle::works() {
        return;
    }
    let Some(bundle) = Bundle::busybox(&["true"]) else { return };
    Cmd::runner().words("spec --bundle").arg(bundle.path()).ok();
    let mut config = read(bundle.path().join("config.json"));
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["hostname"]);
    bundle.edit(|c| *c = config).run().ok().prints("runner");
}

#[test]
fn spec_of_an_image_is_what_run_would_print() {
    if !need(Privilege::Containers) {
        return;
    }
    let store = Store::new("spec");
    let Some(image) = Image::busybox() else { return };
    image.compose(&store, "box");
    let shown = store.runner().words("spec -e A=1 box true").ok().json();
    assert_eq!(shown["process"]["args"][0], "true");
    // Who cannot limit is told so, as by run.
    if need(Privilege::Root) {
        let shown = store.runner().words("spec --memory 32m box true").ok().json();
        assert_eq!(shown["linux"]["resources"]["memory"]["limit"], 32 << 20);
    }
}
