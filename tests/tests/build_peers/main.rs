//! Dockerfiles built by us and by docker's BuildKit, on the same base: trees and configs are equal, or the difference
//! stands in a table with its reason.

mod cases;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cases::{BUILT_BY_THEM, CASES, CONTEXT, Case, REFUSED};
use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, need};
use serde_json::Value;

/// A case, what of it differs, and why that is right.
const EXPECTED: &[(&str, &str, &str)] = &[];

fn context(dir: &Path) {
    fs::create_dir_all(dir).expect("make the context");
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    for (name, bits, content) in CONTEXT {
        let path = dir.join(name);
        if name.ends_with('/') {
            fs::create_dir(&path).expect("mkdir");
        } else if let Some(to) = content.strip_prefix("->") {
            symlink(to, &path).expect("symlink");
            continue;
        } else {
            fs::write(&path, content).expect("write");
        }
        mode(&path, *bits);
    }
    let pack = dir.join("pack");
    fs::create_dir_all(pack.join("t")).expect("mkdir");
    fs::write(pack.join("t/f"), "packed\n").expect("write");
    symlink("f", pack.join("t/l")).expect("symlink");
    let tar = |flags: &str, name: &str| {
        Cmd::new("tar")
            .arg("-C")
            .arg(&pack)
            .words(flags)
            .arg(dir.join(name))
            .words("--owner=3 --group=4 t")
            .ok();
    };
    tar("-cf", "pack.tar");
    tar("-czf", "pack.tar.gz");
    fs::remove_dir_all(&pack).expect("remove");
}

/// What a tree holds, a line a path.
fn tree(tar: &Path, into: &Path) -> String {
    fs::create_dir(into).expect("mkdir");
    Cmd::new("tar").args(["--numeric-owner", "--xattrs", "-C"]).arg(into).args(["-xpf"]).arg(tar).ok();
    let script = "find . -mindepth 1 -printf '%p %y %m %U:%G %l\\n' | sort; find . -type f -links +1 | sort; \
                  find . -type f -exec cksum {} + | sort -k3";
    let said = Cmd::new("sh").args(["-c", script]).dir(into).ok().stdout;
    fs::remove_dir_all(into).expect("remove");
    said
}

/// What is compared of a config.
fn config(image: &Value) -> BTreeMap<String, Value> {
    let of = [
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "Labels",
        "StopSignal",
        "Shell",
        "OnBuild",
        "Healthcheck",
    ];
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    let mut out: BTreeMap<String, Value> = of
        .iter()
        .map(|key| ((*key).to_owned(), image["Config"][key].clone()))
        .filter(|(_, v)| !empty(v))
        .collect();
    for key in ["Author", "Architecture", "Os"] {
        out.insert(key.to_owned(), image[key].clone());
    }
    let layers = image["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
    out.insert("layers".to_owned(), layers.into());
    out
}

fn difference(a: &str, b: &str) -> String {
    let mut out = String::new();
    a.lines().filter(|l| !b.lines().any(|m| m == *l)).for_each(|l| out += &format!("  ours   {l}\n"));
    b.lines().filter(|l| !a.lines().any(|m| m == *l)).for_each(|l| out += &format!("  theirs {l}\n"));
    out
}

#[test]
fn what_comes_of_a_dockerfile_is_what_buildkit_makes_of_it() {
    if !need(Privilege::Root) || !need(Privilege::Peer("dockerd")) || !need(Privilege::Peer("busybox")) {
        return;
    }
    // Debian's client has BuildKit in it; a later one is nothing without a plugin.
    let client = Path::new("/usr/bin/docker");
    if !client.exists() {
        return;
    }
    let ours = Store::new("build-peers");
    let Some(_base) = Image::busybox().map(|image| image.compose(&ours, "box")) else { return };
    let tar = ours.scratch.join("box.tar");
    ours.rootfs_tool().args(["save", "box", "-o"]).arg(&tar).ok();
    let daemon = Dockerd::start(&[]);
    daemon.docker("load -i").arg(&tar).ok();
    daemon.docker("tag localhost/box:latest box:latest").ok();
    let dir = ours.scratch.join("context");
    context(&dir);
    let build = |case: &Case, n: usize| {
        let (_, words, text) = case;
        let file = ours.scratch.write(format!("Dockerfile-{n}"), text);
        let mine = ours.rootfs_tool().args(["build", "-q", "--network", "none", "-t", &format!("case:{n}")]);
        let mine = mine.words(words).arg("-f").arg(&file).arg(&dir).limit(Duration::from_secs(60)).run();
        let theirs = Cmd::new(client).args(["-H", daemon.socket()]).env("DOCKER_BUILDKIT", "1");
        let theirs = theirs.args(["build", "-q", "--network", "none", "-t", &format!("peer:{n}")]);
        let theirs = theirs.words(words).arg("-f").arg(&file).arg(&dir).limit(Duration::from_secs(60)).run();
        (mine, theirs)
    };
    let mut wrong = String::new();
    let mut used = Vec::new();
    for (n, case) in REFUSED.iter().enumerate() {
        let (mine, theirs) = build(case, 1000 + n);
        if mine.code() == 0 {
            wrong += &format!("{}: ours builds it\n{mine}\n", case.0);
        }
        let (built, known) = (theirs.code() == 0, BUILT_BY_THEM.iter().any(|(name, _)| *name == case.0));
        if built != known {
            wrong += &format!("{}: theirs builds it: {built}, expected: {known}\n{theirs}\n", case.0);
        }
    }
    for (n, case) in CASES.iter().enumerate() {
        let name = case.0;
        let (mine, theirs) = build(case, n);
        if mine.code() != 0 || theirs.code() != 0 {
            wrong += &format!("{name}: it is not built\n--- ours\n{mine}\n--- theirs\n{theirs}\n");
            continue;
        }
        let saved = ours.scratch.join("peer.tar");
        daemon.docker("save -o").arg(&saved).arg(format!("peer:{n}")).ok();
        ours.rootfs_tool().args(["load", "-q", "-i"]).arg(&saved).ok();
        let look = |name: &str| {
            let tar = ours.scratch.join("flat.tar");
            ours.rootfs_tool().args(["export", name, "-o"]).arg(&tar).ok();
            let about = ours.rootfs_tool().args(["inspect", name]).ok().stdout;
            let about: Value = serde_json::from_str(&about).expect("JSON");
            (tree(&tar, &ours.scratch.join("tree")), config(&about[0]))
        };
        let ((tree, config), (peer_tree, peer_config)) =
            (look(&format!("case:{n}")), look(&format!("docker.io/library/peer:{n}")));
        let lines =
            |c: &BTreeMap<String, Value>| c.iter().map(|(k, v)| format!("{k} {v}\n")).collect::<String>();
        let found = difference(&tree, &peer_tree) + &difference(&lines(&config), &lines(&peer_config));
        for line in found.lines() {
            let known = |(case, part, _): &&(&str, &str, &str)| *case == name && line.contains(part);
            match EXPECTED.iter().position(|e| known(&e)) {
                Some(at) => used.push(at),
                None => wrong += &format!("{name}: {line}\n"),
            }
        }
    }
    for (at, (case, part, why)) in EXPECTED.iter().enumerate() {
        if !used.contains(&at) {
            wrong += &format!("{case}: expected and not there: {part}: {why}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(CASES.len() + REFUSED.len() >= 100);
    ours.rootfs_tool().arg("verify").ok();
}
