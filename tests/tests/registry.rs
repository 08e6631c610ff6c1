//! Registries, typed as docker's users type them: docker-registry on loopback, and the peers that read what we
//! write and write what we read.

use std::fs;

use coracle_tests::liar::{Liar, Reply, Served};
use coracle_tests::noise::noise;
use coracle_tests::registry::{LOGIN, Registry, apart, tool};
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// A store with an image of two layers, one of them of three megabytes that do not compress.
fn with_image(name: &str) -> Store {
    let store = Store::new("registry");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/opt/noise", noise(1, 3 << 20));
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nfile = { \"etc/x\" = \"1\" }\n[[layer]]\ndir = \"tree\"\n[config]\ncmd = [\"/x\"]\n",
    );
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", name, "-q"]).ok();
    store
}

/// A registry, a store with the image `app`, and the name for that in the registry, which it has here already.
fn with_registry() -> Option<(Registry, Store, String)> {
    if !need(Privilege::Peer("docker-registry")) {
        return None;
    }
    let registry = Registry::plain();
    let store = with_image("app");
    let name = registry.name("team/app:1");
    tool(&store).args(["tag", "app", &name]).ok();
    Some((registry, store, name))
}

fn digest_of(text: &str) -> String {
    let found = text.split_whitespace().find(|w| w.starts_with("sha256:"));
    found.unwrap_or_else(|| panic!("no digest in {text:?}")).to_owned()
}

#[test]
fn what_is_pushed_is_listed_searched_and_pulled_again_with_the_same_digest() {
    let Some((registry, store, name)) = with_registry() else { return };
    let pushed =
        tool(&store).args(["push", &name]).ok().prints("The push refers to repository").prints("Pushed");
    let digest = digest_of(&pushed.stdout);
    tool(&store).args(["push", &name]).ok().prints("Layer already exists").prints(&digest);
    let uploads = registry.log().matches("POST /v2/").count();
    assert!(uploads > 0 && uploads <= 4 * 3, "what is there is not sent again: {uploads}");

    tool(&store).args(["tags", &registry.name("team/app")]).ok().prints("1");
    tool(&store).args(["catalog", &registry.host]).ok().prints("team/app");
    tool(&store).args(["catalog", &format!("http://{}/", registry.host)]).ok().prints("team/app");
    tool(&store).args(["search", &registry.host]).ok().prints(&registry.name("team/app"));
    let term = registry.name("ap");
    let found =
        tool(&store).args(["search", &term]).ok().prints("NAME").prints("DESCRIPTION").prints("STARS");
    found.prints(&registry.name("team/app"));
    assert_eq!(
        tool(&store).args(["search", "--format", "{{.Name}}", &term]).ok().text(),
        registry.name("team/app")
    );
    assert_eq!(tool(&store).args(["search", "--filter", "stars=3", "--json", &term]).ok().text(), "[]");

    let other = Store::new("registry");
    let pulled = tool(&other).args(["pull", &name]).ok().prints("1: Pulling from").prints("Pull complete");
    let pulled =
        pulled.prints(&format!("Digest: {digest}")).prints(&format!("Downloaded newer image for {name}"));
    assert!(pulled.stdout.trim_end().ends_with(&name), "{}", pulled.stdout);
    tool(&other).args(["pull", &name]).ok().prints("Already exists").prints("Image is up to date for");
    // There is no choice of machines: what comes is told, and does not run as another.
    let mismatch = "does not match the specified platform: wanted linux/s390x, actual: linux/";
    tool(&other).args(["pull", "--platform", "linux/s390x", &name]).ok().complains(mismatch);
    let run = ["run", "--rm", "--pull", "never", "--platform", "linux/s390x", &name, "true"];
    other.runner().args(run).fails(125).complains(mismatch);
    let by_digest = format!("{}@{digest}", registry.name("team/app"));
    assert_eq!(tool(&other).args(["pull", "-q", &by_digest]).ok().text(), by_digest);
    assert_eq!(store.image_id(&name), other.image_id(&name));
    assert_eq!(other.image_id(&by_digest), other.image_id(&name));
    tool(&other).args(["images"]).ok().prints(&registry.name("team/app")).prints("<none>");
    tool(&other).args(["rmi", &name]).ok().prints("Untagged");

    tool(&store).args(["delete", &name]).ok().prints("Deleted");
    tool(&other).args(["pull", &name]).fails(1).complains("404").complains("team/app");
    tool(&other).args(["pull", &registry.name("team/none")]).fails(1).complains("manifest");
}

/// The media types of a layout's entries.
fn kinds(layout: &std::path::Path) -> Vec<String> {
    let bytes = fs::read(layout.join("index.json")).expect("the index");
    let index: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let kind = |d: &serde_json::Value| d["mediaType"].as_str().expect("a type").to_owned();
    index["manifests"].as_array().expect("entries").iter().map(kind).collect()
}

#[test]
fn what_docker_pushed_becomes_a_layout_that_other_tools_read() {
    if !need(Privilege::Peer("skopeo")) {
        return;
    }
    let Some((registry, store, name)) = with_registry() else { return };
    tool(&store).args(["push", "-q", &name]).ok();
    let docker = registry.name("team/docker:1");
    let line = "copy --insecure-policy -q --src-tls-verify=false --dest-tls-verify=false --format v2s2";
    let (from, to) = (format!("docker://{name}"), format!("docker://{docker}"));
    let auth = store.scratch.write("auth.json", "{}");
    Cmd::new("skopeo").env("REGISTRY_AUTH_FILE", &auth).words(line).args([&from, &to]).ok();
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    // Into a layout, and as it is where its digest is asked for.
    let layout = store.scratch.join("layout");
    let into = |name: &str| format!("oci:{}:{name}", layout.display());
    tool(&store).args(["copy", "-q", &to, &into("web")]).ok();
    assert_eq!(kinds(&layout), [OCI]);
    Cmd::new("skopeo").args(["inspect", &into("web")]).ok().prints("\"Layers\"");
    tool(&store).args(["copy", "-q", "--preserve-digests", &to, &into("same")]).ok();
    assert!(kinds(&layout)[1].contains("docker"), "{:?}", kinds(&layout));
    if need(Privilege::Peer("umoci")) {
        Cmd::new("umoci")
            .args(["stat", "--image", &format!("{}:web", layout.display())])
            .ok()
            .prints("LAYER");
    }

    // Into a store, which knows it by the registry's digest.
    let other = Store::new("registry");
    let digest = digest_of(&tool(&other).args(["pull", &docker]).ok().stdout);
    assert_eq!(kinds(&other.path()), [OCI]);
    let field = |text: &str| tool(&other).args(["inspect", "-f", text, &docker]).ok().text().to_owned();
    let by_digest = format!("{}@{digest}", registry.name("team/docker"));
    assert_eq!(field("{{join .RepoDigests \",\"}}"), by_digest);
    assert_eq!(other.image_id(&by_digest), other.image_id(&docker));
    tool(&other).args(["pull", &docker]).ok().prints("Image is up to date");
    tool(&other).args(["pull", "-q", &by_digest]).ok();
    assert_eq!(kinds(&other.path()), [OCI, OCI]);
    Cmd::new("skopeo").args(["inspect", &format!("oci:{}:{docker}", other.path().display())]).ok();
    let archive = other.scratch.join("a.tar");
    tool(&other).args(["save", "--format", "oci-archive", &docker, "-o"]).arg(&archive).ok();
    Cmd::new("skopeo").args(["inspect", &format!("oci-archive:{}", archive.display())]).ok();
    tool(&other).arg("verify").ok();
}

#[test]
fn an_image_of_a_registry_is_looked_at_without_a_pull_and_by_a_login_that_is_typed() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let registry = Registry::with_password();
    let store = with_image("app");
    let name = registry.name("team/app:1");
    tool(&store).args(["tag", "app", &name]).ok();
    let creds = format!("{}:{}", LOGIN.0, LOGIN.1);
    tool(&store).args(["push", &name]).fails(1).complains("log in first: rootfs-tool login ");
    let pushed = tool(&store).args(["push", "--creds", &creds, &name]).ok().stdout;
    let other = Store::new("registry");
    let remote = format!("docker://{name}");
    let inspect = |words: &[&str]| {
        let cmd = tool(&other).args(["inspect", "--creds", &creds, &remote]).args(words);
        cmd.ok().text().to_owned()
    };
    assert_eq!(inspect(&["-f", "{{.Digest}}"]), digest_of(&pushed));
    assert_eq!(inspect(&["-f", "{{.Id}}"]), store.image_id("app"));
    assert_eq!(inspect(&["-f", "{{.Config.Cmd}}"]), "[/x]");
    assert!(inspect(&["--raw"]).contains("\"schemaVersion\":2"));
    assert_eq!(tool(&other).args(["images", "-q"]).ok().text(), "");
    tool(&other).args(["inspect", &remote]).fails(1).complains("log in first");
    let layout = format!("oci:{}:a", other.scratch.join("layout").display());
    tool(&other).args(["copy", "-q", "--src-creds", &creds, "--src-tls-verify=false", &remote, &layout]).ok();
    tool(&other).args(["copy", "-q", "--dest-creds", &creds, &layout, &format!("{remote}2")]).ok();
    tool(&other).args(["pull", "-q", "--creds", &creds, "--disable-content-trust", &name]).ok();
}

#[test]
fn history_tells_the_files_of_a_layer_however_the_image_came() {
    let Some((_registry, store, name)) = with_registry() else { return };
    tool(&store).args(["push", "-q", &name]).ok();
    let other = Store::new("registry");
    tool(&other).args(["pull", "-q", &name]).ok();
    let history = |store: &Store, name: &str| {
        let format = "{{.ID}} {{.Layer}} {{.Bytes}} {{.CreatedBy}}";
        tool(store).args(["history", "--format", format, name]).ok().text().to_owned()
    };
    let made = history(&store, "app");
    assert_eq!(history(&other, &name), made, "pulled and compressed as it was made");
    let ids = tool(&store).args(["inspect", "-f", "{{.Id}} {{json .RootFS.Layers}}", "app"]).ok();
    let lines: Vec<Vec<&str>> = made.lines().map(|l| l.split(' ').collect()).collect();
    assert_eq!((lines[0][2], lines[1][0], lines[1][2]), ("3145728", "<missing>", "1"), "{made}");
    for id in [lines[0][0], lines[0][1], lines[1][1]] {
        assert!(id.len() == 12 && ids.text().contains(id), "{id} of {}", ids.text());
    }
}

#[test]
fn an_image_that_was_pushed_and_pulled_back_is_one_image_with_two_names() {
    let Some((registry, store, name)) = with_registry() else { return };
    let pushed = tool(&store).args(["push", &name]).ok().stdout;
    // The registry has it compressed: it is the same image all the same.
    tool(&store).args(["pull", &name]).ok().prints("Image is up to date");
    let digests = tool(&store).args(["inspect", "-f", "{{join .RepoDigests \",\"}}", &name]).ok();
    assert_eq!(digests.text(), format!("{}@{}", registry.name("team/app"), digest_of(&pushed)));
    let table = tool(&store).args(["images", "--digests", "app"]).ok();
    table.prints("DIGEST").prints("<none>");
    tool(&store).args(["rmi", &name]).ok();
    tool(&store).args(["pull", &name]).ok().prints("Downloaded newer image");
    let id = store.image_id("app");
    assert_eq!(store.image_id(&name), id);
    // By its id: the same image, whichever of its manifests it is found under.
    assert_eq!(store.image_id(&id), id);
    tool(&store).args(["rmi", &id]).fails(1).complains("must be forced").complains(&name);
    // Its files are shared, and only its blobs are twice here.
    let own = |row: &serde_json::Value| row["OwnBytes"].as_u64();
    let rows = tool(&store).args(["images", "--json"]).ok().json();
    assert_eq!(rows.as_array().expect("rows").iter().map(own).collect::<Vec<_>>(), [Some(0), Some(0)]);
    let used = tool(&store).args(["du", "--json", &name]).ok().json();
    assert!(
        used[0]["Shared"].as_u64() >= Some(3 << 20) && used[0]["Unique"].as_u64() < Some(4 << 20),
        "{used}"
    );

    // A name with a digest is that entry, and the tag beside it stays.
    let by_digest = format!("{}@{}", registry.name("team/app"), digest_of(&pushed));
    tool(&store).args(["pull", &by_digest]).ok();
    tool(&store).args(["rmi", &by_digest]).ok().prints(&format!("Untagged: {by_digest}"));
    assert_eq!(store.image_id(&name), id);

    tool(&store).args(["rmi", "-f", &id]).ok().prints("Untagged: localhost/app:latest").prints(&name);
    assert_eq!(tool(&store).args(["images", "-q"]).ok().text(), "");
}

#[test]
fn a_container_of_an_image_that_is_not_here_pulls_it_first() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Containers)) {
        return;
    }
    let registry = Registry::plain();
    let store = Store::new("registry");
    let Some(rootfs) = coracle_tests::rootfs::Image::busybox() else { return };
    rootfs.compose(&store, "box");
    let name = registry.name("box:1");
    tool(&store).args(["copy", "-q", "box", &format!("docker://{name}")]).ok();
    let other = Store::new("registry");
    let run = |words: &str| {
        apart(&other, other.runner().words("run --rm").words(words).args([&name, "echo", "ran"]))
    };
    run("--pull never").fails(125).complains("no such image");
    let out = run("").ok().complains("Unable to find image").complains("Pull complete");
    assert_eq!(out.text(), "ran", "standard output is the container's");
    let again = run("").ok();
    assert!(!again.stderr.contains("Pull"), "{}", again.stderr);
    run("--pull always").ok().complains("Image is up to date");
    run("--pull sometimes").fails(125).complains("always, missing and never");
}

#[test]
fn a_password_is_kept_where_docker_keeps_it_and_forgotten_again() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let registry = Registry::with_password();
    let store = with_image("app");
    let name = registry.name("app:1");
    tool(&store).args(["tag", "app", &name]).ok();
    let refused = tool(&store).args(["push", &name]).fails(1).complains("401");
    drop(refused.complains(&format!("rootfs-tool login {}", registry.host)));
    let login = |password: &str| {
        tool(&store).args(["login", "-u", LOGIN.0, "--password-stdin", &registry.host]).stdin(password)
    };
    login("wrong").fails(1).complains("does not let us in");
    login(LOGIN.1).ok().prints("Login Succeeded").complains("unencrypted");
    let config = store.scratch.join("home/.docker/config.json");
    let text = fs::read_to_string(&config).expect("docker's config.json");
    assert!(text.contains(&registry.host) && text.contains("dGVzdGVyOnNlY3JldA=="), "{text}");
    tool(&store).args(["push", "-q", &name]).ok();
    let other = Store::new("registry");
    tool(&other).args(["pull", "-q", &name]).fails(1).complains("401");
    let with = |cmd: Cmd| cmd.env("DOCKER_CONFIG", store.scratch.join("home/.docker"));
    with(tool(&other).args(["pull", "-q", &name])).ok();

    // A credential helper has it instead.
    let helper = store.scratch.write(
        "bin/docker-credential-fake",
        "#!/bin/sh\nread -r key\necho \"$1 $key\" >> \"$0.log\"\n\
         [ \"$1\" = get ] && echo '{\"ServerURL\":\"x\",\"Username\":\"tester\",\"Secret\":\"secret\"}'\nexit 0\n",
    );
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("chmod");
    let docker = store.scratch.mkdir("helped");
    fs::write(docker.join("config.json"), format!("{{\"credHelpers\":{{\"{}\":\"fake\"}}}}", registry.host))
        .expect("write config.json");
    let path =
        format!("{}:{}", helper.parent().expect("a folder").display(), std::env::var("PATH").expect("PATH"));
    let third = Store::new("registry");
    tool(&third).args(["pull", "-q", &name]).env("DOCKER_CONFIG", &docker).env("PATH", path).ok();
    let asked = fs::read_to_string(helper.with_extension("log")).expect("the helper's log");
    assert!(asked.contains(&format!("get {}", registry.host)), "{asked}");

    tool(&store).args(["logout", &registry.host]).ok().prints("Removing login credentials");
    tool(&store).args(["logout", &registry.host]).ok().prints("Not logged in");
    assert!(!fs::read_to_string(&config).expect("config.json").contains("dGVz"));
    tool(&store).args(["pull", "-q", &name]).fails(1).complains("401");
}

#[test]
fn tls_is_checked_with_the_authority_and_the_client_certificate_of_certs_d() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Peer("openssl"))) {
        return;
    }
    for wants_client in [false, true] {
        let registry = Registry::tls(wants_client);
        let store = with_image("app");
        let port = registry.host.rsplit(':').next().expect("a port");
        // A name that is no loopback address would need no flag; this one is not to fall back to plain HTTP.
        let name = format!("127.0.0.1:{port}/app:1");
        tool(&store).args(["tag", "app", &name]).ok();
        tool(&store).args(["push", "-q", "--tls-verify=true", &name]).fails(1).complains("ertificate");
        let certs = format!("home/.config/docker/certs.d/{}", registry.host);
        let copy = |from: &str, to: &str| {
            let bytes = fs::read(registry.scratch.join(from)).expect("a certificate");
            store.scratch.write(format!("{certs}/{to}"), bytes);
        };
        copy("ca.crt", "ca.crt");
        if wants_client {
            tool(&store).args(["push", "-q", "--tls-verify=true", &name]).fails(1);
            copy("client.cert", "client.cert");
            copy("client.key", "client.key");
        }
        tool(&store).args(["push", "-q", "--tls-verify=true", &name]).ok();
        let other = Store::new("registry");
        if !wants_client {
            tool(&other).args(["pull", "-q", "--tls-verify=true", &name]).fails(1);
            tool(&other).args(["pull", "-q", "--tls-verify=false", &name]).ok();
        }
    }
}

#[test]
fn a_token_is_fetched_for_what_is_asked_and_stays_with_the_registry() {
    let store = with_image("app");
    let layout = store.scratch.join("layout");
    tool(&store).args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    let served = Served::from_layout(&layout);
    let layer = served.layer();
    // The blobs are elsewhere, as with most large registries.
    let blobs = Liar::start(served.clone(), |_, _| None);
    let elsewhere = blobs.host.clone();
    let registry = Liar::start(served, move |_, asked| {
        let own = asked.headers.get("host").cloned().unwrap_or_default();
        if asked.path.starts_with("/token") {
            let scoped = asked.path.contains("scope=repository:team/app:pull");
            return Some(Reply::new(
                if scoped { 200 } else { 400 },
                r#"{"token":"very-secret","expires_in":60}"#,
            ));
        }
        if asked.headers.get("authorization").map(String::as_str) != Some("Bearer very-secret") {
            let wants = format!("Bearer realm=\"http://{own}/token\",service=\"tests\"");
            return Some(Reply::new(401, "{}").header("WWW-Authenticate", &wants));
        }
        asked
            .path
            .ends_with(&layer)
            .then(|| Reply::new(307, "").header("Location", &format!("http://{elsewhere}{}", asked.path)))
    });
    tool(&Store::new("registry")).args(["pull", "-q", &format!("{}/team/app:1", registry.host)]).ok();
    let tokens = registry.asked().iter().filter(|a| a.path.starts_with("/token")).count();
    assert_eq!(tokens, 1, "one token does for all of a repository");
    let sent = blobs.asked();
    assert!(!sent.is_empty(), "the redirect was followed");
    assert!(sent.iter().all(|a| !a.headers.contains_key("authorization")), "the token has not travelled");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_has_what_it_lacks() {
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let (registry, mirror) = (Registry::plain(), Registry::plain());
    let store = with_image("app");
    tool(&store).args(["copy", "-q", "app", &format!("docker://{}", registry.name("app:1"))]).ok();
    tool(&store).args(["copy", "-q", "app", &format!("docker://{}", registry.name("app:2"))]).ok();
    tool(&store).args(["copy", "-q", "app", &format!("docker://{}", mirror.name("near/app:1"))]).ok();
    let other = Store::new("registry");
    let conf = format!(
        "[[registry]]\nprefix = \"far.example\"\nlocation = \"{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}/near\"\ninsecure = true\n\
         [[registry]]\nlocation = \"bad.example\"\nblocked = true\n",
        registry.host, mirror.host
    );
    other.scratch.write("registries.conf", conf);
    tool(&other).args(["pull", "-q", "far.example/app:1"]).ok();
    assert!(!registry.log().contains("GET /v2/app/blobs"), "the mirror had all of it");
    tool(&other).args(["pull", "-q", "far.example/app:2"]).ok();
    assert!(registry.log().contains("/v2/app/manifests/2"));
    tool(&other).args(["images"]).ok().prints("far.example/app");
    tool(&other).args(["pull", "bad.example/app"]).fails(1).complains("blocks it");
    other.scratch.write("registries.conf", "[[registry]\n");
    tool(&other).args(["pull", "far.example/app:1"]).fails(1).complains("registries.conf");
}

#[test]
fn peers_read_what_we_push_and_we_pull_what_they_push() {
    if !(need(Privilege::Peer("docker-registry")) && need(Privilege::Peer("skopeo"))) {
        return;
    }
    let registry = Registry::plain();
    let store = with_image("app");
    let name = |tag: &str| registry.name(&format!("app:{tag}"));
    for how in ["gzip", "zstd"] {
        tool(&store).args(["tag", "app", &name(how)]).ok();
        tool(&store).args(["push", "-q", "--compression", how, &name(how)]).ok();
        let out = store.scratch.join(how);
        let line = "copy --insecure-policy --src-tls-verify=false";
        let auth = store.scratch.write("auth.json", "{}");
        let skopeo = Cmd::new("skopeo").env("REGISTRY_AUTH_FILE", &auth);
        let skopeo = skopeo.words(line).arg(format!("docker://{}", name(how)));
        skopeo.arg(format!("oci:{}:x", out.display())).ok();
        // And back again by skopeo, under another name.
        let back = Cmd::new("skopeo")
            .env("REGISTRY_AUTH_FILE", &auth)
            .words("copy --insecure-policy --dest-tls-verify=false");
        let to = format!("docker://{}", name(&format!("{how}-back")));
        back.arg(format!("oci:{}:x", out.display())).arg(to).ok();
        let other = Store::new("registry");
        tool(&other).args(["pull", "-q", &name(&format!("{how}-back"))]).ok();
        assert_eq!(other.image_id(&name(&format!("{how}-back"))), store.image_id("app"));
    }
}

#[test]
fn of_an_image_for_several_machines_the_one_that_is_wanted_comes() {
    let store = with_image("app");
    let layout = store.scratch.join("layout");
    tool(&store).args(["copy", "-q", "app", &format!("oci:{}", layout.display())]).ok();
    let mut served = Served::from_layout(&layout);
    let amd64 = served.manifest.clone();
    // The same layers, said to be for another machine.
    let mut manifest = served.parsed();
    let config = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let mut config: serde_json::Value = serde_json::from_slice(&served.blobs[&config]).expect("a config");
    config["architecture"] = "s390x".into();
    let config = serde_json::to_vec(&config).expect("a config");
    manifest["config"]["size"] = config.len().into();
    manifest["config"]["digest"] = served.put(config).into();
    let other = served.put(serde_json::to_vec(&manifest).expect("a manifest"));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let host = coracle_tests::binaries::go_architecture();
    let entry = |digest: &str, architecture: &str, size: usize| {
        serde_json::json!({"mediaType": kind, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let (a, b) = (served.blobs[&amd64].len(), served.blobs[&other].len());
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&amd64, host, a), entry(&other, "s390x", b)]});
    served.manifest = served.put(index.to_string());
    let digest = served.manifest.clone();
    let registry = Liar::start(served, |_, _| None);
    let name = format!("{}/app:1", registry.host);
    let pull = |store: &Store, words: &str| tool(store).arg("pull").words(words).arg(&name);
    let store = Store::new("registry");
    pull(&store, "").ok().prints(&format!("Digest: {digest}"));
    let of = |store: &Store| {
        tool(store).args(["inspect", "-f", "{{.Architecture}}", &name]).ok().text().to_owned()
    };
    assert_eq!(of(&store), host);
    pull(&store, "--platform linux/s390x").ok();
    assert_eq!(of(&store), "s390x");
    pull(&store, "--platform linux/riscv64").fails(1).complains("linux/riscv64").complains("linux/s390x");
    pull(&store, "--platform linux/").fails(2).complains("OS/ARCHITECTURE");
    let folder = store.scratch.join("all");
    tool(&store)
        .args(["copy", "-q", "--all", &format!("docker://{name}"), &format!("oci:{}", folder.display())])
        .ok();
    let blobs = fs::read_dir(folder.join("blobs/sha256")).expect("list").count();
    assert_eq!(blobs, 1 + 2 + 2 + 2, "the index, two manifests, two configs, two layers");
}

#[test]
fn the_search_of_docker_s_registries_is_read_and_filtered() {
    let registry = Liar::start(Served::default(), |_, asked| {
        let query = asked.path.strip_prefix("/v1/search?")?;
        assert!(query.contains("q=deb%20x") && query.contains("n=7"), "{query}");
        Some(Reply::new(
            200,
            r#"{"results":[
            {"name":"deb","description":"one\ntwo \u001b[31m","star_count":9,"is_official":true},
            {"name":"me/deb","description":"0123456789012345678901234567890123456789012345678901234567890","star_count":2}]}"#,
        ))
    });
    let store = Store::new("registry");
    let search = |words: &str| {
        tool(&store).args(["search", "--limit", "7"]).words(words).arg(format!("{}/deb x", registry.host))
    };
    let all = search("")
        .ok()
        .prints("STARS")
        .prints("[OK]")
        .prints("one two")
        .prints("01234567890123456789012345678901234567890123…");
    assert!(!all.stdout.contains('\u{1b}'), "{}", all.stdout);
    assert_eq!(search("--format {{.Name}} -f stars=3").ok().text(), format!("{}/deb", registry.host));
    assert_eq!(
        search("--format {{.Name}} -f is-official=false").ok().text(),
        format!("{}/me/deb", registry.host)
    );
    search("-f colour=red").fails(2).complains("stars=N");
}
