//! Networks when things go wrong: many starts at once, runners that are killed, files that somebody has broken, rules
//! that somebody has flushed, firewalls of others.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_tests::lan::{HOST, Host, OUTSIDE};
use coracle_tests::{Privilege, eventually, need};
use nix::sys::signal::Signal;

#[test]
fn starts_at_once_get_addresses_of_their_own() {
    let Some(host) = Host::new("net-parallel") else { return };
    let all: Vec<_> = (0..16)
        .map(|n| {
            let run = host.runner("run --rm --name").arg(format!("c{n}")).words("-p 80 box sh -c");
            run.arg("ip -4 -o addr show eth0; echo ready; read x < /dev/zero; sleep 60").spawn()
        })
        .collect();
    all.iter().for_each(|one| one.wait_for("ready"));
    let address = |text: String| text.split_whitespace().nth(3).map(str::to_owned).expect("an address");
    let found: BTreeSet<String> = all.iter().map(|one| address(one.stdout_so_far())).collect();
    assert_eq!(found.len(), 16, "{found:?}");
    let hosts = host.runner("exec c0 cat /etc/hosts").ok().stdout;
    (0..16).for_each(|n| {
        assert!(
            hosts.contains(&format!("c{n}\n"))
                || hosts.contains(&format!(" c{n} "))
                || hosts.contains(&format!("\tc{n} ")),
            "c{n}: {hosts}"
        )
    });
    (0..16).for_each(|n| drop(host.runner("kill -s KILL").arg(format!("c{n}")).ok()));
    all.into_iter().for_each(|one| drop(one.wait(Duration::from_secs(30)).unwrap()));
    eventually("nothing is left", || host.left().is_empty());
}

#[test]
fn runners_that_are_killed_at_any_moment_leave_nothing_behind_a_sweep() {
    let Some(host) = Host::new("net-killed") else { return };
    for n in 0..40u64 {
        let run = host.runner("run --rm -p 8080:80 box sleep 60").spawn();
        std::thread::sleep(Duration::from_millis(n * 2));
        // It became the runner: nsenter executes it.
        run.signal(Signal::SIGKILL);
        let _ = run.wait(Duration::from_secs(20));
        if n % 10 == 0 {
            // Whoever comes next is not in the way of what was left.
            host.runner("run --rm -p 8080:80 box true").ok();
        }
    }
    eventually("a sweep takes all away", || {
        host.runner("ps").ok();
        host.left().is_empty()
    });
}

#[test]
fn a_broken_file_is_an_error_that_names_it_and_no_more() {
    let Some(host) = Host::new("net-hostile") else { return };
    let _web = host.serve("--name web");
    let id = host.runner("ps -q --no-trunc").ok().stdout.trim().to_owned();
    for text in ["", "{", "[]", "\\\\0", "{\\\"id\\\":7}"] {
        let path = format!("/run/coracle/net/bridge/{id}.json");
        host.sh(&format!("cp {path} /run/kept; printf '{text}' > {path}")).ok();
        let refused = host.runner("run --rm -p 99:80 box true").fails(125);
        assert!(refused.stderr.contains(&id) && refused.stderr.lines().count() == 1, "{refused}");
        host.runner("ps").ok();
        host.sh(&format!("cp /run/kept {path}")).ok();
    }
    host.sh("cp /run/coracle/net/bridge/network /run/kept; echo x > /run/coracle/net/bridge/network").ok();
    host.runner("run --rm --network bridge box true").fails(125).complains("bridge/network");
    host.sh("cp /run/kept /run/coracle/net/bridge/network").ok();
    host.script("", "true").ok();
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_container() {
    let Some(host) = Host::new("net-flushed") else { return };
    let _web = host.serve("--name web -p 8080:80");
    host.sh("nft flush ruleset").ok();
    host.ask("tcp 127.0.0.1 8080").fails(1);
    host.script("", "true").ok();
    host.ask("tcp 127.0.0.1 8080").ok();
}

#[test]
fn another_firewalls_drop_is_let_pass_where_it_stands() {
    let Some(host) = Host::new("net-dropped") else { return };
    // As ufw and docker leave it.
    host.sh("nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority filter; policy drop; }'").ok();
    let web = host.serve("--name web -p 8080:80");
    let told = host.ask_from_outside(&format!("tcp {} 8080", HOST[0])).ok();
    assert_eq!(told.stdout.trim(), OUTSIDE[0]);
    host.runner("kill -s KILL web").ok();
    let _ = web.wait(Duration::from_secs(20));
    eventually("the rule is gone", || !host.sh("nft list ruleset").stdout.contains("coracle"));
    // One that nobody knows is named, and left as it is.
    host.sh("nft flush ruleset; nft add table inet mine; nft add chain inet mine fw '{ type filter hook forward priority filter; policy drop; }'").ok();
    let said = host.script("", "true").ok();
    assert!(said.stderr.contains("nft insert rule inet mine fw iifname coracle0 accept"), "{said}");
}

#[test]
fn with_dockerd_running_ports_are_reached_and_docker_keeps_its_rules() {
    if !need(Privilege::Peer("dockerd")) || !need(Privilege::Peer("docker")) {
        return;
    }
    let Some(host) = Host::new("net-dockerd") else { return };
    let data = host.store.scratch.mkdir("dockerd");
    let daemon = format!(
        "exec dockerd --data-root {} --exec-root /run/dk --pidfile /run/dk.pid -H unix:///run/dk.sock 2>&1",
        data.display()
    );
    let daemon = host.on("sh").args(["-c", &daemon]).limit(Duration::from_secs(300)).spawn();
    eventually("dockerd answers", || host.sh("docker -H unix:///run/dk.sock version").status.success());
    let forward = host.sh("iptables -S FORWARD").ok().stdout;
    assert!(forward.contains("-P FORWARD DROP"), "{forward}");
    let web = host.serve("--name web -p 8080:80");
    for (at, from) in HOST.iter().zip(OUTSIDE) {
        assert_eq!(host.ask_from_outside(&format!("tcp {at} 8080")).ok().stdout.trim(), from);
    }
    let _server = host.serve_outside();
    host.script("", &format!("talk ask tcp {} 80 && talk ask tcp 10.83.0.2 80", OUTSIDE[0])).ok();
    host.runner("kill -s KILL web").ok();
    let _ = web.wait(Duration::from_secs(20));
    eventually("docker's own rules are left", || {
        let rules = host.sh("iptables -S").ok().stdout;
        rules.contains("DOCKER-USER") && !rules.contains("coracle")
    });
    daemon.signal(Signal::SIGTERM);
    let _ = daemon.wait(Duration::from_secs(60));
    // It changes the owner of the device that it writes nothing to.
    let _ = std::os::unix::fs::chown("/dev/null", Some(0), Some(0));
}

#[test]
fn a_connection_that_nobody_ends_does_not_keep_a_containers_device() {
    let Some(host) = Host::new("net-silent") else { return };
    let hears = host.on_the_outside("sh").args(["-c", "sleep 100 | busybox nc -l -p 9"]).spawn();
    let says = format!("while :; do echo more; sleep 0.1; done | busybox nc {} 9", OUTSIDE[0]);
    host.runner("run -d --name says box sh -c").arg(says).ok();
    hears.wait_for("more");
    // From now on nobody answers, and the kernel goes on asking for a minute and more.
    let drops = "add table ip silent; add chain ip silent hears { type filter hook prerouting priority 0; policy drop; }";
    host.on_the_outside("nft").arg(drops).ok();
    host.runner("rm -f says").ok();
    eventually("its device is gone", || host.left().is_empty());
}
