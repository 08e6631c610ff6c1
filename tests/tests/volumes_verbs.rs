//! `volume create|ls|inspect|rm|prune`, beside docker where it is there to be asked.

use std::time::Duration;

use coracle_tests::dockerd::Dockerd;
use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Store, need};
use nix::sys::signal::Signal;

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox"))
}

fn busybox() -> Image {
    Image::busybox().expect("busybox")
}

fn volume(store: &Store, words: &str) -> Output {
    store.runner().arg("volume").words(words).run()
}

/// The names that `volume ls -q` prints.
fn names(store: &Store) -> String {
    volume(store, "ls -q").ok().stdout
}

#[test]
fn volume_verbs_end_as_dockers_do() {
    if !need(Privilege::Root) || !need(Privilege::Peer("dockerd")) || !ready() {
        return;
    }
    let (store, docker) = (Store::new("volume-docker"), Dockerd::start(&[]));
    let _image = busybox().compose(&store, "image");
    for words in [
        "create data",
        "create data",
        "create data --label x=2",
        "create --label x=1 --label y labelled",
        "create -d nothing other",
        "create ../other",
        "create two words",
        "create -o type=tmpfs -o device=tmpfs -o o=size=10m memory",
        "create -o type=tmpfs lacking",
        "create -o device=/tmp -o o=bind lacking",
        "create -o frob=1 lacking",
        "ls",
        "ls -q",
        "ls -q -f name=dat",
        "ls -q -f label=x",
        "ls -q -f label=x=2",
        "ls -q -f label=x -f label=y",
        "ls -q -f name=dat -f name=lab",
        "ls -q -f dangling=true",
        "ls -q -f dangling=false",
        "ls -q -f driver=local",
        "ls -f frob=1",
        "ls -f dangling=perhaps",
        "ls --format {{.Name}}:{{.Driver}}:{{.Scope}}",
        "inspect -f {{.Name}}{{.Options}}{{.Labels}} memory labelled data",
        "inspect nothing",
        "inspect",
        "rm",
        "rm nothing",
        "rm -f nothing",
        "rm nothing labelled",
        "prune -f --filter label=nothing",
        "prune -f --filter frob=1",
        "rm data memory",
        "ls -q",
    ] {
        let theirs = docker.docker(&format!("volume {words}")).run();
        let ours = volume(&store, words);
        let shown = |out: &Output| out.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shown(&ours), shown(&theirs), "volume {words}: {ours} {theirs}");
        // What is wrong with the words themselves is 125 here, whatever the verb.
        assert_eq!(ours.code() == 0, theirs.code() == 0, "volume {words}: {ours} {theirs}");
        if theirs.stderr.contains("Error response") {
            assert_eq!(ours.code(), theirs.code(), "volume {words}: {ours} {theirs}");
        }
    }
}

#[test]
fn a_volume_in_use_is_not_removed_whether_its_container_runs_or_not() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-used");
    let _image = busybox().compose(&store, "image");
    let running = store.runner().words("run -d --name runs -v data:/data image sleep 100").ok();
    let created = store.runner().words("create --name made -v data:/data:ro image true").ok();
    for id in [running.text(), created.text()] {
        let out = volume(&store, "rm -f data").fails(1);
        assert!(out.stderr.contains("volume is in use - [") && out.stderr.contains(id), "{out}");
    }
    assert_eq!(volume(&store, "ls -q -f dangling=true").ok().text(), "");
    volume(&store, "prune -af").ok().prints("Total reclaimed space: 0B");
    store.runner().words("rm -f runs").ok();
    volume(&store, "rm data").fails(1);
    store.runner().words("rm made").ok();
    volume(&store, "rm data").ok().prints("data");
    assert_eq!(names(&store), "");
}

#[test]
fn a_volume_that_was_made_is_filled_at_its_first_use_and_keeps_its_labels() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-first");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    for name in ["empty", "mine"] {
        volume(&store, &format!("create --label kind={name} {name}")).ok();
    }
    let at = volume(&store, "inspect -f {{.Mountpoint}} mine").ok().text().to_owned();
    std::fs::write(std::path::Path::new(&at).join("own"), "").expect("write into the volume");
    let seen = |volume: &str| store.run(&format!("-v {volume}:/data image ls /data")).ok().text().to_owned();
    assert_eq!((seen("empty"), seen("mine")), ("file".to_owned(), "own".to_owned()));
    store.run("-v empty:/data image rm /data/file").ok();
    assert_eq!(seen("empty"), "", "it was emptied by its user, and stays so");
    assert_eq!(volume(&store, "ls -q -f label=kind=empty").ok().text(), "empty");
    let inside: Vec<_> = std::fs::read_dir(&at).expect("the volume").flatten().collect();
    assert_eq!(inside.len(), 1, "nothing of ours lies in it");
}

#[test]
fn prune_takes_those_without_a_name_and_with_all_the_others() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-prune");
    let _image = busybox().compose(&store, "image");
    let unnamed = volume(&store, "create").ok().text().to_owned();
    assert_eq!(unnamed.len(), 64);
    volume(&store, "create --label keep kept").ok();
    store.run("-v named:/x image sh -c").arg("head -c 1234 /dev/zero >/x/file").ok();
    // Nobody says yes.
    let asked = store.runner().words("volume prune").stdin("n\n").run().ok();
    assert!(asked.stderr.contains("remove anonymous local volumes") && asked.stdout.is_empty(), "{asked}");
    let gone = volume(&store, "prune -f").ok();
    assert_eq!(gone.stdout, format!("Deleted Volumes:\n{unnamed}\n\nTotal reclaimed space: 0B\n"));
    let gone = volume(&store, "prune -a -f --filter label!=keep").ok();
    assert_eq!(gone.stdout, "Deleted Volumes:\nnamed\n\nTotal reclaimed space: 1.234kB\n");
    assert_eq!(names(&store), "kept\n");
}

#[test]
fn options_mount_what_they_say_and_memory_is_one_containers() {
    if !need(Privilege::Root) || !ready() {
        return;
    }
    let store = Store::new("volume-options");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    let folder = store.scratch.mkdir("folder");
    store.scratch.write("folder/there", "");
    volume(&store, &format!("create -o type=none -o o=bind,ro -o device={} bound", folder.display())).ok();
    volume(&store, "create -o type=tmpfs -o device=tmpfs -o o=size=1m,mode=700 memory").ok();
    volume(&store, "create -o type=nfs -o device=:/x -o o=addr=10.0.0.1 far").fails(1).complains("type=nfs");
    store.run("-v bound:/x image sh -c").arg("ls /x; ! touch /x/new").ok().prints("there");
    let out = store
        .run("-v memory:/data image sh -c")
        .arg("cat /data/file; stat -c %a /data; df -k /data | tail -1")
        .ok();
    assert!(out.stdout.starts_with("of the image\n700\n") && out.stdout.contains(" 1024 "), "{out}");
    store.runner().words("run -d --name holder -v memory:/x image sleep 100").ok();
    store.run("-v memory:/x image true").fails(125).complains("one container at a time");
    volume(&store, "rm memory").fails(1).complains("volume is in use");
    store.runner().words("rm -f holder").ok();
    store.run("-v memory:/x image true").ok();
    volume(&store, "rm memory bound").ok();
    assert!(folder.join("there").exists(), "what was bound is the host's");
}

// Names are components of paths, here and in what lies beside the volumes.
#[test]
fn hostile_names_reach_nothing() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-names");
    store.scratch.write("outside", "stays");
    volume(&store, "create good").ok();
    for name in [
        "..",
        ".",
        "../../outside",
        "a/b",
        "a/../b",
        "-x/y",
        ".hidden",
        "a\u{e9}",
        "a b",
        "lock/x",
        &"x".repeat(300),
    ] {
        for verb in ["create", "rm", "inspect"] {
            let out = store.runner().args(["volume", verb, "--", name]).run();
            assert_ne!(out.code(), 0, "{verb} {name:?}: {out}");
            assert!(out.stderr.starts_with("runner: ") && out.stderr.lines().count() == 1, "{out}");
        }
    }
    // Names that look like what is kept beside a volume.
    for name in ["lock", "good.json", "good.unused"] {
        volume(&store, &format!("create {name}")).ok();
        volume(&store, &format!("rm {name}")).ok();
    }
    assert_eq!(names(&store), "good\n");
    assert_eq!(std::fs::read_to_string(store.scratch.join("outside")).expect("the file"), "stays");
}

#[test]
fn a_link_in_a_volumes_place_is_no_way_out() {
    if !ready() {
        return;
    }
    let (store, canary) = (Store::new("volume-link"), coracle_tests::canary::Canary::new());
    let _image = busybox().compose(&store, "image");
    volume(&store, "create real").ok();
    std::os::unix::fs::symlink(canary.path(), store.path().join("volumes/evil")).expect("a link");
    assert_ne!(volume(&store, "rm evil").code(), 125);
    volume(&store, "prune -af");
    // Inside, a container makes links of its own volume's folders.
    store
        .run("-v box:/box image sh -c")
        .arg(format!("ln -s {} /box/out; mkdir /box/in", canary.path().display()))
        .ok();
    let sub =
        |path: &str| store.run(&format!("--mount src=box,dst=/x,volume-subpath={path} image ls /x")).run();
    assert_eq!(sub("out").code(), 125, "{}", sub("out"));
    assert_eq!(sub("in").code(), 0, "{}", sub("in"));
    for path in ["../x", "/in", "in/../.."] {
        sub(path).fails(125).complains("volume-subpath");
    }
    volume(&store, "rm box").ok();
    canary.assert_untouched();
}

#[test]
fn making_using_and_removing_at_once_leaves_whole_volumes_or_none() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-races");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    for _ in 0..5 {
        let verbs =
            ["volume create v", "volume rm v", "run --rm -v v:/data image cat /data/file", "volume rm v"];
        let running: Vec<_> =
            verbs.iter().cycle().take(12).map(|words| (words, store.runner().words(words).spawn())).collect();
        for (words, one) in running {
            let out = one.wait(Duration::from_secs(60)).expect("its end");
            // A start finds the volume whole, or is told that it went; nothing else.
            let said = out.code() == 0
                || out.stderr.contains("no such volume")
                || out.stderr.contains("volume is in use")
                || out.stderr.contains("bind source path does not exist")
                || out.stderr.contains("a process holds its folder");
            assert!(said, "{words}: {out}");
            if words.starts_with("run") && out.code() == 0 {
                assert_eq!(out.stdout, "of the image\n", "{out}");
            }
        }
    }
    if names(&store) == "v\n" {
        volume(&store, "rm v").ok();
    }
    assert_eq!(names(&store), "");
    store.run("-v v:/data image cat /data/file").ok().prints("of the image");
}

#[test]
fn killed_verbs_leave_no_half_volume() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-killed");
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    for n in 0..30 {
        for words in ["volume create --label x=1 v", "volume rm v"] {
            let running = store.runner().words(words).spawn();
            std::thread::sleep(Duration::from_micros(300 * n));
            running.signal(Signal::SIGKILL);
            running.wait(Duration::from_secs(60)).expect("its end");
        }
        let listed = names(&store);
        assert!(listed.is_empty() || listed == "v\n", "{listed}");
        if !listed.is_empty() {
            let label = volume(&store, "inspect -f {{.Labels.x}} v").ok();
            assert_eq!(label.text(), "1", "a volume that is there has its labels");
        }
        // Whole, and filled, whatever was left.
        store.run("-v v:/data image cat /data/file").ok().prints("of the image");
        volume(&store, "rm v").ok();
    }
    store.runner().words("ps -a").ok();
    assert_eq!(std::fs::read_dir(store.path().join("tmp")).expect("tmp").count(), 0);
}

#[test]
fn on_a_full_disk_nothing_is_half_made() {
    if !need(Privilege::Root) || !ready() {
        return;
    }
    let store = Store::new("volume-full");
    store.scratch.mkdir("store");
    coracle_tests::Cmd::new("mount").words("-t tmpfs -o size=4m,nr_inodes=400 none").arg(store.path()).ok();
    let _image = busybox().file("data/file", "of the image\n").compose(&store, "image");
    let filler = store.path().join("filler");
    let _ = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filler.display()))
        .stderr(std::process::Stdio::null())
        .status();
    let out = volume(&store, "create --label a=b full").fails(1);
    assert!(out.stderr.contains("No space left"), "{out}");
    assert_eq!(names(&store), "");
    std::fs::remove_file(&filler).expect("make room");
    volume(&store, "create full").ok();
    store.run("-v full:/data image cat /data/file").ok().prints("of the image");
    volume(&store, "rm full").ok();
}

#[test]
fn a_volume_that_belongs_to_a_containers_user_alone_is_removed_and_kept_while_it_is_in_use() {
    if !ready() {
        return;
    }
    let store = Store::new("volume-owner");
    let _image = busybox().compose(&store, "image");
    let script =
        "mkdir /data/sub && touch /data/sub/file && chown -R 1000:1000 /data && chmod 700 /data /data/sub";
    for verb in ["rm data", "prune -a -f"] {
        store.run("-v data:/data image sh -c").arg(script).ok();
        store.runner().words("create --name holds -v data:/data image true").ok();
        volume(&store, "rm data").fails(1).complains("volume is in use");
        store.runner().words("rm holds").ok();
        drop(volume(&store, verb).ok().prints("data"));
        assert_eq!(names(&store), "");
        let left = std::fs::read_dir(store.path().join("tmp")).expect("tmp").count();
        assert_eq!(left, 0, "{verb}");
    }
}
