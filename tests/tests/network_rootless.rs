//! The network of an ordinary user's containers, which pasta or slirp4netns carries.

use std::time::Duration;

use coracle_tests::rootfs::{self, Image};
use coracle_tests::{Cmd, Privilege, Store, binaries, need, privilege};

const TALK: &str = include_str!("../src/talk.c");

/// The user's runner, where everybody may use /dev/net/tun, or nobody.
fn runner(store: &Store, tun: &str, words: &str) -> Cmd {
    let user = privilege::ordinary_user().expect("need(OrdinaryUser) comes first");
    let set = format!(
        "mount -t tmpfs tmpfs /dev/net && mknod -m {tun} /dev/net/tun c 10 200 && chmod 755 /dev/net && exec setpriv --reuid {} --regid {} --init-groups \"$@\"",
        user.uid, user.gid
    );
    let runtime = store.scratch.mkdir("runtime");
    std::os::unix::fs::chown(&runtime, Some(user.uid), Some(user.gid)).expect("give it to the user");
    std::os::unix::fs::chown(store.scratch.path(), Some(user.uid), Some(user.gid))
        .expect("give it to the user");
    Cmd::new("unshare")
        .args(["-m", "sh", "-c", &set, "sh"])
        .arg(binaries::runner())
        .words(words)
        .env("CORACLE_STORE", store.path())
        .env("HOME", store.scratch.path())
        .env("XDG_RUNTIME_DIR", &runtime)
        .dir(store.scratch.path())
}

fn store(name: &str) -> Option<Store> {
    let all = [Privilege::Root, Privilege::OrdinaryUser, Privilege::Peer("busybox"), Privilege::Peer("cc")];
    if !all.into_iter().all(need) || !need(Privilege::Peer("setpriv")) {
        return None;
    }
    let store = Store::of_user(name);
    Image::busybox()?.program("bin/talk", TALK)?.compose(&store, "box");
    Some(store)
}

#[test]
fn pasta_carries_an_ordinary_users_packets_and_published_ports() {
    if !need(Privilege::Peer("pasta")) {
        return;
    }
    let Some(store) = store("net-pasta") else { return };
    let seen = runner(&store, "666", "run --rm box ls /sys/class/net /proc/self/net").run();
    assert!(seen.status.success() && seen.stderr.is_empty(), "{seen}");
    let port = 20000 + std::process::id() % 10000;
    let web = runner(&store, "666", &format!("run --rm -p 127.0.0.1:{port}:80 box talk serve 80")).spawn();
    web.wait_for("ready");
    let talk = store.scratch.join("talk");
    rootfs::compile(TALK, &talk).expect("a compiler");
    Cmd::new(&talk).words(&format!("ask tcp 127.0.0.1 {port}")).ok();
    web.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = web.wait(Duration::from_secs(20));
    coracle_tests::eventually("pasta goes with the runner", || {
        Cmd::new(&talk).words(&format!("ask tcp 127.0.0.1 {port}")).run().code() == 1
    });
    // What is left would have the port, with nobody to answer behind it.
    let bound = format!("127.0.0.1:{port} ");
    let listens = || Cmd::new("ss").words("-Htln").ok().stdout.contains(&bound);
    coracle_tests::eventually("the port is free again", || !listens());
    runner(&store, "666", &format!("run -d --name web -p 127.0.0.1:{port}:80 box talk serve 80")).ok();
    coracle_tests::eventually("the port is taken", listens);
    let list = Cmd::new("ps").words("-eo pid,ppid,args").ok().stdout;
    let monitor =
        list.lines().find(|l| l.contains(&format!("127.0.0.1:{port}:80")) && l.contains("--name web"));
    let monitor = monitor.and_then(|l| l.split_whitespace().next()).expect("it has a monitor");
    Cmd::new("kill").args(["-9", monitor]).ok();
    coracle_tests::eventually("pasta goes with the monitor too", || !listens());
    runner(&store, "666", "rm -f web").ok();
    runner(&store, "666", "run --rm --ip 10.0.0.1 box true")
        .fails(125)
        .complains("--ip does not go with pasta");
}

#[test]
fn slirp4netns_carries_them_but_no_published_port() {
    if !need(Privilege::Peer("slirp4netns")) {
        return;
    }
    let Some(store) = store("net-slirp") else { return };
    let words = "run --rm --network slirp4netns box ip -o addr show tap0";
    runner(&store, "666", words).ok().prints("10.0.2.100/24");
    let refused = runner(&store, "666", "run --rm --network slirp4netns -p 80 box true").fails(125);
    assert!(refused.stderr.contains("install pasta"), "{refused}");
}

#[test]
fn without_either_there_is_no_network_and_only_who_needs_one_hears_of_it() {
    let Some(store) = store("net-without") else { return };
    let quiet = runner(&store, "600", "run --rm box true").ok();
    assert_eq!(quiet.stderr, "");
    let refused = runner(&store, "600", "run --rm -p 80 box true").fails(125);
    assert!(
        refused.stderr.contains("-p needs a network") && refused.stderr.lines().count() == 1,
        "{refused}"
    );
    runner(&store, "600", "run --rm --network bridge box true")
        .fails(125)
        .complains("no right to make a bridge");
    // What could never work is not made.
    for words in ["network create back", "network connect back some"] {
        let refused = runner(&store, "600", words).fails(125);
        for part in [&words[..14], "no right to make a bridge", "pasta or slirp4netns", "--network host"] {
            assert!(refused.stderr.contains(part), "{refused}");
        }
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    }
    assert!(!runner(&store, "600", "network ls").ok().stdout.contains("back"));
}
