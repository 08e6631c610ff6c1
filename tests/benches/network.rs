//! Networks: a start with a bridge beside one without, docker and podman; then what goes through a published port, from
//! outside and from the host, beside docker's and a server on the host itself. Root; what is not installed is left out.

use std::time::Duration;

use coracle_tests::bench::{Contender, print, race};
use coracle_tests::command::Running;
use coracle_tests::lan::{HOST, Host};
use coracle_tests::{Cmd, binaries, eventually, peer};

const SOCKET: &str = "unix:///run/dk.sock";

fn main() {
    let Some(host) = Host::new("bench-network") else {
        println!("left out: network: it takes root, busybox, ip, nft and a compiler");
        return;
    };
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(100);
    let archive = host.store.scratch.join("box.tar").display().to_string();
    host.store.rootfs_tool().args(["save", "-o", &archive, "box"]).ok();
    let docker = peer("dockerd").map(|_| dockerd(&host, &archive));
    let podman = peer("podman").and_then(|_| podman(&host, &archive));

    let runner = binaries::runner().display().to_string();
    let own = |name: &'static str, flags: &str| {
        let words = format!("{runner} run --rm {flags} box true");
        Contender::new(name, enter(&host, &words)).env("CORACLE_STORE", host.store.path())
    };
    let field = |up: bool| {
        let mut field =
            vec![own("none", "--network none"), own("bridge", ""), own("bridge, -p", "-p 8080:80")];
        if docker.is_some() {
            let words = |flags: &str| format!("docker -H {SOCKET} run --rm {flags} box true");
            field.push(Contender::new("docker, none", enter(&host, &words("--network none"))).every(10));
            field.push(Contender::new("docker", enter(&host, &words(""))).every(10));
            field.push(Contender::new("docker, -p", enter(&host, &words("-p 8081:80"))).every(10));
        }
        if let Some(podman) = podman.as_ref().filter(|_| up) {
            let limits = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
            let words = |flags: &str| format!("{podman} run --rm {limits} {flags} box true");
            field.push(Contender::new("podman, none", enter(&host, &words("--network none"))).every(10));
            field.push(Contender::new("podman", enter(&host, &words(""))).every(10));
        }
        field
    };
    println!("\nstart and end of true, {rounds} rounds; nobody else on the network");
    print(&race(field(false), rounds));
    let other = host.runner("run --rm box sleep 1000").limit(Duration::from_secs(3600)).spawn();
    eventually("another one runs", || host.left().contains("coracle0"));
    println!("\nthe same while another one runs");
    print(&race(field(true), rounds));
    drop(other);
    through(&host, docker.is_some());
    if let Some(daemon) = docker {
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let _ = daemon.wait(Duration::from_secs(60));
        let _ = std::os::unix::fs::chown("/dev/null", Some(0), Some(0));
    }
}

fn enter(host: &Host, words: &str) -> Vec<String> {
    let enter = format!("nsenter -t {} -n -m {words}", host.pid());
    enter.split_whitespace().map(str::to_owned).collect()
}

fn dockerd(host: &Host, archive: &str) -> Running {
    let data = host.store.scratch.mkdir("dockerd");
    let script = format!(
        "exec dockerd --data-root {} --exec-root /run/dk --pidfile /run/dk.pid -H {SOCKET} 2>&1",
        data.display()
    );
    let daemon = host.on("sh").args(["-c", &script]).spawn();
    eventually("dockerd answers", || host.sh(&format!("docker -H {SOCKET} version")).status.success());
    host.sh(&format!("docker -H {SOCKET} load -i {archive} && docker -H {SOCKET} tag localhost/box box"))
        .ok();
    daemon
}

fn podman(host: &Host, archive: &str) -> Option<String> {
    let dir = host.store.scratch.mkdir("podman");
    let podman = format!("podman --root {0}/root --runroot {0}/run", dir.display());
    host.sh(&format!("{podman} load -i {archive}")).status.success().then_some(podman)
}

/// Megabytes a second and microseconds there and back.
fn through(host: &Host, docker: bool) {
    let mut field = vec![("host itself", 7000, host.on(host.talk()).words("sink 7000").spawn())];
    field.push(("runner", 7001, host.runner("run --rm -p 7001:80 box talk sink 80").spawn()));
    if docker {
        let words = format!("-H {SOCKET} run --rm -p 7002:80 box talk sink 80");
        field.push(("docker", 7002, host.on("docker").words(&words).spawn()));
    }
    field.iter().for_each(|(_, _, running)| running.wait_for("ready"));
    let ways: [(&str, &dyn Fn() -> Cmd, &str); 3] = [
        ("from outside", &|| host.outside_talk(), HOST[0]),
        ("from the host", &|| host.on(host.talk()), HOST[0]),
        ("from the host by 127.0.0.1", &|| host.on(host.talk()), "127.0.0.1"),
    ];
    for (way, talk, at) in ways {
        println!("\nthrough a port {way}: MB/s, and microseconds there and back (medians of 5)");
        let mut all: Vec<(Vec<f64>, Vec<f64>)> = field.iter().map(|_| Default::default()).collect();
        for _ in 0..5 {
            for ((_, port, _), kept) in field.iter().zip(&mut all) {
                let out = talk().words(&format!("flood {at} {port}")).ok().stdout;
                let mut numbers = out.split_whitespace().map(|n| n.parse::<f64>().expect("a number"));
                kept.0.push(numbers.next().expect("a rate"));
                kept.1.push(numbers.next().expect("a time"));
            }
        }
        for ((name, _, _), (mut rates, mut times)) in field.iter().zip(all) {
            rates.sort_by(f64::total_cmp);
            times.sort_by(f64::total_cmp);
            println!("{name:<14} {:>8.0} {:>8.1}", rates[2], times[2]);
        }
    }
}
