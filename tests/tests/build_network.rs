//! The network of RUN: a network of its own, with a way out, and nothing of the host's loopback device.

use coracle_tests::lan::{HOST, Host, OUTSIDE};
use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Output, Privilege, Store, binaries, eventually, need, privilege};

fn build(host: &Host, words: &str, dockerfile: &str) -> Output {
    host.store.scratch.write("c/Dockerfile", dockerfile);
    let tool = host.on(&binaries::rootfs_tool().display().to_string());
    tool.words("build --no-cache -t app").words(words).arg(host.store.scratch.join("c")).run()
}

#[test]
fn run_has_a_network_of_its_own_with_a_way_out_and_no_way_to_the_hosts_loopback() {
    let Some(host) = Host::new("build-network") else { return };
    let _outside = host.serve_outside();
    let _own = host.serve_on_the_host(81);
    let from = "FROM box\nRUN";
    let out = build(&host, "", &format!("{from} talk ask tcp {} 80 && ls /sys/class/net\n", OUTSIDE[0])).ok();
    assert!(
        out.stderr.contains(HOST[0]) && out.stderr.contains(" eth0") && !out.stderr.contains("warning"),
        "{out}"
    );
    // The host is there by its address on the bridge, as in docker, and not as the container's own.
    for (words, flag, ends) in [
        ("", "", 1),
        ("--network=host", "", 0),
        ("--allow network.host", "--network=host", 0),
        ("--network=host", "--network=none", 1),
    ] {
        let out = build(&host, words, &format!("{from} {flag} talk ask tcp 127.0.0.1 81\n"));
        assert_eq!(out.code(), ends, "{words} {flag}: {out}");
    }
    build(
        &host,
        "--network=none",
        &format!("{from} --network=default ls /sys/class/net | wc -l | grep -x 1\n"),
    )
    .ok();
    let named = format!("{from} talk ask tcp $(awk '$2 == \"up\" {{print $1}}' /etc/hosts) 81\n");
    build(&host, "--add-host up:host-gateway", &named).ok();
    let named = "RUN --network=host grep -x '127.0.0.1\tup' /etc/hosts\nRUN --network=none grep 192.0.2.9 /etc/hosts\n";
    let words = "--allow network.host --add-host up:host-gateway --add-host b=192.0.2.9";
    build(&host, words, &format!("FROM box\n{named}")).ok();
    // Steps side by side have a network each: the same port is free in both.
    let serve = "talk serve 80 & sleep 1; talk ask tcp 127.0.0.1 80; kill $!";
    let both = format!(
        "FROM box AS a\nRUN {serve} && touch /a\nFROM box AS b\nRUN {serve} && touch /b\nFROM box\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    );
    build(&host, "", &both).ok();
    // Servers that only the host reaches are none of the container's; others are as the host has them.
    host.store.scratch.write("resolv", "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch a.test\n");
    let bind = format!("mount --bind {} /etc/resolv.conf", host.store.scratch.join("resolv").display());
    if host.sh(&bind).code() == 0 {
        let out = build(&host, "", &format!("{from} cat /etc/resolv.conf\n")).ok();
        assert!(out.stderr.contains("nameserver 192.0.2.53") && !out.stderr.contains("127.0.0.53"), "{out}");
    }
    eventually(&format!("nothing is left: {}", host.left()), || host.left().is_empty());
}

#[test]
fn an_ordinary_users_run_has_its_packets_carried_or_a_warning_and_the_hosts_network() {
    let all =
        [Privilege::Root, Privilege::OrdinaryUser, Privilege::Peer("busybox"), Privilege::Peer("pasta")];
    if !all.into_iter().all(need)
        || !need(Privilege::Peer("slirp4netns"))
        || !need(Privilege::Peer("setpriv"))
    {
        return;
    }
    let store = Store::of_user("build-carried");
    let Some(_image) = Image::busybox().map(|image| image.compose(&store, "box")) else { return };
    let user = privilege::ordinary_user().expect("need(OrdinaryUser) comes first");
    for dir in ["", "runtime", "c"] {
        let path = store.scratch.mkdir(dir);
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).expect("give it to the user");
    }
    let build = |tun: &str, hide: &str, dockerfile: &str| {
        store.scratch.write("c/Dockerfile", dockerfile);
        let set = format!(
            "mount -t tmpfs tmpfs /dev/net && mknod -m {tun} /dev/net/tun c 10 200 && chmod 755 /dev/net && {hide} exec setpriv --reuid {} --regid {} --init-groups \"$@\"",
            user.uid, user.gid
        );
        Cmd::new("unshare")
            .args(["-m", "sh", "-c", &set, "sh"])
            .arg(binaries::rootfs_tool())
            .words("build --no-cache --allow network.host -t app c")
            .env("CORACLE_STORE", store.path())
            .env("HOME", store.scratch.path())
            .env("XDG_RUNTIME_DIR", store.scratch.join("runtime"))
            .dir(store.scratch.path())
            .run()
    };
    let seen = "FROM box\nRUN ls /sys/class/net; grep -c ^ /proc/net/route; cat /proc/net/route | cut -f2\n";
    let carried = build("666", "", seen).ok();
    assert!(carried.stderr.contains("00000000") && !carried.stderr.contains("warning"), "{carried}");
    let slirp = build("666", "mount --bind /dev/null $(command -v pasta) &&", seen).ok();
    assert!(slirp.stderr.contains(" tap0") && !slirp.stderr.contains("warning"), "{slirp}");
    let twice = format!("{seen}RUN true\nRUN --network=none true\n");
    let warned = build("600", "", &twice).ok();
    let told = warned.stderr.lines().filter(|l| l.contains("RUN has the host's network")).count();
    assert_eq!(told, 1, "{warned}");
    let quiet = build("600", "", "FROM box\nRUN --network=host true\nRUN --network=none true\n").ok();
    assert!(!quiet.stderr.contains("warning"), "{quiet}");
}
