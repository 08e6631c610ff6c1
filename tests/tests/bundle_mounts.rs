//! Mounts of a bundle beyond a plain container's: what a tmpfs begins with, whose ids files are seen with,
//! options longer than the mount calls take, links that are not followed.

use std::os::unix::fs::{PermissionsExt, symlink};

use coracle_tests::bundle::Bundle;
use coracle_tests::{Privilege, need};
use serde_json::{Value, json};

fn have() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

/// A bundle whose command is a shell's script.
fn bundle(script: &str) -> Bundle {
    let bundle = Bundle::busybox(&["sh", "-c", script]).expect("busybox-static");
    std::fs::set_permissions(bundle.path(), PermissionsExt::from_mode(0o755)).unwrap();
    bundle
}

fn in_user_namespace(bundle: Bundle) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/linux/namespaces/-", json!({"type": "user"}))
}

/// A folder of the bundle with a file of user 7.
fn owned(bundle: &Bundle) {
    let dir = bundle.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "x").unwrap();
    std::os::unix::fs::chown(dir.join("file"), Some(7), Some(8)).unwrap();
    std::fs::create_dir(bundle.rootfs("data")).unwrap();
}

fn bind(options: &[&str]) -> Value {
    json!({"destination": "/data", "source": "data", "options": options})
}

#[test]
fn a_tmpfs_can_begin_with_what_is_there() {
    if !have() {
        return;
    }
    let bundle =
        bundle("cat /etc/a/b; stat -c '%a %u' /etc /etc/a/b; readlink /etc/l; touch /etc/new && echo wrote");
    std::fs::create_dir_all(bundle.rootfs("etc/a")).unwrap();
    std::fs::write(bundle.rootfs("etc/a/b"), "there\n").unwrap();
    std::os::unix::fs::chown(bundle.rootfs("etc/a/b"), Some(7), None).unwrap();
    std::fs::set_permissions(bundle.rootfs("etc/a/b"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::set_permissions(bundle.rootfs("etc"), PermissionsExt::from_mode(0o711)).unwrap();
    symlink("a/b", bundle.rootfs("etc/l")).unwrap();
    let tmpfs = |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options});
    let bundle = bundle.set("/mounts/-", tmpfs("/etc", &["tmpcopyup"]));
    assert_eq!(bundle.run().ok().stdout, "there\n711 0\n640 7\na/b\nwrote\n");
    assert!(!bundle.rootfs("etc/new").exists());
    let bundle = bundle.set("/mounts/-", tmpfs("/missing", &["tmpcopyup", "ro"]));
    bundle
        .set("/process/args/2", json!("touch /missing/x 2>/dev/null || echo refused"))
        .run()
        .ok()
        .prints("refused");
    let other = json!({"destination": "/x", "type": "sysfs", "source": "x", "options": ["tmpcopyup"]});
    self::bundle("true").set("/mounts/-", other).run().fails(125).complains("tmpcopyup");
}

#[test]
fn a_mount_can_be_seen_through_a_map_of_ids() {
    if !have() {
        return;
    }
    let script = "stat -c %u:%g /data/file; touch /data/new 2>/dev/null; true";
    let look = |bundle: Bundle| bundle.run().run();
    let plain = bundle(script);
    owned(&plain);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
    let mut mount = bind(&["bind"]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let output = look(plain.set("/mounts/-", mount));
    if output.stderr.contains("its file system cannot") {
        eprintln!("skipped: the file system here maps no ids");
        return;
    }
    assert!(output.stdout == "1007:1008\n", "{} {}", output.stdout, output.stderr);

    // The container's own map: on disk the ids are those that it sees.
    for word in ["idmap", "ridmap"] {
        let mapped = in_user_namespace(bundle(script));
        owned(&mapped);
        let dir = mapped.path();
        let mapped = mapped.set("/mounts/-", bind(&["rbind", word]));
        assert_eq!(mapped.run().ok().stdout, "7:8\n");
        let made = std::fs::metadata(dir.join("data/new")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0);
    }
}

#[test]
fn a_map_that_makes_no_sense_is_refused() {
    if !have() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
    let with = |mut mount: Value, uids: bool| {
        if uids {
            mount["uidMappings"] = map.clone();
        }
        let bundle = bundle("true");
        owned(&bundle);
        bundle.set("/mounts/-", mount).run().fails(125).stderr
    };
    for (mount, uids, says) in [
        (bind(&["bind"]), true, "gidMappings is empty"),
        (bind(&["bind", "idmap"]), false, "idmap needs mappings"),
        (bind(&["bind", "idmap=uids=0-1-1"]), false, "uidMappings and gidMappings"),
    ] {
        let e = with(mount, uids);
        assert!(e.contains(says) && e.lines().count() == 1, "{e}");
    }
    let mut tmpfs = json!({"destination": "/data", "type": "tmpfs", "source": "t"});
    tmpfs["uidMappings"] = map.clone();
    tmpfs["gidMappings"] = map.clone();
    assert!(with(tmpfs, false).contains("only a bind mount"));
}

#[test]
fn an_overlay_of_more_layers_than_a_mount_call_takes_words_is_mounted() {
    if !have() {
        return;
    }
    for user in [false, true] {
        let bundle = bundle("cat /over/0 /over/9; echo x > /over/new || echo read only");
        let lower: Vec<String> = (0..10)
            .map(|n| {
                let dir = bundle.path().join(format!("a-layer-with-a-rather-long-name-{n}"));
                std::fs::create_dir(&dir).unwrap();
                std::fs::write(dir.join(n.to_string()), format!("{n}\n")).unwrap();
                dir.to_string_lossy().into_owned()
            })
            .collect();
        std::fs::create_dir(bundle.rootfs("over")).unwrap();
        let lower = format!("lowerdir={}", lower.join(":"));
        assert!(lower.len() > 256);
        let mount = json!({"destination": "/over", "type": "overlay", "source": "overlay",
            "options": [lower, "nodev", "ro"]});
        let bundle = bundle.set("/mounts/-", mount);
        let bundle = if user { in_user_namespace(bundle) } else { bundle };
        bundle.run().ok().prints("0\n9\nread only");
    }
}

#[test]
fn links_are_copied_bound_or_covered_where_that_is_asked_for() {
    if !have() {
        return;
    }
    let run = |options: &[&str]| {
        let bundle = bundle("readlink /at || cat /at; ls /target 2>/dev/null");
        std::fs::write(bundle.path().join("file"), "file\n").unwrap();
        symlink("file", bundle.path().join("link")).unwrap();
        std::fs::write(bundle.rootfs("target"), "").unwrap();
        symlink("target", bundle.rootfs("at")).unwrap();
        let mount = |at: &str, source: &str| json!({"destination": at, "source": source, "options": options});
        let bundle = match options[1] {
            "dest-nofollow" => bundle.set("/mounts/-", mount("/at", "file")),
            _ => {
                std::fs::remove_file(bundle.rootfs("at")).unwrap();
                bundle.set("/mounts/-", mount("/at", "link"))
            }
        };
        bundle.run().ok().stdout
    };
    assert_eq!(run(&["bind", "copy-symlink"]), "file\n/target\n");
    assert_eq!(run(&["bind", "dest-nofollow"]), "file\n/target\n");
    assert_eq!(run(&["bind", "rw"]), "file\n/target\n");
}

#[test]
fn all_of_it_goes_on_an_older_kernel_too() {
    if need(Privilege::Root) {
        coracle_tests::filters::again_with_newer_calls_denied();
    }
}
