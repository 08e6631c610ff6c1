//! `--userns`: ids of a container's own, the user's own id, and whose files are whose.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use coracle_tests::rootfs::Image;
use coracle_tests::{Privilege, Store, eventually, need};
use nix::sys::signal::Signal;

fn ready() -> bool {
    need(Privilege::Root) && need(Privilege::Peer("busybox"))
}

fn ready_as_user() -> bool {
    need(Privilege::OrdinaryUser)
        && need(Privilege::UserNamespaces)
        && need(Privilege::Peer("busybox"))
        && need(Privilege::Peer("newuidmap"))
}

fn busybox() -> Image {
    Image::busybox().expect("busybox")
}

/// A script in a container that goes when it has ended.
fn script(store: &Store, flags: &str, script: &str) -> String {
    store.run(flags).args(["image", "sh", "-c", script]).ok().stdout
}

/// The first id outside, of each container that has some.
fn claimed(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.path().join("ids")).map(|dir| dir.flatten().collect::<Vec<_>>());
    let mut all: Vec<String> =
        entries.unwrap_or_default().iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn each_container_has_ids_of_its_own_and_gives_them_back() {
    if !ready() {
        return;
    }
    let store = Store::new("userns-auto");
    let _image = busybox().file("data/file", "").compose(&store, "image");
    let starts: Vec<_> = (0..8)
        .map(|n| {
            let words = format!("run -d --name c{n} --userns auto image sleep 100");
            store.runner().words(&words).spawn()
        })
        .collect();
    for one in starts {
        assert_eq!(one.wait(Duration::from_secs(60)).expect("its end").code(), 0);
    }
    let mut first: Vec<String> = (0..8)
        .map(|n| store.runner().words(&format!("exec c{n} cat /proc/self/uid_map")).ok().stdout)
        .map(|map| map.split_whitespace().nth(1).expect("a map").to_owned())
        .collect();
    first.sort();
    first.dedup();
    assert_eq!((first.len(), claimed(&store).len()), (8, 8), "{first:?}");
    // They are remembered for the next start.
    let before = store.runner().words("exec c3 cat /proc/self/uid_map").ok().stdout;
    store.runner().words("stop -t 0 c3").ok();
    store.runner().words("start c3").ok();
    assert_eq!(store.runner().words("exec c3 cat /proc/self/uid_map").ok().stdout, before);
    store.runner().words("rm -f c0 c1 c2 c3 c4 c5 c6 c7").ok();
    assert_eq!(claimed(&store), Vec::<String>::new());
}

#[test]
fn ids_that_are_all_in_use_are_told_of_and_those_of_the_killed_come_back() {
    if !ready() {
        return;
    }
    let store = Store::new("userns-full");
    let _image = busybox().compose(&store, "image");
    let run = |words: &str| {
        store.runner().words("run --userns auto:size=1000").words(words).env("CORACLE_SUBIDS", "3000000:2000")
    };
    run("-d --name a image sleep 100").ok();
    let foreground = run("--rm --name b image sleep 100").spawn();
    eventually("the second runs", || claimed(&store).len() == 2);
    let out = run("image true").fails(125);
    assert!(
        out.stderr.contains("all of those in /etc/subuid") && out.stderr.contains("--userns auto"),
        "{out}"
    );
    foreground.signal(Signal::SIGKILL);
    foreground.wait(Duration::from_secs(60)).expect("its end");
    // The sweep of the next call, or the next claim, takes them back.
    store.runner().words("ps -a").ok();
    eventually("its ids are free", || run("--rm image true").run().code() == 0);
    for wrong in ["", "0:5", "5:0", "x:1", "4294967295:2"] {
        let out = store.run("--userns auto image true").env("CORACLE_SUBIDS", wrong).fails(125);
        assert!(out.stderr.contains("CORACLE_SUBIDS"), "{wrong}: {out}");
    }
    store.runner().words("rm -f a").ok();
}

#[test]
fn files_have_the_right_owner_on_both_sides() {
    if !ready() {
        return;
    }
    let store = Store::new("userns-owners");
    let _image = busybox().file("data/file", "").config("volumes = [\"/own\"]").compose(&store, "image");
    let folder = store.scratch.mkdir("folder");
    std::os::unix::fs::chown(&folder, Some(33), Some(34)).expect("chown");
    let owner = |path: std::path::PathBuf| {
        let m = path.symlink_metadata().expect("a file");
        (m.uid(), m.gid())
    };
    // Layers, and what is written over them.
    let seen =
        "stat -c %u:%g / /bin/sh /data/file; touch /data/file /new; chown 9:9 /new; stat -c %u:%g /new";
    assert_eq!(script(&store, "--userns auto", seen), "0:0\n0:0\n0:0\n9:9\n");
    // Volumes hold the ids that containers see, whichever they have on the host.
    let write = "stat -c %u:%g /data/file /own; touch /data/new; chown 7:8 /data/new";
    assert_eq!(script(&store, "--userns auto -v named:/data", write), "0:0\n0:0\n");
    assert_eq!(owner(store.path().join("volumes/named/new")), (7, 8));
    for flags in ["", "--userns auto", "--userns auto:size=2000"] {
        assert_eq!(
            script(&store, &format!("{flags} -v named:/data"), "stat -c %u:%g /data/new"),
            "7:8\n",
            "{flags}"
        );
    }
    // A folder of the host's is what it is, unless its ids are to be mapped.
    let folder = folder.display();
    assert_eq!(script(&store, &format!("--userns auto -v {folder}:/x"), "stat -c %u:%g /x"), "65534:65534\n");
    assert_eq!(script(&store, &format!("--userns auto -v {folder}:/x:idmap"), "stat -c %u:%g /x"), "33:34\n");
    store.run(&format!("-v {folder}:/x:idmap image true")).fails(125).complains("idmap");
}

#[test]
fn what_cannot_be_mapped_is_said_by_name() {
    if !ready() {
        return;
    }
    let store = Store::new("userns-words");
    let _image = busybox().compose(&store, "image");
    for (flags, says) in [
        ("--userns nomap", "--userns nomap"),
        ("--userns keep-id", "for ordinary users"),
        ("--userns auto:size=0", "size=0"),
        ("--userns auto:frob=1", "frob=1"),
        ("--userns frob", "frob"),
        ("--userns auto --network container:x", "does not share others yet"),
        ("--userns auto -v /proc:/x:idmap", "map its ids"),
    ] {
        let out = store.run(flags).words("image true").fails(125);
        assert!(out.stderr.contains(says), "{flags}: {out}");
    }
    let out = store.run("--userns auto --rootfs").arg(store.scratch.mkdir("root")).arg("/sh").fails(125);
    assert!(out.stderr.contains("--rootfs"), "{out}");
    assert_eq!(claimed(&store), Vec::<String>::new(), "nothing was left of those");
    assert_eq!(std::fs::read_dir(store.path().join("containers")).expect("containers").count(), 0);
}

#[test]
fn an_ordinary_user_keeps_the_own_id() {
    if !ready_as_user() {
        return;
    }
    let store = Store::of_user("userns-keep");
    let _image = busybox().file("data/file", "").compose(&store, "image");
    let (uid, gid) = {
        let m = std::fs::metadata(store.scratch.path()).expect("the folder");
        (m.uid(), m.gid())
    };
    let folder = store.scratch.path().display();
    let out = script(
        &store,
        &format!("--userns keep-id -v {folder}:/x"),
        "id -u; id -g; touch /x/new; stat -c %u:%g /x/new; id -un",
    );
    let name = coracle_tests::privilege::ordinary_user().map_or("", |u| &u.name);
    assert_eq!(out, format!("{uid}\n{gid}\n{uid}:{gid}\n{name}\n"));
    let new = std::fs::metadata(store.scratch.join("new")).expect("the file");
    assert_eq!((new.uid(), new.gid()), (uid, gid));
    assert_eq!(script(&store, "--userns keep-id:uid=7,gid=9", "id -u; id -g"), "7\n9\n");
    assert_eq!(script(&store, "--userns keep-id -u 0", "id -u"), "0\n");
    // A volume that it has filled is as good in any other.
    script(&store, "--userns keep-id:uid=7 -v named:/data", "echo a >/data/new");
    assert_eq!(script(&store, "-v named:/data", "cat /data/new; stat -c %u /data/new"), "a\n0\n");
    store.run("--userns keep-id:uid=4000000 image true").fails(125).complains("beyond the ids");
    store.run("-v named:/data:U image true").fails(125).complains("host's root alone");
    store.run("-v named:/data:idmap image true").fails(125).complains("host's root alone");
}

#[test]
fn an_ordinary_user_gives_ids_away_as_well() {
    if !ready_as_user() {
        return;
    }
    let store = Store::of_user("userns-give");
    let _image = busybox().compose(&store, "image");
    store.runner().words("run -d --name a --userns auto image sleep 100").ok();
    store.runner().words("run -d --name b --userns auto image sleep 100").ok();
    let map = |name: &str| store.runner().words(&format!("exec {name} cat /proc/self/uid_map")).ok().stdout;
    let first = |name: &str| map(name).split_whitespace().nth(1).expect("a map").to_owned();
    assert_ne!(first("a"), first("b"));
    let own = std::fs::metadata(store.scratch.path()).expect("the folder").uid();
    assert_ne!(first("a"), own.to_string(), "its root is not the user");
    assert_eq!(store.runner().words("exec a stat -c %u:%g /bin/busybox").ok().text(), "65534:65534");
    store.runner().words("exec a sh -c").arg("touch /tmp/new && stat -c %u /tmp/new").ok().prints("0");
    store.runner().words("rm -f a b").ok();
    // Not even an image that runs as nobody has the user's own id.
    store.runner().words("run -d --name n --userns auto -u 65534:65534 image sleep 100").ok();
    let pid = store.runner().words("ps --format {{.Pid}}").ok().text().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).expect("its uid").split_whitespace().next();
    assert_ne!(uid, Some(own.to_string().as_str()), "{status}");
    assert_eq!(store.runner().words("exec -u 65534 n id -u").ok().text(), "65534");
    store.runner().words("rm -f n").ok();
    assert_eq!(claimed(&store), Vec::<String>::new());
}
