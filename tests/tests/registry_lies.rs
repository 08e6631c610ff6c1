//! A registry that lies: each lie is one clear line of error, in bounded time and memory, and leaves the store as
//! it was.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_tests::liar::{Asked, Liar, Reply, Served, Then};
use coracle_tests::noise::noise;
use coracle_tests::registry::tool;
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image with a layer of two megabytes that do not compress.
fn served() -> Served {
    let store = Store::new("lies");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/noise", noise(1, 2 << 20));
    recipe.write("rootfs.toml", "[[layer]]\ndir = \"tree\"\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    let layout = store.scratch.join("layout");
    tool(&store).args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    Served::from_layout(&layout)
}

fn pull(store: &Store, registry: &Liar) -> Cmd {
    tool(store).args(["pull", &format!("{}/app:1", registry.host)]).env("CORACLE_HTTP_TIMEOUT", "4")
}

/// It fails in one line, and nothing of the image is in the store.
fn refused(name: &str, out: Output, store: &Store, words: &str) {
    assert_eq!(out.code(), 1, "{name}: {}", out.stderr);
    assert_eq!(out.stderr.trim_end().lines().count(), 1, "{name}: {}", out.stderr);
    assert!(out.stderr.contains(words), "{name}: {words:?} is not in {}", out.stderr);
    assert_eq!(tool(store).args(["images", "-q"]).ok().text(), "", "{name}");
}

/// Serve a manifest that was bent.
fn bent(bend: impl FnOnce(&mut serde_json::Value, &mut Served)) -> Served {
    let mut served = served();
    let mut manifest = served.parsed();
    bend(&mut manifest, &mut served);
    served.manifest = served.put(manifest.to_string());
    served
}

#[test]
fn what_the_bytes_of_a_blob_are_is_found_out() {
    type Lie = fn(&Served, &Asked) -> Option<Reply>;
    fn of_layer(served: &Served, asked: &Asked, lie: impl FnOnce(Vec<u8>) -> Reply) -> Option<Reply> {
        let layer = served.layer();
        asked.path.ends_with(&layer).then(|| lie(served.blobs[&layer].clone()))
    }
    let lies: [(&str, &str, Lie); 8] = [
        ("another content", "promised", |s, a| {
            of_layer(s, a, |mut bytes| {
                bytes[1000] ^= 1;
                Reply::new(200, bytes)
            })
        }),
        ("more than was promised", "promised", |s, a| {
            of_layer(s, a, |mut bytes| {
                bytes.push(0);
                Reply::new(200, bytes)
            })
        }),
        ("no end", "promised", |s, a| {
            of_layer(s, a, |b| Reply { then: Then::Zeros, claims: Some(1 << 60), ..Reply::new(200, b) })
        }),
        ("an encoding nobody asked for", "gzip", |s, a| {
            of_layer(s, a, |b| Reply::new(200, b).header("Content-Encoding", "gzip"))
        }),
        ("nothing", "404", |s, a| of_layer(s, a, |_| Reply::new(404, "{}"))),
        ("a redirect to itself", "redirected more than", |s, a| {
            of_layer(s, a, |_| Reply::new(307, "").header("Location", &a.path))
        }),
        ("a redirect to a file", "only http", |s, a| {
            of_layer(s, a, |_| Reply::new(307, "").header("Location", "file:///etc/passwd"))
        }),
        ("a challenge that is none", "no address of a token server", |_, a| {
            (a.path != "/v2/").then(|| Reply::new(401, "{}").header("WWW-Authenticate", "Bearer\"=,,=\"\\"))
        }),
    ];
    let image = served();
    for (name, words, lie) in lies {
        let store = Store::new("lies");
        let registry = Liar::start(image.clone(), lie);
        refused(name, pull(&store, &registry).run(), &store, words);
    }
}

/// Serve the beginning of a layer alone.
fn only_the_beginning(then: Then) {
    let store = Store::new("lies");
    let registry = Liar::start(served(), move |s, a| {
        let layer = s.layer();
        let bytes = &s.blobs[&layer];
        let part = Reply { claims: Some(bytes.len() as u64), then, ..Reply::new(200, &bytes[..1000]) };
        a.path.ends_with(&layer).then_some(part)
    });
    refused("a beginning", pull(&store, &registry).run(), &store, "bytes");
}

#[test]
fn a_body_that_stalls_is_given_up() {
    only_the_beginning(Then::Silence);
}

#[test]
fn a_body_that_breaks_for_ever_is_given_up() {
    only_the_beginning(Then::Next);
}

#[test]
fn a_blob_that_broke_off_goes_on_where_it_did() {
    let image = served();
    let layer = image.layer();
    let times = AtomicUsize::new(0);
    let registry = Liar::start(image, move |s, a| {
        let bytes = &s.blobs[&s.layer()];
        let first = a.path.ends_with(&s.layer()) && times.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| Reply { claims: Some(bytes.len() as u64), ..Reply::new(200, &bytes[..700_000]) })
    });
    let store = Store::new("lies");
    pull(&store, &registry).ok();
    let asked: Vec<Asked> = registry.asked().into_iter().filter(|a| a.path.ends_with(&layer)).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].headers.get("range").map(String::as_str), Some("bytes=700000-"));
}

#[test]
fn what_came_before_the_end_of_a_pull_is_not_fetched_again_by_the_next() {
    let image = served();
    let layer = image.layer();
    let broken = Mutex::new(true);
    let store = Store::new("lies");
    let registry = Liar::start(image, move |s, a| {
        let bytes = &s.blobs[&s.layer()];
        let mut broken = broken.lock().expect("the state");
        if !a.path.ends_with(&s.layer()) || !*broken {
            return None;
        }
        // What follows the break is refused for good, and is there the next time.
        match a.headers.contains_key("range") {
            true => {
                *broken = false;
                Some(Reply::new(404, "{}"))
            }
            false => Some(Reply { claims: Some(bytes.len() as u64), ..Reply::new(200, &bytes[..900_000]) }),
        }
    });
    refused("broken", pull(&store, &registry).run(), &store, "after 900000 of");
    let before = registry.asked().len();
    pull(&store, &registry).ok();
    let asked = registry.asked().split_off(before);
    let of_layer: Vec<&Asked> = asked.iter().filter(|a| a.path.ends_with(&layer)).collect();
    assert_eq!(of_layer.len(), 1);
    let range = of_layer[0].headers.get("range").expect("a range");
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a number");
    // What lay in the last buffer is not.
    assert!((600_000..=900_000).contains(&from), "{range}");
}

#[test]
fn an_error_that_passes_is_waited_for() {
    let image = served();
    let times = AtomicUsize::new(0);
    let registry = Liar::start(image, move |_, a| match times.fetch_add(1, Ordering::Relaxed) {
        _ if a.path == "/v2/" => None,
        n if n % 3 == 1 => Some(Reply::new(429, "{}").header("Retry-After", "0")),
        n if n % 3 == 2 => Some(Reply::new(503, "{}").header("Retry-After", "0")),
        _ => None,
    });
    pull(&Store::new("lies"), &registry).ok();
    let always = Liar::start(served(), |_, a| {
        (a.path != "/v2/").then(|| {
            Reply::new(500, r#"{"errors":[{"code":"X","message":"on fire"}]}"#).header("Retry-After", "0")
        })
    });
    let store = Store::new("lies");
    refused("500", pull(&store, &always).run(), &store, "500: on fire (X)");
}

#[test]
fn manifests_that_are_none_are_refused() {
    let many = bent(|m, _| {
        let layer = m["layers"][0].clone();
        m["layers"] = std::iter::repeat_n(layer, 10_000).collect();
    });
    let size = bent(|m, _| m["layers"][0]["size"] = 5.into());
    let huge = bent(|m, _| m["layers"][0]["size"] = (1u64 << 62).into());
    let negative = bent(|m, _| m["layers"][0]["size"] = (-1).into());
    let digest = bent(|m, _| m["layers"][0]["digest"] = "sha256:../../../etc/passwd".into());
    let sha512 = bent(|m, _| m["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into());
    let kind = bent(|m, _| m["layers"][0]["mediaType"] = "application/x-evil".into());
    let zstd =
        bent(|m, _| m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into());
    let artifact = bent(|m, _| m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into());
    let big_config = bent(|m, _| m["config"]["size"] = (1u64 << 40).into());
    let both = bent(|m, _| m["manifests"] = serde_json::json!([]));
    let other = bent(|m, _| m["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into());
    let config = |f: fn(&mut serde_json::Value)| {
        bent(|m, s| {
            let old = m["config"]["digest"].as_str().expect("a digest").to_owned();
            let mut config: serde_json::Value = serde_json::from_slice(&s.blobs[&old]).expect("a config");
            f(&mut config);
            let text = config.to_string();
            m["config"]["size"] = text.len().into();
            m["config"]["digest"] = s.put(text).into();
        })
    };
    let fewer = config(|c| c["rootfs"]["diff_ids"] = serde_json::json!([]));
    let wrong = config(|c| c["rootfs"]["diff_ids"][0] = format!("sha256:{}", "0".repeat(64)).into());
    for (name, served, words) in [
        ("10,000 layers", many, "10000 layers"),
        ("a smaller size", size, "5 bytes were promised"),
        ("2^62 bytes", huge, "the disk of"),
        ("a negative size", negative, "read the manifest"),
        ("a digest that is a path", digest, "64 hex digits"),
        ("sha512", sha512, "only sha256"),
        ("an unknown layer", kind, "application/x-evil"),
        ("a layer of another kind", zstd, "its content is"),
        ("an artifact", artifact, "it is no image"),
        ("a config of a terabyte", big_config, "too many"),
        ("a manifest that is an index", both, "index as well"),
        ("another kind than is said", other, "calls itself"),
        ("fewer diff ids", fewer, "diff ids"),
        ("another diff id", wrong, "the config says"),
    ] {
        let store = Store::new("lies");
        let said = name == "another kind than is said";
        let registry = Liar::start(served, move |s, a| {
            let tag = said && a.path.ends_with("/manifests/1");
            tag.then(|| Reply::new(200, s.blobs[&s.manifest].clone()).header("Content-Type", MANIFEST))
        });
        refused(name, pull(&store, &registry).run(), &store, words);
    }
}

#[test]
fn an_index_that_leads_nowhere_ends() {
    let host = coracle_tests::binaries::go_architecture();
    let entry = |digest: &str, size: usize| {
        serde_json::json!({"mediaType": INDEX, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": host}})
    };
    let index = |child: serde_json::Value| {
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).to_string()
    };
    // A hundred, one in the other.
    let mut nested = served();
    let kind = MANIFEST;
    let mut child = serde_json::json!({"mediaType": kind, "digest": nested.manifest,
        "size": nested.blobs[&nested.manifest].len(), "platform": {"os": "linux", "architecture": host}});
    for _ in 0..100 {
        let text = index(child);
        let digest = nested.put(text.clone());
        child = entry(&digest, text.len());
        nested.manifest = digest;
    }
    // One that names its own tag's digest cannot be made; one that names a digest whose content it is not can.
    let mut itself = served();
    let claimed = format!("sha256:{}", "1".repeat(64));
    let text = index(entry(&claimed, 100));
    itself.manifest = itself.put(text.clone());
    itself.blobs.insert(claimed, text.into_bytes());
    let mut old = served();
    old.manifest = old.put(r#"{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}"#);
    let mut large = served();
    large.manifest = large.put(vec![b' '; 8 << 20]);
    for (name, served, words) in [
        ("nested", nested, "nested too deeply"),
        ("itself", itself, "promised"),
        ("schema 1", old, "schema 1"),
        ("8 MiB of manifest", large, "more than"),
    ] {
        let store = Store::new("lies");
        let registry = Liar::start(served, |_, _| None);
        refused(name, pull(&store, &registry).run(), &store, words);
    }
}

#[test]
fn bombs_are_held_in_little_memory_and_refused() {
    if !need(Privilege::Peer("zstd")) {
        return;
    }
    // 20 GiB of zeros behind a header that claims them.
    let make = "python3 -c \"import tarfile,sys;h=tarfile.TarInfo('zeros');h.size=20<<30;sys.stdout.buffer.write(h.tobuf())\"";
    let scratch = Scratch::new("bomb");
    let line = format!("( {make}; head -c 20G /dev/zero; head -c 1024 /dev/zero ) | zstd -q -3 -o bomb.zst");
    Cmd::new("sh").args(["-c", &line]).dir(scratch.path()).ok();
    let bomb = std::fs::read(scratch.join("bomb.zst")).expect("the bomb");
    let served = bent(|m, s| {
        m["layers"][0]["size"] = bomb.len().into();
        m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
        m["layers"][0]["digest"] = s.put(bomb).into();
    });
    let registry = Liar::start(served, |_, _| None);
    let store = Store::new("lies");
    let name = format!("{}/app:1", registry.host);
    let out = tool(&store).args(["pull", &name]).run();
    refused("bomb", out, &store, "larger than");
}

#[test]
fn lists_that_never_end_are_left() {
    let image = served();
    let page = |first: usize| -> String {
        let names: Vec<String> = (0..1000).map(|n| format!("t{}", first + n)).collect();
        serde_json::json!({"name": "app", "tags": names, "repositories": names}).to_string()
    };
    let circle = Liar::start(image.clone(), move |_, a| {
        a.path
            .contains("list")
            .then(|| Reply::new(200, page(0)).header("Link", "</v2/app/tags/list?n=1000>; rel=\"next\""))
    });
    let store = Store::new("lies");
    tool(&store).args(["tags", &format!("{}/app", circle.host)]).fails(1).complains("round in a circle");
    let elsewhere = Liar::start(image.clone(), move |_, a| {
        a.path
            .contains("list")
            .then(|| Reply::new(200, page(0)).header("Link", "<http://other.example/x>; rel=\"next\""))
    });
    tool(&store).args(["tags", &format!("{}/app", elsewhere.host)]).fails(1).complains("another host");
    let count = AtomicUsize::new(0);
    let endless = Liar::start(image, move |_, a| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        a.path.contains("_catalog").then(|| {
            Reply::new(200, page(n * 1000))
                .header("Link", &format!("</v2/_catalog?n=1000&last={n}>; rel=\"next\""))
        })
    });
    tool(&store).args(["catalog", &endless.host]).fails(1).complains("more than 1000000");
}
