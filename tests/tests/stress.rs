//! Many containers, and many deaths: nothing may be left behind, and nobody's layers may change.

use std::sync::{Mutex, MutexGuard};

use coracle_tests::canary::hash;
use coracle_tests::leftovers::Leftovers;
use coracle_tests::rootfs::Image;
use coracle_tests::{Privilege, Store, eventually, need, rounds};
use nix::sys::signal::Signal;

/// Two of these at once would only slow each other down.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn ready() -> bool {
    need(Privilege::Containers) && need(Privilege::Peer("busybox")) && coracle_tests::rootfs::works()
}

/// A store with one image, and what was there before its first container.
fn store(name: &str) -> (Store, Image, Leftovers) {
    let store = Store::new(name);
    let image = Image::busybox().expect("busybox").compose(&store, "image");
    // The first start makes what stays: the state's folder, the store's own.
    store.run("image true").ok();
    let token = store.scratch.path().file_name().expect("a name").to_string_lossy().into_owned();
    let (containers, state) = (store.path().join("containers"), store.state());
    let before = Leftovers::before(&token, &[&containers, &state, &store.path().join("names")]);
    (store, image, before)
}

#[test]
fn two_hundred_containers_twenty_at_a_time_leave_nothing_behind() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let (store, _image, before) = store("stress");
    std::thread::scope(|scope| {
        for worker in 0..20 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..10 {
                    let text = format!("worker {worker} round {round}");
                    let out = store.run("image sh -c").arg(format!("echo {text} > /file; cat /file")).ok();
                    assert_eq!(out.text(), text);
                }
            });
        }
    });
    before.assert_none();
}

#[test]
fn after_half_of_the_runners_are_killed_one_sweep_leaves_nothing_behind() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let (store, _image, before) = store("sweep");
    let running: Vec<_> = (0..20)
        .map(|n| store.run(&format!("--name c{n} image sh -c")).arg("echo ready; sleep 1000").spawn())
        .collect();
    for r in &running {
        r.wait_for("ready");
    }
    for n in 0..20 {
        // What can be joined has been recorded.
        eventually("it can be joined", || {
            store.runner().args(["exec", &format!("c{n}"), "true"]).run().code() == 0
        });
    }
    for (n, r) in running.iter().enumerate() {
        // Half of them, and not every second one.
        if (n * 7 + 3) % 20 < 10 {
            r.signal(Signal::SIGKILL);
        }
    }
    // With their runners gone the containers are gone.
    eventually("half of the containers are gone", || {
        let listed = store.runner().arg("ps").ok().stdout;
        (0..20).filter(|n| listed.split_whitespace().any(|w| w == format!("c{n}"))).count() == 10
    });
    for (n, r) in running.into_iter().enumerate() {
        if (n * 7 + 3) % 20 >= 10 {
            store.runner().arg("kill").arg(format!("c{n}")).ok();
        }
        r.wait(std::time::Duration::from_secs(60)).expect("a runner ends with its container");
    }
    // Whoever lists sweeps.
    store.runner().arg("ps").ok();
    before.assert_none();
}

#[test]
fn the_layers_are_the_same_after_everything_is_removed_inside() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let store = Store::new("layers");
    let _image = Image::busybox().expect("busybox").compose(&store, "image");
    store.run("image true").ok();
    let layers = store.path().join("layers");
    let before = hash(&layers);
    assert!(coracle_tests::canary::listing(&layers).len() > 20, "no layer in {}", layers.display());
    let remove =
        "cp /bin/busybox /tmp/b; /tmp/b rm -rf --no-preserve-root / 2>/dev/null; echo x > /new; echo gone";
    for flags in ["", "--cap-add SYS_ADMIN", "-u 1000"] {
        store.run(flags).args(["image", "sh", "-c", remove]).run().prints("gone");
        assert_eq!(hash(&layers), before, "{flags}");
    }
    store.run("image cat /etc/passwd").ok().prints("root");
}

#[test]
fn two_containers_share_their_layers_and_see_nothing_of_each_other() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let store = Store::new("share");
    let _image =
        Image::busybox().expect("busybox").file("etc/shared", "of the image\n").compose(&store, "image");
    let wait = "while [ ! -e /done ]; do sleep 0.05; done; cat /etc/shared";
    let script =
        |me: &str| format!("echo {me} > /etc/shared; echo {me} > /own-{me}; echo ready; {wait}; ls /own-*");
    let one = store.run("--name one image sh -c").arg(script("one")).spawn();
    let two = store.run("--name two image sh -c").arg(script("two")).spawn();
    for running in [&one, &two] {
        running.wait_for("ready");
    }
    for name in ["one", "two"] {
        store.runner().args(["exec", name, "touch", "/done"]).ok();
    }
    for (name, running) in [("one", one), ("two", two)] {
        let out = running.wait(std::time::Duration::from_secs(60)).expect("the container ends").ok();
        assert_eq!(out.text(), format!("ready\n{name}\n/own-{name}"));
    }
    let layers = std::fs::read_dir(store.path().join("layers/overlay")).map_or(0, Iterator::count);
    assert!(layers <= 1, "{layers} layers for one image");
}

#[test]
fn many_containers_run_at_once() {
    if !ready() {
        return;
    }
    let _turn = alone();
    let (store, _image, before) = store("many");
    let wanted = rounds(50, 1000);
    let begun = std::time::Instant::now();
    let running: Vec<_> = (0..wanted)
        .map(|n| store.run(&format!("--name m{n} image sh -c")).arg("echo ready; exec sleep 1000").spawn())
        .collect();
    for r in &running {
        r.wait_for("ready");
    }
    let listed = store.runner().arg("ps").ok().stdout;
    assert_eq!(listed.lines().count(), wanted + 1, "a line each and one of titles");
    coracle_tests::bench::tell_fleet("images", begun, running.iter().map(|r| r.pid()));
    for r in &running {
        r.signal(Signal::SIGTERM);
    }
    for r in running {
        r.wait(std::time::Duration::from_secs(120)).expect("a runner ends with its container");
    }
    before.assert_none();
}
