//! `rootfs-tool images`, `tag`, `rmi`, `history`: the store as its users see it.

use coracle_tests::{Scratch, Store, eventually};

fn with_image(name: &str) -> Store {
    let store = Store::new("images");
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "[[layer]]\nstandard = true\n[[layer]]\nfile = { \"etc/x\" = \"1\" }\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", name]).ok();
    store
}

#[test]
fn images_are_listed_for_people_and_for_scripts() {
    let store = with_image("one");
    store.rootfs_tool().words("tag one two:v2").ok();
    let list = store.rootfs_tool().arg("images").ok().prints("REPOSITORY").prints("localhost/one");
    let list = list.prints("v2");
    drop(list);
    let images = |line: &str| store.rootfs_tool().arg("images").words(line).ok().text().to_owned();
    assert_eq!(images("-q").len(), 12, "one id, once");
    assert!(images("-q --no-trunc").starts_with("sha256:"));
    assert_eq!(images("--filter reference=two --format {{.Repository}}:{{.Tag}}"), "localhost/two:v2");
    let json = store.rootfs_tool().words("images --json").ok().json();
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    store.rootfs_tool().words("images --filter colour=red").fails(2).complains("reference=PATTERN");
    store.rootfs_tool().words("images --fromat x").fails(2).complains("did you mean --format?");
}

#[test]
fn a_reproducible_image_was_made_when_it_was_made_here() {
    let store = with_image("one");
    let images =
        |format: &str| store.rootfs_tool().args(["images", "--format", format, "one"]).ok().text().to_owned();
    let since = images("{{.CreatedSince}}");
    assert!(since.contains("second") || since.contains("minute"), "{since}");
    let at = images("{{.CreatedAt}}");
    store.rootfs_tool().words("tag one two").ok();
    let two = store.rootfs_tool().args(["images", "--format", "{{.CreatedAt}}", "two"]).ok();
    assert_eq!(two.text(), at, "a new name changes nothing");
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "[[layer]]\nfile = { \"etc/x\" = \"1\" }\n");
    let compose = store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "one"]);
    compose.env("SOURCE_DATE_EPOCH", "1000000000").ok();
    assert_eq!(
        images("{{.CreatedAt}}"),
        "2001-09-09 01:46:40 +0000 UTC",
        "what an image says itself comes first"
    );
}

#[test]
fn sizes_are_those_of_the_files_with_what_is_shared_told_apart() {
    let store = Store::new("images");
    let recipe = Scratch::new("recipe");
    let layer =
        |name: &str, n: usize| format!("[[layer]]\nfile = {{ \"{name}\" = \"{}\" }}\n", "x".repeat(n));
    for (name, own) in [("one", 10), ("two", 2000)] {
        recipe.write("rootfs.toml", layer("shared", 300) + &layer("own", own));
        store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", name]).ok();
    }
    let row = |name: &str| store.rootfs_tool().args(["images", "--json", name]).ok().json()[0].clone();
    for (name, own) in [("one", 10), ("two", 2000)] {
        let row = row(name);
        assert_eq!((&row["Bytes"], &row["OwnBytes"]), (&(300 + own).into(), &own.into()), "{row}");
        assert_eq!(row["SharedBytes"], 300);
        assert!(row["BlobBytes"].as_u64().expect("bytes") >= 2 * 1024 + 300 + own, "archives are larger");
    }
    let size = store.rootfs_tool().args(["inspect", "--format", "{{.Size}}", "one"]).ok();
    assert_eq!(size.text(), "310");
}

#[test]
fn a_field_that_an_image_has_not_set_is_empty_and_one_missing_image_hides_no_other() {
    let store = with_image("one");
    let field = |text: &str| store.rootfs_tool().args(["inspect", "-f", text, "one"]).run();
    for (name, empty) in [("User", ""), ("WorkingDir", ""), ("Labels", "map[]"), ("Entrypoint", "[]")] {
        let text = field(&format!("<{{{{.Config.{name}}}}}>")).ok();
        assert_eq!(text.text(), format!("<{empty}>"), "{name}");
    }
    field("{{.Config.Frob}}").fails(2).complains(".Frob");
    let output = store.rootfs_tool().words("inspect -f {{.Os}} one nosuch").fails(1);
    assert_eq!(output.text(), "linux");
    output.complains("No such image: nosuch");
}

#[test]
fn an_image_that_cannot_be_read_any_more_can_be_removed_and_composed_again() {
    let store = with_image("other");
    for damage in ["manifest gone", "manifest cut off", "manifest changed", "config changed"] {
        let recipe = Scratch::new("recipe");
        recipe.write("rootfs.toml", "[[layer]]\nfile = { \"etc/x\" = \"2\" }\n");
        let compose = || store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "one"]);
        compose().ok();
        let field =
            |text: &str| store.rootfs_tool().args(["inspect", "-f", text, "one"]).ok().text().to_owned();
        let digest = field(if damage.starts_with("config") { "{{.Id}}" } else { "{{.Digest}}" });
        let blob = store.path().join("blobs").join(digest.replace(':', "/"));
        let mut bytes = std::fs::read(&blob).expect("the blob");
        match damage.rsplit(' ').next() {
            Some("gone") => std::fs::remove_file(&blob).expect("remove it"),
            Some("off") => std::fs::write(&blob, &bytes[..20]).expect("cut it off"),
            _ => {
                bytes[3] ^= 1;
                std::fs::write(&blob, &bytes).expect("change it");
            }
        }
        compose().ok();
        assert_eq!(field("{{.Os}}"), "linux", "{damage}: composing again mends it");
        std::fs::write(&blob, "no json").expect("change it");
        store.rootfs_tool().words("rmi one").ok().prints("Untagged: localhost/one:latest");
        store.rootfs_tool().words("rmi one").fails(1).complains("No such image: one");
        assert_eq!(
            store.rootfs_tool().words("images --format {{.Repository}}").ok().text(),
            "localhost/other"
        );
    }
    store.rootfs_tool().words("rmi other").ok();
}

#[test]
fn rmi_says_whom_it_waits_for() {
    let store = with_image("one");
    let lock = std::fs::File::open(store.path().join("lock")).expect("the store's lock");
    let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockShared).expect("take it");
    let running = store.rootfs_tool().words("rmi one").spawn();
    eventually("it says so", || running.stderr_so_far().contains("waiting for somebody else"));
    drop(held);
    running.wait(std::time::Duration::from_secs(20)).expect("it ends").ok();
}

#[test]
fn an_image_goes_with_its_last_name() {
    let store = with_image("one");
    store.rootfs_tool().words("tag one two").ok();
    let out = store.rootfs_tool().words("rmi two").ok().prints("Untagged: localhost/two:latest");
    assert!(!out.text().contains("Deleted"), "{}", out.text());
    store.rootfs_tool().words("rmi one").ok().prints("Deleted: sha256:");
    assert_eq!(store.rootfs_tool().words("images -q").ok().text(), "");
    let blobs = std::fs::read_dir(store.path().join("blobs/sha256")).expect("blobs");
    assert_eq!(blobs.count(), 0);
    store.rootfs_tool().words("rmi one").fails(1).complains("No such image: one");
    store.rootfs_tool().words("inspect one").fails(1).complains("No such image: one");
}

#[test]
fn an_image_that_a_container_uses_is_removed_by_force_alone() {
    let store = with_image("one");
    let digest = store.rootfs_tool().args(["inspect", "--format", "{{.Digest}}", "one"]).ok();
    let container = store.path().join("containers/abc123");
    std::fs::create_dir_all(&container).expect("a container's folder");
    std::os::unix::fs::symlink(digest.text(), container.join("image")).expect("its image");
    store.rootfs_tool().words("rmi one").fails(1).complains("container abc123 is using");
    store.rootfs_tool().words("rmi -f one").ok().prints("Untagged: localhost/one:latest");
}

#[test]
fn an_id_or_its_beginning_removes_an_image() {
    let store = with_image("one");
    let id = store.rootfs_tool().words("images -q").ok().text().to_owned();
    store.rootfs_tool().words("tag one two").ok();
    store.rootfs_tool().args(["rmi", &id]).fails(1).complains("must be forced");
    store.rootfs_tool().args(["rmi", "-f", &id[..6]]).ok().prints("Deleted: sha256:");
}

#[test]
fn history_names_what_each_layer_was_made_of() {
    let store = with_image("one");
    store.rootfs_tool().words("history one").ok().prints("rootfs-tool compose: standard");
    let rows = store.rootfs_tool().words("history --json one").ok().json();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
}

#[test]
fn the_fields_that_docker_has_are_there_in_its_forms() {
    let store = Store::new("images");
    let recipe = Scratch::new("recipe");
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nfile = { \"x\" = \"1\" }\n[[layer]]\nfile = { \"y\" = \"1\" }\n[config]\nvolumes = [\"/data\"]\n\
         healthcheck = { cmd = [\"true\"], interval = 90 }\n",
    );
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "one"]).ok();
    let inspect =
        |text: &str| store.rootfs_tool().args(["inspect", "-f", text, "one"]).ok().text().to_owned();
    for (text, out) in [
        ("<{{.Comment}}{{.Parent}}{{.DockerVersion}}>", "<>"),
        ("{{eq .VirtualSize .Size}}", "true"),
        ("{{.Config.Volumes}} {{json .Config.Volumes}}", "map[/data:{}] {\"/data\":{}}"),
        ("{{.Config.Healthcheck.Interval}}", "1m30s"),
        ("{{.Config.OnBuild}}", "[]"),
    ] {
        assert_eq!(inspect(text), out, "{text}");
    }
    assert!(inspect("{{.Metadata.LastTagTime}}").ends_with('Z'));
    let upper = inspect("{{.GraphDriver.Data.UpperDir}}");
    assert!(std::path::Path::new(&upper).is_dir(), "{upper} of {}", inspect("{{.GraphDriver.Name}}"));
    assert!(inspect("json").starts_with("[{"), "an array on one line");
    let images = |text: &str| store.rootfs_tool().args(["images", "--format", text]).ok().text().to_owned();
    assert_eq!(
        images("{{.Name}} {{.Containers}} {{eq .VirtualSize .Size}}"),
        "localhost/one:latest N/A true"
    );
    assert!(images("{{.CreatedAt}}").ends_with(" +0000 UTC"));
    assert!(images("table {{.ID}}\\t{{.Tag}}").starts_with("IMAGE ID "));
    assert!(images("raw").starts_with("repository: localhost/one\ntag: latest\nimage_id: "));
    let tar = store.scratch.join("t.tar");
    coracle_tests::Cmd::new("tar").arg("-C").arg(recipe.path()).arg("-cf").arg(&tar).arg(".").ok();
    store.rootfs_tool().args(["import", "-m", "by hand"]).arg(&tar).arg("two").ok();
    assert_eq!(store.rootfs_tool().words("inspect -f {{.Comment}} two").ok().text(), "by hand");
    let plain = store.rootfs_tool().words("history --human=false --format {{.Size}} one").ok();
    assert_eq!(plain.text(), "1\n1");
    store.rootfs_tool().words("history -H one").ok().prints("1B");
    store.rootfs_tool().words("rmi --no-prune two").ok().prints("Deleted: ");
    store.rootfs_tool().words("prune -f --dry-run").ok().prints("blob: sha256:");
}

#[test]
fn what_is_typed_wrong_is_told_with_what_is_meant() {
    let store = with_image("one");
    let folder = store.scratch.path().display().to_string();
    for (line, says) in [
        ("load shell.tar", "load takes no \"shell.tar\" (see load --help): load -i shell.tar"),
        ("load -i Cargo.toml", "it is no tar"),
        ("images a b", "images takes no \"b\" (see images --help)"),
        ("pull docker://a/b", "leave docker:// out: a/b"),
        ("pull https://a.b/c", "leave https:// out: a.b/c"),
        ("copy one oic:dir", "did you mean oci:?"),
        ("copy one bogus:a/b", "unknown transport \"bogus\": there are store:, docker://"),
        ("copy one docker-daemon:x", "unknown transport \"docker-daemon\""),
        ("pull --platform bogus a", "unknown operating system or architecture"),
        ("pull --disable-content-trust=false a", "there is no content trust here"),
        ("pull --creds me a", "--creds has the form USER:PASSWORD"),
        ("inspect --raw one", "docker://one"),
        (&*format!("import {folder} x"), "is a folder: a tar of it can be piped"),
        ("compose images/shell/rootfs.toml", "compose takes the recipe's folder: images/shell"),
    ] {
        let output = store.rootfs_tool().dir(coracle_tests::workspace()).words(line).run();
        assert_ne!(output.code(), 0, "{line}");
        output.complains(says);
    }
    for verb in ["export one", "save one"] {
        let line = format!("{} {verb} > /dev/full", coracle_tests::dist().join("rootfs-tool").display());
        let full = coracle_tests::Cmd::new("sh").args(["-c", &line]).env("CORACLE_STORE", store.path());
        full.fails(1).complains("write(standard output): No space left");
    }
    store.rootfs_tool().words("copy -q one store:oic:dir").ok();
    store
        .rootfs_tool()
        .words("images -q --store /nowhere/x")
        .ok()
        .complains("there is no store at /nowhere/x yet");
    let asked = store.rootfs_tool().arg("prune").stdin("n\n").ok();
    assert!(asked.stderr.ends_with('\n'), "{asked:?}");
}

#[test]
fn a_verb_or_flag_that_is_not_known_is_refused() {
    let store = Store::new("images");
    store.rootfs_tool().arg("frobnicate").fails(2).complains("unknown verb: frobnicate");
    store.rootfs_tool().arg("--frobnicate").fails(2).complains("unknown flag");
    store.rootfs_tool().arg("--version").ok().prints("rootfs-tool ");
    store.rootfs_tool().words("compose --help").ok().prints("rootfs-tool compose images/shell");
}

#[test]
fn images_are_filtered_as_docker_does_and_the_newest_stands_first() {
    let store = Store::new("images");
    for (name, epoch, label) in [("old", "1000000000", "a=1"), ("new", "1100000000", "b=2")] {
        let recipe = Scratch::new("recipe");
        let (key, value) = label.split_once('=').expect("a label");
        let text = format!(
            "[[layer]]\nfile = {{ \"x\" = \"{name}\" }}\n[config]\nlabels = {{ {key} = \"{value}\" }}\n"
        );
        recipe.write("rootfs.toml", text);
        let compose = store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", name]);
        compose.env("SOURCE_DATE_EPOCH", epoch).ok();
    }
    let images = |line: &str| {
        let cmd = store.rootfs_tool().args(["images", "--format", "{{.Repository}}"]).words(line);
        cmd.ok().text().replace("localhost/", "").replace('\n', " ")
    };
    for (line, are) in [
        ("", "new old"),
        ("-a", "new old"),
        ("-f label=a", "old"),
        ("-f label=b=2", "new"),
        ("-f label=b=3", ""),
        ("-f before=new", "old"),
        ("-f since=old", "new"),
        ("-f until=2002-01-01T00:00:00Z", "old"),
        ("-f dangling=true", ""),
        ("-f dangling=false", "new old"),
        ("-f reference=o* -f reference=n*", "new old"),
        ("-f reference=o* -f label=b", ""),
    ] {
        assert_eq!(images(line), are, "{line}");
    }
    store.rootfs_tool().words("images -f before=none").fails(1).complains("none");
    // The name goes to another image: the old one is left without.
    store.rootfs_tool().words("tag new old").ok();
    assert_eq!(images("-f dangling=true"), "<none>");
    let id = store.rootfs_tool().words("images -q --no-trunc -f dangling=true").ok();
    store.rootfs_tool().words("prune -f").ok().prints(&format!("deleted: {}", id.text()));
    assert_eq!(images("-f dangling=true"), "");
    let layers = store.rootfs_tool().words("history -q new").ok();
    assert_eq!(layers.text().len(), 12, "{}", layers.text());
}

/// The image, as it is, but under another manifest and without a name: its layers are compressed.
fn load_compressed(store: &Store, name: &str) {
    let tree = Scratch::new("archive");
    let script = "tar -xf all.tar && rm all.tar && for l in $(grep -o 'Layers.*' manifest.json | grep -o 'blobs[^\"]*'); do \
        gzip -n $l && mv $l.gz $l; done && sed -i 's/\"RepoTags\":[^]]*]/\"RepoTags\":null/' manifest.json && tar -cf all.tar *";
    store.rootfs_tool().args(["save", name, "-o"]).arg(tree.join("all.tar")).ok();
    coracle_tests::Cmd::new("sh").args(["-c", script]).dir(tree.path()).ok();
    store.rootfs_tool().args(["load", "-q", "-i"]).arg(tree.join("all.tar")).ok().prints("Loaded image ID");
}

#[test]
fn an_image_that_has_a_name_under_one_of_its_manifests_is_not_dangling() {
    let store = with_image("one");
    load_compressed(&store, "one");
    let entries = || {
        let text = std::fs::read_to_string(store.path().join("index.json")).expect("the index");
        text.matches("\"digest\"").count()
    };
    assert_eq!(entries(), 2);
    let images = |line: &str| store.rootfs_tool().arg("images").words(line).ok().text().to_owned();
    assert_eq!(images("-q").len(), 12, "it is listed once");
    assert_eq!(images("-q -f dangling=true"), "");
    assert_eq!(images("--format {{.Repository}} -f dangling=false"), "localhost/one");
    store.rootfs_tool().words("prune -f --dry-run").ok().prints("deleted: sha256:").prints("blob: sha256:");
    let id = store.image_id("one");
    let pruned = store.rootfs_tool().words("prune -f").ok().prints("deleted: sha256:");
    assert!(!pruned.text().contains(&id), "{}", pruned.text());
    assert_eq!(
        (entries(), store.image_id("one")),
        (1, id.clone()),
        "what is left over goes, the image stays"
    );
    store.rootfs_tool().arg("verify").ok().prints("localhost/one:latest  good");

    load_compressed(&store, "one");
    store.rootfs_tool().words("tag one two").ok();
    let out = store.rootfs_tool().words("rmi two").ok();
    assert_eq!(out.text(), "Untagged: localhost/two:latest");
    store.rootfs_tool().words("rmi one").ok().prints(&format!("Deleted: {id}"));
    assert_eq!((entries(), images("-q")), (0, String::new()), "with its last name all of it is gone");
}

#[test]
fn what_gets_a_name_has_no_entry_without_one_any_more() {
    let store = with_image("one");
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "[[layer]]\nfile = { \"etc/x\" = \"2\" }\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "one"]).ok();
    let dangling = || store.rootfs_tool().words("images -q -f dangling=true").ok().text().to_owned();
    let id = dangling();
    store.rootfs_tool().args(["tag", &id, "old"]).ok();
    assert_eq!(dangling(), "");
    let names = store.rootfs_tool().words("images --format {{.Repository}}").ok();
    let mut names: Vec<&str> = names.text().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["localhost/old", "localhost/one"]);
    // Two images with two names each: an id is told once.
    store.rootfs_tool().words("tag one aaa").ok();
    store.rootfs_tool().words("tag old zzz").ok();
    assert_eq!(store.rootfs_tool().words("images -q").ok().text().lines().count(), 2);
}

#[test]
fn a_name_never_stands_for_the_content_of_a_digest_or_an_id() {
    let store = with_image("good");
    let evil = Scratch::new("recipe");
    evil.write("rootfs.toml", "[[layer]]\nfile = { \"etc/x\" = \"evil\" }\n");
    store.rootfs_tool().arg("compose").arg(evil.path()).args(["-t", "evil"]).ok();
    let field = |name: &str, text: &str| store.rootfs_tool().args(["inspect", "-f", text, name]).run();
    let (id, digest) = (store.image_id("good"), field("good", "{{.Digest}}").ok().text().to_owned());
    let hex = id.strip_prefix("sha256:").expect("an id").to_owned();
    // As another tool may write them into the layout.
    let path = store.path().join("index.json");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read the index")).expect("JSON");
    let is_evil = |d: &&serde_json::Value| {
        d["annotations"]["org.opencontainers.image.ref.name"] == "localhost/evil:latest"
    };
    let evil = index["manifests"].as_array().expect("entries").iter().find(is_evil).expect("evil").clone();
    let absent = format!("sha256:{}", "5".repeat(64));
    let mut index = index.clone();
    for name in [
        id.clone(),
        hex.clone(),
        format!("{hex}:latest"),
        format!("localhost/{hex}:latest"),
        format!("localhost/sha256:{hex}"),
        format!("docker.io/library/sha256:{hex}"),
        format!("good@{digest}"),
        format!("localhost/good@{digest}"),
        format!("localhost/good@{absent}"),
    ] {
        let mut entry = evil.clone();
        entry["annotations"]["org.opencontainers.image.ref.name"] = name.into();
        index["manifests"].as_array_mut().expect("entries").insert(0, entry);
    }
    std::fs::write(&path, index.to_string()).expect("write the index");
    for name in [id.as_str(), &hex, &format!("good@{digest}"), &format!("localhost/good@{digest}")] {
        assert_eq!(field(name, "{{.Id}}").ok().text(), id, "{name}");
    }
    field(&format!("good@{absent}"), "{{.Id}}").fails(1).complains("No such image");
}

#[test]
fn verbs_go_by_dockers_nouns_and_by_the_runner_too() {
    let store = with_image("one");
    for line in ["image ls", "image list", "images"] {
        store.rootfs_tool().words(line).ok().prints("localhost/one");
        store.runner().words(line).ok().prints("localhost/one");
    }
    store.runner().words("image inspect -f {{.Os}} one").ok().prints("linux");
    store.runner().words("system df").ok().prints("RECLAIMABLE");
    store.runner().words("container ls").ok().prints("CONTAINER ID");
    store.runner().words("container inspect one").fails(1).complains("No such container: one");
    for line in ["pull -- -x", "image rm -- -x", "rmi -- -x"] {
        let output = store.runner().words(line).run();
        assert!(output.code() != 0 && !output.stderr.contains("unknown flag"), "{line}: {output:?}");
        output.complains("-x");
    }
    store
        .rootfs_tool()
        .words("inspect --type container one")
        .fails(2)
        .complains("unknown type \"container\"");
    store.runner().words("image frob").fails(125).complains("unknown command: image frob");
    for noun in ["image", "system"] {
        store.runner().arg(noun).fails(125).complains(&format!("{noun} needs a verb: "));
        store.rootfs_tool().arg(noun).fails(2).complains(&format!("{noun} needs a verb: "));
    }
    store.runner().words("mount one").fails(125).complains("runner image mount, rootfs-tool mount");
    store.runner().words("image export nosuch").fails(1).complains("No such image: nosuch");
    store.rootfs_tool().words("delete a/b").fails(2).complains("say which, by a tag or a digest");
    store.runner().words("image prune -f").ok().prints("Total reclaimed space");
    store.rootfs_tool().words("image rm one").ok().prints("Untagged: localhost/one:latest");
    // The store may be named before the verb.
    let at = store.path().display().to_string();
    for words in [vec!["--store", &at, "images"], vec![&*format!("--store={at}"), "image", "ls"]] {
        store.rootfs_tool().env_remove("CORACLE_STORE").args(words).ok().prints("REPOSITORY");
    }
    store.rootfs_tool().words("tag one").fails(2).complains("tag needs name (see tag --help)");
    store.rootfs_tool().words("history").fails(2).complains("history needs image");
}

#[test]
fn what_upper_layers_hide_is_listed_with_the_largest_first() {
    let store = Store::new("images");
    let recipe = Scratch::new("recipe");
    let file = |name: &str, n: usize| format!("[[layer]]\nfile = {{ \"{name}\" = \"{}\" }}\n", "x".repeat(n));
    let layers = [file("a", 300), file("b/c", 500), file("kept", 900), file("a", 10), file("b/c", 20)];
    recipe.write("rootfs.toml", layers.concat());
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "one"]).ok();
    let hidden = store.rootfs_tool().words("du -v --json one").ok().json()[0]["Hidden"].clone();
    if store.path().join("layers/vfs").exists() {
        return; // There every layer is a copy of all below.
    }
    let want = serde_json::json!([
        {"Bytes": 500, "Layer": 2, "Path": "/b/c"},
        {"Bytes": 300, "Layer": 1, "Path": "/a"},
    ]);
    assert_eq!(hidden, want);
    store.rootfs_tool().words("du -v one").ok().prints("500B  layer 2  /b/c");
}
