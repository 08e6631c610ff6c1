//! Registries behind a proxy, which the environment names as for docker's programs.

use coracle_tests::proxy::Proxy;
use coracle_tests::registry::{Registry, free_port, tool};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

fn with_image() -> Store {
    let store = Store::new("proxy");
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "[[layer]]\nfile = { \"etc/x\" = \"1\" }\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    store
}

/// `rootfs-tool` with none of these variables but what the test says.
fn clean(store: &Store) -> Cmd {
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
    all.iter().fold(tool(store), |cmd, name| cmd.env_remove(name).env_remove(&name.to_ascii_lowercase()))
}

#[test]
fn a_registry_behind_a_proxy_is_reached_through_it_by_tls_and_without() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Peer("openssl"))) {
        return;
    }
    let store = with_image();
    for tls in [true, false] {
        let registry = if tls { Registry::tls(false) } else { Registry::plain() };
        let proxy = Proxy::to(&registry.host);
        let address = format!("http://{}", proxy.host);
        // A name that only the proxy knows.
        let name = "registry.test:5000/team/app:1";
        let ca = std::fs::read(registry.scratch.join("ca.crt")).unwrap_or_default();
        let verify = format!("--tls-verify={tls}");
        let with = |store: &Store, variables: [&str; 2]| {
            store.scratch.write("home/.config/docker/certs.d/registry.test:5000/ca.crt", &ca);
            variables.iter().fold(clean(store), |cmd, v| cmd.env(v, &address))
        };
        clean(&store).args(["tag", "app", name]).ok();
        with(&store, ["HTTPS_PROXY", "HTTP_PROXY"]).args(["push", "-q", &verify, name]).ok();
        let other = Store::new("proxy");
        with(&other, ["https_proxy", "http_proxy"]).args(["pull", "-q", &verify, name]).ok();
        assert_eq!(other.image_id(name), store.image_id("app"));
        let asked = proxy.asked();
        assert!(asked.iter().all(|a| a.starts_with("CONNECT registry.test:5000 HTTP/1.1\r\n")), "{asked:?}");
        assert!(!asked.is_empty() && asked.iter().all(|a| !a.contains("Proxy-Authorization")), "{asked:?}");
        // A name and a password are for the proxy, which has no part in what is said through it.
        let known = format!("http://me:se%40cret@{}", proxy.host);
        let cmd = with(&other, ["HTTPS_PROXY", "HTTP_PROXY"]);
        let cmd = ["HTTPS_PROXY", "HTTP_PROXY"].iter().fold(cmd, |cmd, v| cmd.env(v, &known));
        cmd.args(["tags", &verify, "registry.test:5000/team/app"]).ok().prints("1");
        let last = proxy.asked().pop().expect("a request");
        assert!(last.contains("Proxy-Authorization: Basic bWU6c2VAY3JldA=="), "{last}");
    }
}

#[test]
fn who_needs_no_proxy_is_asked_directly() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let registry = Registry::plain();
    let proxy = Proxy::refusing(403);
    let address = format!("http://{}", proxy.host);
    let port = registry.host.rsplit(':').next().expect("a port");
    let store = with_image();
    let with = |variables: &[(&str, &str)]| variables.iter().fold(clean(&store), |cmd, (k, v)| cmd.env(k, v));
    let both = [("HTTP_PROXY", address.as_str()), ("HTTPS_PROXY", &address)];
    // This machine itself, by name and by number; and what docker's programs do not read.
    for host in ["127.0.0.1", "localhost"] {
        let name = format!("{host}:{port}/app:1");
        clean(&store).args(["tag", "app", &name]).ok();
        with(&both).args(["push", "-q", &name]).ok();
    }
    // Linux leads this address here too, though it is none of loopback's.
    let name = format!("0.0.0.0:{port}/app");
    let tags = |cmd: Cmd| cmd.args(["tags", "--tls-verify=false", &name]);
    for list in ["0.0.0.0", "0.0.0.0/8", "*", " other.test, 0.0.0.0 "] {
        tags(with(&both).env("NO_PROXY", list)).ok().prints("1");
        tags(with(&both).env("no_proxy", list)).ok().prints("1");
    }
    tags(with(&[("ALL_PROXY", &address)])).ok().prints("1");
    assert_eq!(proxy.asked(), [""; 0], "the proxy was not asked");
    tags(with(&both).env("NO_PROXY", "0.0.0.0:1,0.0.0.1,10.0.0.0/8")).fails(1).complains("(403)");
    assert_eq!(proxy.asked().len(), 2, "by TLS and without");
}

#[test]
fn a_proxy_that_is_of_no_use_is_one_clear_line_that_names_it() {
    let store = Store::new("proxy");
    let (no, who) = (Proxy::refusing(403), Proxy::refusing(407));
    let gone = format!("127.0.0.1:{}", free_port());
    let url = |host: &str| format!("http://me:hidden@{host}");
    for (value, words) in [
        (url(&no.host), vec![no.host.as_str(), "the proxy refuses it (403)", "registry.test"]),
        (url(&who.host), vec![&who.host, "the proxy wants another name and password"]),
        (url(&gone), vec![&gone, "Connection refused"]),
        ("socks5://me:hidden@127.0.0.1:1080".into(), vec!["HTTPS_PROXY", "SOCKS5 is not spoken"]),
        ("http://me:hidden@".into(), vec!["HTTPS_PROXY", "no address of a proxy"]),
        ("ftp://me:hidden@x".into(), vec!["HTTPS_PROXY", "no address of a proxy"]),
    ] {
        let out = clean(&store).args(["pull", "registry.test/app"]).env("HTTPS_PROXY", &value).run().fails(1);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{value}: {out}");
        assert!(!out.stderr.contains("hidden"), "{value}: a password is shown: {out}");
        for word in words {
            assert!(out.stderr.contains(word), "{value}: {word:?} is not in {out}");
        }
    }
}
