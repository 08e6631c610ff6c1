//! Networks of the runner: what is typed about them, what lies on disk of them, files of the host's and of containers' that
//! tell names, and what the kernel answers.

use std::net::IpAddr;

use coracle_runner::network::reading;

/// `-p` and `--expose`: ports are none of 0, in their order, and of a range as many are inside as on the host, or one.
pub fn publish(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = reading::exposed(text);
    let Ok(((_, host, inside, _), sound)) = reading::published(text) else { return };
    assert!(sound, "{text:?}");
    let whole = |(first, last): (u16, u16)| first > 0 && first <= last;
    assert!(whole(inside) && host.is_none_or(whole), "{text:?}");
    if let Some((first, last)) = host {
        assert!(inside.0 == inside.1 || last - first == inside.1 - inside.0, "{text:?}");
    }
}

/// `--ip`, `--subnet`, `--add-host`, `--mac-address`: what is taken is of one line, and leads nowhere else.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = reading::address(text).map(|ip| assert_eq!(text.parse::<IpAddr>(), Ok(ip)));
    match reading::subnet(text) {
        Ok((base, prefix, free)) => {
            assert!(prefix <= if base.is_ipv6() { 128 } else { 32 });
            assert!(free.is_none_or(|ip| ip.is_ipv6() == base.is_ipv6()), "{text:?}");
        }
        Err(e) => assert!(e.to_string().contains("invalid subnet"), "{text:?}: {e}"),
    }
    if let Ok((name, _)) = reading::added_host(text) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        assert!((1..=253).contains(&name.len()) && name.bytes().all(plain), "{name:?}");
    }
    if let Ok(mac) = reading::mac(text) {
        assert!(mac[0] & 1 == 0 && text.len() == 17, "{text:?}");
    }
}

/// A resolv.conf of the host's, and words of --dns, --dns-search and --dns-option: the file is the host's or has lines of
/// ours alone, and where the container has a network of its own, no server of the host's loopback device is left.
pub fn resolv_conf(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, typed) = text.split_once('\0').unwrap_or((text, ""));
    let mut words: [Vec<String>; 3] = Default::default();
    for (n, word) in typed.split('\0').enumerate().filter(|(_, word)| !word.is_empty()) {
        words[n % 3].push(word.to_owned());
    }
    let [servers, search, options] = &words;
    for own in [false, true] {
        let Some(file) = reading::resolv(host, [servers, search, options], own) else { continue };
        let known = |line: &str| ["nameserver ", "search ", "options "].iter().any(|w| line.starts_with(w));
        assert!(file == host || file.lines().all(known), "{file:?}");
        let loopback = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some("nameserver") && words.next().is_some_and(|ip| ip.starts_with("127."))
        };
        let asked = servers.iter().any(|ip| ip.starts_with("127."));
        assert!(!own || asked || !file.lines().any(loopback), "{file:?}");
    }
}

/// The /etc/hosts of a container, whatever that has made of it: our block is in it, put there twice it is there as it was
/// put there once, and nothing else has gone but what stood between its lines.
pub fn hosts(data: &[u8]) {
    let now = String::from_utf8_lossy(data);
    let (block, once, twice) = reading::hosts(&now);
    assert!(once.contains(&block), "{once:?}");
    assert_eq!(once, twice);
    let at = once.find(&block).unwrap_or_default();
    assert!(now.starts_with(once[..at].trim_end_matches('\n')), "{once:?}");
}

/// The files of a network and of who is on it: what is read is written and read again as the same, and a name of a device or
/// of a table is one word that the kernel takes.
pub fn files(data: &[u8]) {
    if let Ok((bridge, table, same)) = reading::network_file(data) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        assert!(same && bridge.len() < 16 && bridge.bytes().all(plain) && table.bytes().all(plain));
    }
    if let Ok(same) = reading::lease_file(data) {
        assert!(same);
    }
}

/// Answers of rtnetlink, nfnetlink and ctnetlink: read to their end, wherever they are cut off.
pub fn netlink(data: &[u8]) {
    assert!(reading::answers(data) <= data.len() / 16);
}

/// What is sound.
pub(crate) mod seeds {
    use serde_json::json;

    use super::reading::answer;

    fn lines(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    pub(crate) fn ports() -> Vec<Vec<u8>> {
        lines(&[
            "80",
            "8080:80",
            "127.0.0.1:8080:80/udp",
            "[::1]:8000-8010:80-90/tcp",
            "127.0.0.1::80",
            ":80",
            "9000-9010:80",
            "65535:65535",
            "1-65535:1-65535/UDP",
        ])
    }

    pub(crate) fn words() -> Vec<Vec<u8>> {
        lines(&[
            "10.0.0.0/8",
            "10.1.2.3/32",
            "fd00::5/64",
            "::/0",
            "0.0.0.0/0",
            "192.0.2.7",
            "fd00::1",
            "db:192.0.2.7",
            "db=[fd00::1]",
            "host:host-gateway",
            "02:42:0a:53:00:02",
        ])
    }

    pub(crate) fn resolv() -> Vec<Vec<u8>> {
        lines(&[
            "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a b\noptions edns0\n",
            "nameserver ::1\ndomain a\0",
            "\x00192.0.2.1\0a.test\0ndots:2\0fd00::1\0.\0",
            "nameserver 192.0.2.1",
        ])
    }

    pub(crate) fn hosts() -> Vec<Vec<u8>> {
        let (block, ..) = super::reading::hosts("");
        let twice = format!("127.0.0.1\tlocalhost\n{block}9.9.9.9\tmine\n{block}");
        lines(&["", "127.0.0.1 localhost", &block, &twice, &twice[..twice.len() / 2]])
    }

    pub(crate) fn files() -> Vec<Vec<u8>> {
        let pool = json!({"subnet": "10.84.0.0/24", "gateway": "10.84.0.1", "range": "10.84.0.128/25"});
        let six = json!({"subnet": "fd00::/64", "gateway": "fd00::1", "range": "fd00::/64"});
        let network = json!({
            "version": 1, "id": "0123456789abcdef".repeat(4), "name": "back", "created": 7,
            "pools": [pool, six], "internal": true, "mtu": 1400, "labels": {"a": "b"},
        });
        let lease = json!({
            "id": "a".repeat(64), "name": "web", "hostname": "web", "network": "back", "aliases": ["www"],
            "device": "vcaaaaaaaaaa0", "inside": "eth0", "mac": "02:42:0a:54:00:02",
            "addresses": [{"ip": "10.84.0.2", "prefix": 24, "gateway": "10.84.0.1"}],
            "ports": [{"hostIp": "::", "hostPort": 80, "containerPort": 8080, "protocol": "udp"}],
            "hosts": "/store/containers/a/hosts",
        });
        [network, lease].map(|text| text.to_string().into_bytes()).to_vec()
    }

    pub(crate) fn answers() -> Vec<Vec<u8>> {
        let link = answer(16, &[0; 16], &[(3, b"eth0\0"), (18, &[8, 0, 1, 0, b'v', b'e', b't', 0])]);
        let route = [2, 16, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        let route = answer(24, &route, &[(1, &[10, 1, 0, 0]), (5, &[10, 0, 0, 1])]);
        let hook: &[u8] = &[8, 0, 1, 0, 0, 0, 0, 2, 8, 0, 2, 0, 0, 0, 0, 0];
        let chain = [(1, &b"filter\0"[..]), (3, b"FORWARD\0"), (4, hook), (5, &[0; 4]), (7, b"filter\0")];
        let chain = answer(0xa03, &[2, 0, 0, 0], &chain);
        let ends = [8, 0, 1, 0, 192, 0, 2, 7, 8, 0, 2, 0, 192, 0, 2, 1];
        let carried = [5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 1, 2, 0, 0, 6, 0, 3, 0, 3, 4, 0, 0];
        let tuple = [&[20, 0, 1, 0][..], &ends, &[28, 0, 2, 0], &carried].concat();
        let flow = answer(0x100, &[2, 0, 0, 0], &[(1, &tuple), (2, &tuple), (12, &[1, 2, 3, 4])]);
        let all = [&link[..], &route, &chain, &flow].concat();
        vec![link, route, chain, flow, all]
    }
}
