//! Registries that keep their client busy and never come to an end, or want what is not theirs: each is left with
//! one clear line.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use coracle_tests::liar::{Asked, Liar, Reply, Served, Then};
use coracle_tests::noise::noise;
use coracle_tests::registry::{Registry, tool};
use coracle_tests::{Privilege, Scratch, Store, need};

/// An image with a layer of nine megabytes that do not compress, as a layout in the store's folder.
fn with_image() -> (Store, Served) {
    let store = Store::new("grinds");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/noise", noise(1, 9 << 20));
    recipe.write("rootfs.toml", "[[layer]]\ndir = \"tree\"\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    let layout = store.scratch.join("layout");
    tool(&store).args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    let served = Served::from_layout(&layout);
    (store, served)
}

/// A registry that has nothing, and takes parts of blobs as `range` says.
fn taking(range: &'static str) -> Liar {
    Liar::start(Served::default(), move |_, a: &Asked| {
        let to = "/v2/app/blobs/uploads/1";
        match a.method.as_str() {
            "HEAD" => Some(Reply::new(404, "")),
            "POST" => Some(Reply::new(202, "").header("Location", to)),
            "PATCH" => Some(Reply::new(202, "").header("Location", to).header("Range", range)),
            _ => None,
        }
    })
}

#[test]
fn a_registry_that_keeps_nothing_of_what_is_sent_is_left() {
    let (store, _) = with_image();
    for (range, words) in [("0-0", "keeps nothing"), ("0-99999999999", "it has 100000000000 bytes of")] {
        let registry = taking(range);
        let to = format!("docker://{}/app:1", registry.host);
        let out = tool(&store).args(["copy", "-q", "app", &to]).fails(1).complains(words);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{range}: {}", out.stderr);
        let parts = registry.asked().iter().filter(|a| a.method == "PATCH").count();
        assert!(parts < 10, "{range}: {parts}");
    }
}

#[test]
fn a_blob_that_is_shorter_than_promised_is_not_sent_for_ever() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let (store, served) = with_image();
    let digest = served.layer();
    let blob = store.scratch.join("layout/blobs").join(digest.replace(':', "/"));
    let file = std::fs::File::options().write(true).open(&blob).expect("open the blob");
    file.set_len(5 << 20).expect("cut it off");
    let registry = Registry::plain();
    let from = format!("oci:{}", store.scratch.join("layout").display());
    let to = format!("docker://{}", registry.name("app:1"));
    tool(&store).args(["copy", "-q", &from, &to]).fails(1).complains("bytes too early").complains(&digest);
}

#[test]
fn names_that_are_none_and_pages_without_end_are_left() {
    for (name, words) in [
        ("t".repeat(5 << 20), "the answer has more than"),
        ("t".repeat(1000), "a name that is none"),
        ("t".to_owned(), "more than 10000 pages"),
    ] {
        let page = serde_json::json!({"name": "app", "tags": [name]}).to_string();
        let count = AtomicUsize::new(0);
        let registry = Liar::start(Served::default(), move |_, a| {
            let n = count.fetch_add(1, Relaxed);
            let link = format!("</v2/app/tags/list?n=1&last={n}>; rel=\"next\"");
            a.path.contains("list").then(|| Reply::new(200, page.clone()).header("Link", &link))
        });
        let store = Store::new("grinds");
        let out = tool(&store).args(["tags", &format!("{}/app", registry.host)]).fails(1);
        assert!(out.stderr.contains(words) && out.stderr.len() < 500, "{words}: {}", out.stderr);
    }
}

#[test]
fn who_sends_a_byte_now_and_then_is_left() {
    let registry = Liar::start(Served::default(), |_, a| {
        let mut reply = Reply::new(200, "{");
        reply.claims = Some(1 << 20);
        reply.then = Then::Drip;
        (a.path.contains("manifests") || a.path.contains("list")).then_some(reply)
    });
    let store = Store::new("grinds");
    for line in ["pull", "tags"] {
        let name = format!("{}/app", registry.host);
        let out = tool(&store).args([line, &name]).env("CORACLE_HTTP_TIMEOUT", "1").fails(1);
        assert!(out.stderr.contains("next to nothing comes"), "{line}: {}", out.stderr);
    }
}

#[test]
fn a_password_goes_over_plain_http_to_the_registry_alone() {
    // Plain HTTP is allowed for a registry on loopback, and for no other host that it names.
    let registry = Liar::start(Served::default(), |_, a| {
        let challenge = "Bearer realm=\"http://192.0.2.1/token\",service=\"x\"";
        a.path.starts_with("/v2/").then(|| Reply::new(401, "{}").header("WWW-Authenticate", challenge))
    });
    let store = Store::new("grinds");
    let login = tool(&store).args(["login", "-u", "me", "--password-stdin", &registry.host]);
    login.stdin("secret").fails(1).complains("token server that speaks TLS");
}

#[test]
fn logins_at_once_are_all_kept() {
    let registries: Vec<Liar> = (0..6).map(|_| Liar::start(Served::default(), |_, _| None)).collect();
    let store = Store::new("grinds");
    let logins: Vec<_> = registries
        .iter()
        .map(|r| tool(&store).args(["login", "-u", "me", "--password-stdin", &r.host]).stdin("pw").spawn())
        .collect();
    for login in logins {
        login.wait(std::time::Duration::from_secs(60)).expect("it ends").ok();
    }
    let text = std::fs::read_to_string(store.scratch.join("home/.docker/config.json")).expect("read it");
    assert!(registries.iter().all(|r| text.contains(&r.host)), "{text}");
    let colon = tool(&store).args(["login", "-u", "a:b", "--password-stdin", &registries[0].host]);
    colon.stdin("pw").fails(2).complains("has no colon");
}

#[test]
fn a_mirror_that_breaks_off_in_the_middle_is_left_for_the_registry() {
    let (_, served) = with_image();
    let registry = Liar::start(served.clone(), |_, _| None);
    let mirror = Liar::start(served, |s, a| {
        let layer = s.layer();
        a.path.ends_with(&layer).then(|| {
            let from = a.headers.get("range").and_then(|r| r[6..].trim_end_matches('-').parse().ok());
            let rest = &s.blobs[&layer][from.unwrap_or(0)..];
            let status = if from.is_some() { 206 } else { 200 };
            let mut reply = Reply::new(status, &rest[..rest.len().min(1000)]);
            reply.claims = Some(rest.len() as u64);
            let range = format!("bytes {}-{}/*", from.unwrap_or(0), s.blobs[&layer].len() - 1);
            reply.header("Content-Range", &range)
        })
    });
    let store = Store::new("grinds");
    let conf = format!(
        "[[registry]]\nprefix = \"far.example\"\nlocation = \"{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.host, mirror.host
    );
    store.scratch.write("registries.conf", conf);
    tool(&store).args(["pull", "-q", "far.example/app:1"]).ok();
    let layers = |l: &Liar| {
        l.asked().iter().filter(|a| a.path.contains("blobs") && a.headers.contains_key("range")).count()
    };
    assert!(layers(&mirror) > 0, "the mirror was asked to go on");
    assert_eq!(layers(&registry), 1, "the registry gave the rest");
}
