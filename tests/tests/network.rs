//! Containers on a bridge: names, published ports, networks that have names. Each test has a host of its own, with a
//! machine outside of it.

use std::time::Duration;

use coracle_tests::lan::{HOST, Host, OUTSIDE};
use coracle_tests::{Output, eventually};

/// The address that a name has in a container's /etc/hosts.
const OF: &str =
    "of() { awk -v n=$1 '{ for (i = 2; i <= NF; i++) if ($i == n) { print $1; exit } }' /etc/hosts; };";

#[track_caller]
fn nothing_is_left(host: &Host) {
    eventually(&format!("nothing is left: {}", host.left()), || host.left().is_empty());
}

#[test]
fn a_container_has_an_address_a_way_out_and_its_own_name() {
    let Some(host) = Host::new("net-address") else { return };
    let seen = "cat /proc/net/route /etc/hosts; ip addr show eth0; ip -6 route; hostname";
    let output = host.script("--name web --mac-address 02:00:00:00:00:07", seen).ok();
    for wanted in ["inet 10.83.0.2/16", "02:00:00:00:00:07", "default via fd", "host.docker.internal", " web"]
    {
        assert!(output.stdout.contains(wanted), "{wanted}: {output}");
    }
    assert_eq!(output.stderr, "");
    let _server = host.serve_outside();
    for outside in OUTSIDE {
        let told = host.script("", &format!("talk ask tcp {outside} 80")).ok().stdout;
        assert!(HOST.contains(&told.trim()), "it comes as the host: {told}");
    }
    let resolv =
        host.script("--dns 192.0.2.53 --dns-search a.test --dns-option ndots:2", "cat /etc/resolv.conf").ok();
    assert_eq!(resolv.stdout, "nameserver 192.0.2.53\nsearch a.test\noptions ndots:2\n");
    let hosts = host.script("--add-host db:192.0.2.7 --add-host up=host-gateway", "cat /etc/hosts").ok();
    assert!(hosts.stdout.contains("192.0.2.7\tdb\n") && hosts.stdout.contains("10.83.0.1\tup\n"), "{hosts}");
    let off = host.script("--sysctl net.ipv6.conf.all.disable_ipv6=1", "ip -o addr show eth0").ok();
    assert!(off.stdout.contains("10.83.0.2/16"), "{off}");
    let set = "cat /proc/sys/net/ipv4/conf/eth0/rp_filter";
    assert_eq!(host.script("--sysctl net.ipv4.conf.eth0.rp_filter=2", set).ok().stdout, "2\n");
    nothing_is_left(&host);
}

#[test]
fn containers_of_one_network_know_each_other_by_name_and_hear_of_who_comes_and_goes() {
    let Some(host) = Host::new("net-names") else { return };
    host.runner("network create --ipv6 back").ok();
    let _web = host.serve("--network back --name web --hostname www --network-alias site");
    let waits = host
        .runner("run --rm --network back --name watch box sh -c")
        .arg(format!("{OF} echo up; until [ -n \"$(of late)\" ]; do sleep 0.02; done; echo came; while [ -n \"$(of late)\" ]; do sleep 0.02; done; echo mine >> /etc/hosts; echo went; sleep 100"))
        .spawn();
    waits.wait_for("up");
    for name in ["web", "www", "site"] {
        let told = host.script("--network back", &format!("{OF} talk ask tcp $(of {name}) 80")).ok();
        assert!(told.stdout.starts_with("10.84.0."), "{told}");
    }
    let six = host
        .script("--network back", "talk ask tcp $(awk '/^fd.*web/ { print $1; exit }' /etc/hosts) 80")
        .ok();
    assert!(six.stdout.starts_with("fd"), "{six}");
    let late = host.runner("run --rm --network back --name late box sleep 100").spawn();
    waits.wait_for("came");
    // Its name is known before its command runs.
    eventually("it runs", || host.runner("exec late true").run().code() == 0);
    host.runner("kill -s KILL late").ok();
    assert_eq!(late.wait(Duration::from_secs(20)).unwrap().code(), 137);
    waits.wait_for("went");
    // What the container wrote itself is still there after others came.
    host.script("--network back", "true").ok();
    let hosts = host.runner("exec watch cat /etc/hosts").ok();
    assert!(hosts.stdout.contains("mine\n"), "{hosts}");
    // Another network knows nobody of this one, and reaches nobody.
    let other = format!("{OF} cat /etc/hosts; talk ask tcp 10.84.0.2 80");
    let other = host.script("", &other).fails(1);
    assert!(!other.stdout.contains("web"), "{other}");
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_the_client_keeps_its_address() {
    let Some(host) = Host::new("net-ports") else { return };
    let _web =
        host.serve("--name web -p 8080:80 -p 8080:80/udp -p 127.0.0.1:8081:80 -p [2001:db8:1::1]:8082:80");
    let is = |told: Output, ip: &str| assert_eq!(told.ok().stdout.trim(), ip);
    for protocol in ["tcp", "udp"] {
        for (at, from) in HOST.iter().zip(OUTSIDE) {
            is(host.ask_from_outside(&format!("{protocol} {at} 8080")), from);
            is(host.ask(&format!("{protocol} {at} 8080")), at);
        }
        is(host.ask(&format!("{protocol} 127.0.0.1 8080")), "10.83.0.1");
    }
    is(host.ask("tcp 127.0.0.1 8081"), "10.83.0.1");
    is(host.ask("tcp 2001:db8:1::1 8082"), HOST[1]);
    host.ask(&format!("tcp {} 8081", HOST[0])).fails(1).complains("refused");
    host.ask_from_outside(&format!("tcp {} 8081", HOST[0])).fails(1);
    // The kernel leads no answer to ::1: it is refused at once, and clients turn to 127.0.0.1.
    host.ask("tcp ::1 8080").fails(1).complains("refused");
    // From inside: another container, and itself, by the host's address.
    let by_host = format!("talk ask tcp {} 8080", HOST[0]);
    is(host.script("", &by_host).run(), "10.83.0.1");
    is(host.runner("exec web").words(&by_host).run(), "10.83.0.1");
    // What is not published is not reached from outside, and the host's loopback device not from inside.
    host.ask_from_outside("tcp 10.83.0.2 80").fails(1);
    let _own = host.serve_on_the_host(7000);
    let rude = "--cap-add NET_ADMIN --sysctl net.ipv4.conf.all.route_localnet=1";
    let to_loopback = "ip route del table local local 127.0.0.0/8 dev lo && ip route add 127.0.0.0/8 via 10.83.0.1 && talk ask tcp 127.0.0.2 7000";
    host.script(rude, to_loopback).fails(1);
    host.sh("nft flush chain inet coracle-bridge loopback").ok();
    host.script(rude, to_loopback).ok();
    let list = host.runner("ps --format {{.Names}}:{{.Ports}}").ok().stdout;
    assert!(list.contains("web:0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"), "{list}");
    assert!(list.contains("127.0.0.1:8081->80/tcp") && list.contains("0.0.0.0:8080->80/udp"), "{list}");
}

#[test]
fn ranges_and_exposed_ports_are_published_one_by_one() {
    let Some(host) = Host::new("net-ranges") else { return };
    let _web = host.serve("--name web -p 8000-8002:79-81 -p 9000-9010:80 -P --expose 80/udp");
    for at in ["127.0.0.1 8001", "127.0.0.1 9000"] {
        host.ask(&format!("tcp {at}")).ok();
    }
    let _second = host.serve("-p 9000-9010:80");
    host.ask("tcp 127.0.0.1 9001").ok();
    let list = host.runner("ps --format {{.Names}}:{{.Ports}}").ok().stdout;
    let line = list.lines().find(|l| l.starts_with("web:")).unwrap();
    let free = line.split(", ").find(|p| p.ends_with("->80/udp") && p.contains("0.0.0.0:")).unwrap();
    let port = free.rsplit(':').next().unwrap().split('-').next().unwrap();
    host.ask(&format!("udp 127.0.0.1 {port}")).ok();
}

#[test]
fn a_port_that_somebody_has_is_refused_with_the_name_of_who_has_it() {
    let Some(host) = Host::new("net-conflict") else { return };
    let web = host.serve("--name web -p 8080:80");
    let refused = host.runner("run --rm -p 8080:81 box true").fails(125);
    let words = "Bind for 0.0.0.0:8080 failed: port is already allocated (by the container web)";
    assert!(refused.stderr.contains(words) && refused.stderr.lines().count() == 1, "{refused}");
    host.runner("run --rm -p 127.0.0.1:8080:81 box true").fails(125).complains("already allocated");
    host.runner("run --rm -p 8080:81/udp box true").ok();
    // The host's own programs cannot take it either, nor it theirs.
    let taken =
        host.sh("nc -l -p 8080 </dev/null & sleep 0.3; kill $! 2>&1; busybox nc -l -p 8080 2>&1 </dev/null");
    assert!(!taken.status.success(), "{taken}");
    let own = host.on("sh").args(["-c", "echo up; exec busybox nc -l -p 7070"]).spawn();
    own.wait_for("up");
    eventually("it listens", || {
        host.sh("grep -q ':1B9E .* 0A ' /proc/net/tcp /proc/net/tcp6").status.success()
    });
    let refused = host.runner("run --rm -p 7070:80 box true").fails(125);
    assert!(refused.stderr.contains("already allocated (by the process "), "{refused}");
    assert!(refused.stderr.contains(", busybox)") || refused.stderr.contains(", nc)"), "{refused}");
    host.runner("kill -s KILL web").ok();
    assert_eq!(web.wait(Duration::from_secs(20)).unwrap().code(), 137);
    host.runner("run --rm -p 8080:81 box true").ok();
    nothing_is_left(&host);
}

#[test]
fn an_internal_network_leads_nowhere() {
    let Some(host) = Host::new("net-internal") else { return };
    host.runner("network create --internal --subnet 10.9.0.0/24 --ip-range 10.9.0.128/25 in").ok();
    let _web = host.serve("--network in --name web");
    let _server = host.serve_outside();
    let out = host.script(
        "--network in",
        &format!("{OF} talk ask tcp $(of web) 80; ip route; talk ask tcp {} 80", OUTSIDE[0]),
    );
    let out = out.fails(1);
    assert!(out.stdout.starts_with("10.9.0.129\n") && !out.stdout.contains("default"), "{out}");
    // Not even with a route of its own making.
    host.script(
        "--network in --cap-add NET_ADMIN",
        &format!("ip route add default via 10.9.0.1 && talk ask tcp {} 80", OUTSIDE[0]),
    )
    .fails(1);
}

#[test]
fn networks_are_made_shown_and_removed_as_docker_does() {
    let Some(host) = Host::new("net-verbs") else { return };
    let id = host
        .runner("network create --subnet 10.7.0.0/24 --gateway 10.7.0.9 --label a=b -o mtu=1400 one")
        .ok()
        .stdout;
    assert_eq!(id.trim().len(), 64);
    host.runner("network create one").fails(125).complains("network with name one already exists");
    host.runner("network create --subnet 10.7.0.128/25 two").fails(125).complains("Pool overlaps");
    host.runner("network create --subnet 198.51.100.0/25 two").fails(125).complains("Pool overlaps");
    for bad in ["host", "../x", "a b", "default"] {
        host.runner("network create").arg(bad).fails(125);
    }
    host.runner("network create two").ok();
    let list = host.runner("network ls").ok().stdout;
    assert!(list.starts_with("NETWORK ID     NAME     DRIVER   SCOPE\n"), "{list}");
    let names = host.runner("network ls --format {{.Name}}/{{.Driver}}").ok().stdout;
    assert_eq!(names, "bridge/bridge\nhost/host\nnone/null\none/bridge\ntwo/bridge\n");
    for (filter, found) in [
        ("label=a=b", "one\n"),
        ("type=custom", "one\ntwo\n"),
        ("name=tw", "two\n"),
        ("driver=null", "none\n"),
    ] {
        assert_eq!(
            host.runner("network ls --format {{.Name}} -f").arg(filter).ok().stdout,
            found,
            "{filter}"
        );
    }
    host.runner("network ls -f x=y").fails(125);
    let _web = host.serve("--network one --name web --ip 10.7.0.5");
    let shown = host.runner("network inspect one").ok().json();
    assert_eq!(shown[0]["Id"], id.trim());
    assert_eq!(shown[0]["IPAM"]["Config"][0]["Gateway"], "10.7.0.9");
    let inside = shown[0]["Containers"].as_object().unwrap().values().next().unwrap().clone();
    assert_eq!((inside["Name"].as_str(), inside["IPv4Address"].as_str()), (Some("web"), Some("10.7.0.5/24")));
    assert_eq!(host.runner("exec web cat /sys/class/net/eth0/mtu").ok().stdout, "1400\n");
    host.runner("run --rm --network one --ip 10.7.0.5 box true")
        .fails(125)
        .complains("Address already in use");
    host.runner("run --rm --network one --ip 10.8.0.5 box true")
        .fails(125)
        .complains("none of the network one");
    host.runner("network rm one").fails(1).complains("has active endpoints");
    host.runner("network rm bridge").fails(1).complains("pre-defined");
    host.runner("network rm nothing").fails(1).complains("network nothing not found");
    host.runner("network rm -f nothing").ok();
    assert_eq!(host.runner("network prune -f").ok().stdout, "Deleted Networks:\ntwo\n");
    host.runner("run --rm --network two box true").fails(125).complains("network two not found");
}

#[test]
fn a_container_that_runs_is_joined_to_a_network_and_taken_off_it() {
    let Some(host) = Host::new("net-connect") else { return };
    host.runner("network create back").ok();
    let _web = host.serve("--network back --name web");
    let _front = host.serve("--name front -p 8080:80");
    host.runner("exec front").words("talk ask tcp 10.84.0.2 80").fails(1);
    host.runner("network connect --alias face --ip 10.84.0.77 back front").ok();
    assert_eq!(host.runner("exec front talk ask tcp 10.84.0.2 80").ok().stdout, "10.84.0.77\n");
    assert_eq!(host.runner("exec web grep -c face /etc/hosts").ok().stdout, "1\n");
    assert_eq!(host.runner("exec front grep -c web /etc/hosts").ok().stdout, "1\n");
    host.ask("tcp 127.0.0.1 8080").ok();
    host.runner("network connect back front").fails(125).complains("on the network back already");
    host.runner("network disconnect back front").ok();
    host.runner("network disconnect back front").fails(125).complains("not connected");
    host.runner("exec front talk ask tcp 10.84.0.2 80").fails(1);
    host.runner("exec web grep -c face /etc/hosts").fails(1);
    host.ask("tcp 127.0.0.1 8080").ok();
    host.runner("network connect host front").fails(125);
    host.runner("network connect back nobody").fails(125).complains("No such container: nobody");
}

#[test]
fn what_does_not_go_with_a_network_is_refused_by_name() {
    let Some(host) = Host::new("net-refused") else { return };
    for (flags, says) in [
        ("--network none -p 80", "-p does not go with --network none"),
        ("--network host -P", "-P does not go with --network host"),
        ("--network none --network-alias x", "--network-alias"),
        ("--network none --add-host a:host-gateway", "host-gateway"),
        ("-p x", "invalid containerPort"),
        ("-p 80-90:1-2", "invalid ranges"),
        ("-p 1.2.3.4:80:80", "bind(1.2.3.4:80)"),
        ("--ip x", "invalid IP address"),
        ("--ip fd00::1", "--ip"),
        ("--mac-address x", "invalid MAC address"),
        ("--add-host x", "--add-host"),
        ("--dns x", "--dns"),
        ("--network nothing", "network nothing not found"),
        ("--network ns:relative", "ns:/PATH"),
        ("--network container:nobody", "no such container"),
    ] {
        let refused = host.runner("run --rm").words(flags).words("box true").fails(125);
        assert!(refused.stderr.contains(says) && refused.stderr.lines().count() == 1, "{flags}: {refused}");
    }
    nothing_is_left(&host);
}

#[test]
fn a_namespace_that_is_there_is_joined_by_its_path() {
    let Some(host) = Host::new("net-ns") else { return };
    host.sh("mkdir -p /run/netns && ip netns add mine && ip -n mine link add mine7 type bridge").ok();
    let seen = host.script("--network ns:/run/netns/mine", "ls /sys/class/net").ok().stdout;
    assert!(seen.contains("mine7") && !seen.contains("wire"), "{seen}");
    let web = host.serve("--name web");
    let same = host.script("--network container:web", "talk ask tcp 127.0.0.1 80").ok();
    assert_eq!(same.stdout, "127.0.0.1\n");
    drop(web);
}

#[test]
fn a_client_by_udp_that_keeps_its_port_is_led_to_the_container_that_is_there_now() {
    let Some(host) = Host::new("net-tracked") else { return };
    let serve = "run -d --name web -p 8080:80/udp --ip";
    host.runner(serve).words("10.83.0.7 box talk serve 80").ok();
    let keep = |(n, at)| host.outside_talk().arg("keep").words(&format!("{at} 8080 400{n}")).spawn();
    let clients: Vec<_> = HOST.iter().enumerate().map(keep).collect();
    let answered = |what: &str| {
        for (client, at) in clients.iter().zip(HOST) {
            let answers = || client.stdout_so_far().lines().count();
            let before = answers();
            eventually(&format!("{what}: {at}"), || answers() > before + 1);
        }
    };
    answered("by the first");
    // The next one has another address; meanwhile nobody has the port, and the clients ask on.
    host.runner("rm -f web").ok();
    let said = || clients.iter().map(|c| c.stdout_so_far().len()).collect::<Vec<_>>();
    let quiet = || {
        let before = said();
        std::thread::sleep(Duration::from_millis(500));
        said() == before
    };
    eventually("nobody answers", quiet);
    host.runner(serve).words("10.83.0.9 box talk serve 80").ok();
    answered("by another one");
    host.runner("stop -t 0 web").ok();
    eventually("nobody answers", quiet);
    host.runner("start web").ok();
    answered("after a restart");
    host.runner("kill web").ok();
    eventually("nobody answers", quiet);
    host.runner("start web").ok();
    answered("after a kill");
    // What is remembered of others is not touched.
    let other = host.serve("-p 8081:80/udp");
    let kept = host.outside_talk().arg("keep").words(&format!("{} 8081 4007", HOST[0])).spawn();
    eventually("the other one answers", || kept.stdout_so_far().lines().count() > 1);
    let flows = "cat /proc/net/nf_conntrack | grep -c dport=8081";
    let before = host.sh(flows).stdout;
    host.runner("rm -f web").ok();
    assert_eq!(host.sh(flows).stdout, before);
    drop((other, kept));
}

#[test]
fn docker_s_ports_links_and_host_names_are_told_as_docker_tells_them() {
    let Some(host) = Host::new("net-told") else { return };
    host.runner("run -d --name web -h www --domainname example.org -p 8080:80 -p 127.0.0.1:53-54:53-54/udp --expose 99 box sleep 1000")
        .ok();
    for (filter, found) in [
        ("publish=8080", true),
        ("publish=80", false),
        ("publish=8000-8100/tcp", true),
        ("publish=53/udp", true),
        ("publish=53", false),
        ("expose=80", true),
        ("expose=99/tcp", true),
        ("expose=8080", false),
        ("network=bridge", true),
        ("network=none", false),
    ] {
        let told = host.runner(&format!("ps -q --filter {filter}")).ok().stdout;
        assert_eq!(told.lines().count(), usize::from(found), "{filter}");
    }
    for wrong in ["publish=x", "expose=1:2"] {
        host.runner(&format!("ps --filter {wrong}")).fails(125).complains("PORT[-PORT][/tcp|/udp]");
    }
    for (template, told) in [
        (
            "{{json .HostConfig.PortBindings}}",
            r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":"53"}],"54/udp":[{"HostIp":"127.0.0.1","HostPort":"54"}],"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#,
        ),
        ("{{json .Config.ExposedPorts}}", r#"{"53/udp":{},"54/udp":{},"80/tcp":{},"99/tcp":{}}"#),
    ] {
        let output = host.runner("inspect -f").args([template, "web"]).ok();
        assert_eq!(output.stdout.trim(), told);
    }
    assert_eq!(host.runner("ps --format {{.Networks}}").ok().stdout, "bridge\n");
    let own = host.runner("exec web grep 10.83 /etc/hosts").ok().stdout;
    assert!(own.contains("\twww.example.org www web "), "the full name comes first: {own}");
    let linked = host.script("--link web:database", &format!("{OF} of database; of web")).ok().stdout;
    assert_eq!(linked, "10.83.0.2\n10.83.0.2\n");
    host.script("--link nosuch", "true").fails(125).complains("--link \"nosuch\"");
    host.script("--link web:a/b", "true").fails(125).complains("it is CONTAINER[:NAME]");
    host.runner("create --name idle box true").ok();
    host.script("--link idle:x", "true").fails(125).complains("idle is on no network, or does not run");
    host.runner("rm -f web idle").ok();
    nothing_is_left(&host);
}
