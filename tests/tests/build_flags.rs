//! Flags of docker's `build` that say something about the image or about each RUN, and those that are refused by name.

use coracle_tests::rootfs::Image;
use coracle_tests::{Output, Privilege, Store, need, registry};

struct Site {
    store: Store,
    _image: Image,
}

impl Site {
    fn new(name: &str) -> Option<Self> {
        if !need(Privilege::Root) || !need(Privilege::Peer("busybox")) {
            return None;
        }
        let store = Store::new(name);
        let image = Image::busybox()?.compose(&store, "box");
        store.scratch.write("c/Dockerfile", "FROM box\nCOPY Dockerfile /x\n");
        Some(Self { store, _image: image })
    }

    #[track_caller]
    fn build(&self, words: &str) -> Output {
        self.store.rootfs_tool().words("build").words(words).arg(self.store.scratch.join("c")).run()
    }
}

#[test]
fn what_docker_has_and_we_have_not_is_refused_by_its_name() {
    let Some(site) = Site::new("build-refused") else { return };
    for (words, why) in [
        ("--provenance=true", "--provenance: no attestation"),
        ("--provenance mode=max", "--provenance: no attestation"),
        ("--sbom=true", "--sbom: no attestation"),
        ("--attest type=sbom", "--attest: no attestation"),
        ("--build-context a=.", "--build-context: there is the one context"),
        ("--cache-to type=inline", "--cache-to: the store keeps the cache"),
        ("--cgroup-parent x", "--cgroup-parent: groups are made"),
        ("--squash", "--squash: it would share no layer"),
        ("--builder x", "--builder: there is no daemon"),
        ("--allow device", "--allow device: there are"),
        ("--isolation hyperv", "--isolation hyperv: on Linux"),
        ("--annotation index:a=b", "an image of one platform has no index"),
        ("--annotation a", "it is NAME=VALUE"),
        ("--push", "--push: it takes a name"),
        ("--push -t a -o out", "--push: it does not go with --output"),
        ("--load -o out", "--load: it does not go with --output"),
    ] {
        site.build(words).fails(2).complains(why);
    }
    assert!(site.store.rootfs_tool().arg("images").ok().stdout.lines().count() == 2, "nothing was built");
    let anyhow = "--provenance=false --sbom=false --attest type=sbom,disabled=true --rm --force-rm --load \
        --allow network.host,security.insecure --isolation default -t anyhow";
    site.build(anyhow).ok();
    site.store
        .scratch
        .write("r/rootfs.toml", "name = \"r\"\n[[layer]]\nfile = [{ to = \"/x\", content = \"\" }]\n");
    let recipe = site.store.rootfs_tool().words("build --check -t r").arg(site.store.scratch.join("r"));
    recipe.fails(2).complains("--check goes with Dockerfiles");
}

#[test]
fn notes_limits_and_the_way_to_a_registry_are_what_was_asked_for() {
    let Some(site) = Site::new("build-asked") else { return };
    site.build("-t app --annotation a.b=1=2 --annotation manifest:c=d").ok();
    let raw = blob_of(&site.store, "app");
    assert!(raw.contains("\"a.b\":\"1=2\"") && raw.contains("\"c\":\"d\""), "{raw}");
    // Looked at and not built.
    site.build("--check -t checked").ok().prints("Check complete, no warnings found.");
    site.store.scratch.write("c/Dockerfile", "FROM box\nMAINTAINER x\nCMD a\n");
    site.build("--check -t checked")
        .fails(1)
        .complains("warnings found: 2")
        .complains("MaintainerDeprecated");
    assert!(!site.store.rootfs_tool().arg("images").ok().stdout.contains("checked"));
    let large = "FROM box\nRUN dd if=/dev/zero of=/dev/null bs=128M count=1\nRUN grep Cpus_allowed_list /proc/self/status\n";
    site.store.scratch.write("c/Dockerfile", large);
    let free = site.build("-t app --cpuset-cpus 0").ok();
    assert!(free.stderr.contains("Cpus_allowed_list: 0\n"), "{free}");
    site.build("-t app -m 32m").fails(1).complains("dd if=/dev/zero");
    if !need(Privilege::Peer("docker-registry")) {
        return;
    }
    let registry = registry::Registry::plain();
    let name = registry.name("team/app");
    site.store.scratch.write("c/Dockerfile", "FROM box\nCOPY Dockerfile /y\n");
    site.build(&format!("--push -t {name}:1")).ok().prints("digest: sha256:");
    let tags = registry::tool(&site.store).arg("tags").arg(&name).ok();
    assert_eq!(tags.stdout.trim(), "1");
}

/// The manifest of a name, as it lies in the store.
fn blob_of(store: &Store, name: &str) -> String {
    let index = std::fs::read_to_string(store.path().join("index.json")).expect("the index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let all = index["manifests"].as_array().expect("manifests").iter();
    let named = format!("localhost/{name}:latest");
    let mut all = all.filter(|d| d["annotations"]["org.opencontainers.image.ref.name"] == *named);
    let digest = all.next().expect("the name")["digest"].as_str().expect("a digest").replace("sha256:", "");
    std::fs::read_to_string(store.path().join("blobs/sha256").join(digest)).expect("the manifest")
}
