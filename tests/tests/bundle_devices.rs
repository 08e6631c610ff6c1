//! Which device nodes a container of a bundle can open: few unless its list says otherwise, those that
//! every program expects always.

use coracle_tests::bundle::Bundle;
use coracle_tests::{Privilege, need};
use serde_json::{Value, json};

/// Opens what it is told to, and says which of them it could.
const OPEN: &str = "mknod /dev/full2 c 1 7; mknod /dev/fuse c 10 229
for d in null zero full2 fuse; do (: < /dev/$d) 2>/dev/null && echo \"opened $d\"; done; : > /dev/null";

fn have() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

/// What a container with these rules could open.
fn opened(runtime: &str, resources: Option<Value>) -> Vec<String> {
    let mut bundle = Bundle::busybox(&["sh", "-c", OPEN]).expect("busybox-static");
    if let Some(resources) = resources {
        bundle = bundle.set("/linux/resources", resources);
    }
    let output = bundle.run_by(runtime).ok();
    output.stdout.lines().filter_map(|l| l.strip_prefix("opened ")).map(str::to_owned).collect()
}

#[test]
fn the_default_devices_are_there_whatever_the_list_says() {
    if !have() {
        return;
    }
    let deny = || Some(json!({"devices": [{"allow": false, "access": "rwm"}]}));
    for resources in [None, deny(), Some(json!({"devices": []}))] {
        assert_eq!(opened("runner", resources), ["null", "zero", "full2"]);
    }
    assert_eq!(opened("runc", deny()), ["null", "zero", "full2"]);
}

#[test]
fn a_list_that_allows_is_heeded() {
    if !have() {
        return;
    }
    let fuse = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}
    ]});
    assert_eq!(opened("runner", Some(fuse)), ["null", "zero", "full2", "fuse"]);
    let all = json!({"devices": [{"allow": true, "access": "rwm"}]});
    assert!(opened("runner", Some(all)).contains(&"fuse".to_owned()));
}

#[test]
fn the_rules_hold_in_a_user_namespace_for_what_is_bound_from_the_host() {
    if !have() {
        return;
    }
    let bundle = |rules: Value| {
        let bundle = Bundle::busybox(&["sh", "-c", ": < /dev/fuse && echo opened"]).expect("busybox-static");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.path(), open).unwrap();
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        bundle
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .set("/linux/namespaces/-", json!({"type": "user"}))
            .set("/linux/resources", json!({"devices": rules}))
            .set("/linux/devices", json!([{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}]))
    };
    let deny = json!([{"allow": false, "access": "rwm"}]);
    let refused = bundle(deny).run().run();
    assert!(!refused.stdout.contains("opened"), "{}", refused.stdout);
    bundle(json!([{"allow": true, "access": "rwm"}])).run().ok().prints("opened");
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
