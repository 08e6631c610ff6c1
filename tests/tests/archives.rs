//! Archives and layouts, both ways with the peers that people have: what they write we read, what we write they
//! read, and the tree is the same.

use std::path::Path;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};

/// A store with an image of three layers, with whiteouts, links, modes and times that show.
fn with_image(name: &str) -> Option<Store> {
    let store = Store::new("archives");
    let _base = Image::busybox()?.compose(&store, "base");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/opt/file", "content");
    recipe.write("tree/opt/deep/er/file", "more");
    std::os::unix::fs::symlink("../opt/file", recipe.join("tree/opt/link")).expect("symlink");
    std::fs::hard_link(recipe.join("tree/opt/file"), recipe.join("tree/opt/second")).expect("link");
    let text = "[[layer]]\nimage = \"base\"\n[[layer]]\ndir = \"tree\"\n[[layer]]\nfile = { \"opt/file\" = \"new\" }\n";
    recipe.write("rootfs.toml", text);
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", name, "-q"]).ok();
    Some(store)
}

/// Every path of a tree with what is to be seen of it, and a sum of the contents.
fn tree(dir: &Path) -> String {
    let list = "find . -mindepth 1 -printf '%p %y %m %U:%G %T@ %l %s\\n' | sed 's/ d \\(.*\\) [0-9]*$/ d \\1/' | sort; \
                find . -type f -print0 | sort -z | xargs -0 sha256sum";
    Cmd::new("sh").args(["-c", list]).dir(dir).ok().stdout
}

fn skopeo(from: &str, to: &str) {
    Cmd::new("skopeo").words("copy --insecure-policy -q").args([from, to]).ok();
}

#[test]
fn a_saved_image_is_the_same_when_it_is_loaded() {
    let Some(store) = with_image("app") else { return };
    store.rootfs_tool().words("tag app second:2").ok();
    for (format, again) in [("docker-archive", "docker"), ("oci-archive", "oci")] {
        let file = store.scratch.join(format);
        let save = store.rootfs_tool().args(["save", "--format", format, "app", "second:2", "-o"]);
        save.arg(&file).ok();
        let other = Store::new("archives");
        let loaded = other.rootfs_tool().args(["load", "-i"]).arg(&file).ok();
        let loaded = loaded.prints("Loaded image: localhost/app:latest").prints("localhost/second:2");
        drop(loaded);
        assert_eq!(other.image_id("app"), store.image_id("app"), "{again}");
        assert_eq!(other.image_id("second:2"), store.image_id("app"), "{again}");
        // Through a pipe, compressed, is the same.
        for squeeze in ["gzip -1", "zstd -q -1"] {
            if !need(Privilege::Peer(squeeze.split(' ').next().expect("a word"))) {
                continue;
            }
            let third = Store::new("archives");
            let line = format!("{squeeze} < {} > {}.z", file.display(), file.display());
            Cmd::new("sh").args(["-c", &line]).ok();
            let bytes = std::fs::read(format!("{}.z", file.display())).expect("read");
            third.rootfs_tool().args(["load", "-q"]).stdin(bytes).ok();
            assert_eq!(third.image_id("app"), store.image_id("app"));
        }
        let twice = store.scratch.join("twice");
        store.rootfs_tool().args(["save", "--format", format, "app", "second:2", "-o"]).arg(&twice).ok();
        assert!(
            std::fs::read(&file).expect("read") == std::fs::read(&twice).expect("read"),
            "the same bytes"
        );
    }
    store
        .rootfs_tool()
        .args(["save", "app", "none", "-o", "x.tar"])
        .fails(1)
        .complains("No such image: none");
    assert!(!store.scratch.join("x.tar").exists(), "an archive is whole or not there");
    let piped = store.rootfs_tool().args(["save", "app", "none"]).fails(1);
    assert_eq!(piped.stdout, "", "nothing is written before all are found");
    let left = std::fs::read_dir(store.scratch.path()).expect("list").flatten();
    let left: Vec<_> = left.filter(|e| e.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn skopeo_reads_what_we_write_and_we_read_what_it_writes() {
    if !need(Privilege::Peer("skopeo")) {
        return;
    }
    let Some(store) = with_image("app") else { return };
    let at = |name: &str| store.scratch.join(name).display().to_string();
    let copy = |from: &str, to: &str| store.rootfs_tool().args(["copy", "-q", from, to]).ok();
    copy("app", &format!("docker-archive:{}:r.example/app:1", at("ours.tar")));
    copy("app", &format!("oci-archive:{}:app", at("ours-oci.tar")));
    copy("app", &format!("oci:{}:app", at("ours")));
    let ours = [
        format!("docker-archive:{}", at("ours.tar")),
        format!("oci-archive:{}:app", at("ours-oci.tar")),
        format!("oci:{}:app", at("ours")),
        // The store itself, as it lies there.
        format!("oci:{}:localhost/app:latest", store.path().display()),
    ];
    for (n, from) in ours.iter().enumerate() {
        for (kind, to) in [
            ("oci", format!("oci:{}:x", at(&format!("theirs-{n}")))),
            ("docker-archive", format!("docker-archive:{}:r.example/x:1", at(&format!("theirs-{n}.tar")))),
        ] {
            skopeo(from, &to);
            let other = Store::new("archives");
            let from = if kind == "oci" { to.clone() } else { to.replace(":r.example/x:1", "") };
            other.rootfs_tool().args(["copy", "-q", &from, "x"]).ok();
            assert_eq!(other.image_id("x"), store.image_id("app"), "{from}");
        }
    }
}

#[test]
fn a_tree_that_went_through_us_is_the_one_that_umoci_makes() {
    if !(need(Privilege::Peer("umoci")) && need(Privilege::Root)) {
        return;
    }
    let Some(store) = with_image("app") else { return };
    let theirs = store.scratch.join("theirs");
    let image = format!("{}:localhost/app:latest", store.path().display());
    Cmd::new("umoci").words("raw unpack --image").arg(image).arg(&theirs).ok();
    let ours = store.scratch.join("ours");
    store.rootfs_tool().args(["copy", "-q", "app"]).arg(format!("dir:{}", ours.display())).ok();
    assert_eq!(tree(&ours), tree(&theirs));
    store
        .rootfs_tool()
        .args(["copy", "-q", "app"])
        .arg(format!("dir:{}", ours.display()))
        .fails(1)
        .complains("not empty");
}

#[test]
fn podman_and_docker_take_our_archives_and_we_theirs() {
    if !need(Privilege::Root) {
        return;
    }
    let Some(store) = with_image("app") else { return };
    let file = store.scratch.join("app.tar");
    store.rootfs_tool().args(["save", "app", "-o"]).arg(&file).ok();
    if need(Privilege::Peer("podman")) {
        let root = store.scratch.join("podman");
        let podman = |line: &str| {
            let runroot = store.scratch.join("podman-run");
            let cmd = Cmd::new("podman").arg("--root").arg(&root).arg("--runroot").arg(runroot);
            cmd.words("--storage-driver vfs").words(line)
        };
        podman("load -i").arg(&file).ok().prints("localhost/app:latest");
        let back = store.scratch.join("podman.tar");
        podman("save -q localhost/app:latest -o").arg(&back).ok();
        let other = Store::new("archives");
        other.rootfs_tool().args(["load", "-i"]).arg(&back).ok().prints("Loaded image: localhost/app:latest");
        assert_eq!(other.image_id("app"), store.image_id("app"));
    }
    if need(Privilege::Peer("dockerd")) {
        let docker = coracle_tests::dockerd::Dockerd::start(&["--storage-driver", "vfs"]);
        docker.docker("load -i").arg(&file).ok().prints("localhost/app:latest");
        let back = store.scratch.join("docker.tar");
        docker.docker("save localhost/app:latest -o").arg(&back).ok();
        let other = Store::new("archives");
        other.rootfs_tool().args(["load", "-i"]).arg(&back).ok();
        assert_eq!(other.image_id("app"), store.image_id("app"));
    }
}

#[test]
fn buildah_builds_on_our_images_and_we_read_what_it_makes_of_them() {
    if !(need(Privilege::Root) && need(Privilege::Peer("buildah"))) {
        return;
    }
    let Some(store) = with_image("app") else { return };
    let at = |name: &str| store.scratch.join(name).display().to_string();
    let buildah = |words: &str| {
        let own = ["--storage-driver", "vfs", "--root", &at("buildah"), "--runroot", &at("buildah-run")];
        Cmd::new("buildah").args(own).words(words)
    };
    // Theirs of ours: out of the store as it lies there, and out of both kinds of archive.
    let ours = store.scratch.join("ours");
    store.rootfs_tool().args(["copy", "-q", "app", &format!("dir:{}", ours.display())]).ok();
    for (how, file) in [("oci-archive", "ours-oci.tar"), ("docker-archive", "ours.tar")] {
        store.rootfs_tool().args(["save", "--format", how, "app", "-o", &at(file)]).ok();
    }
    for (name, from) in [
        ("laid", format!("oci:{}:localhost/app:latest", store.path().display())),
        ("oci", format!("oci-archive:{}", at("ours-oci.tar"))),
        ("docker", format!("docker-archive:{}", at("ours.tar"))),
    ] {
        buildah("from --pull-never -q --name").args([name, &from]).ok();
        let theirs = buildah("mount").arg(name).ok();
        assert_eq!(tree(Path::new(theirs.text())), tree(&ours), "{from}");
    }
    // Ours of theirs: a layer that buildah made, with a whiteout, a link and a mode.
    let change =
        "rm /opt/second; ln -s /opt/file /opt/new; mkdir -m 2750 /opt/made; echo by buildah > /opt/made/file";
    buildah("run --isolation chroot laid -- sh -c").arg(change).ok();
    buildah("config --cmd /opt/made/file --env A=b laid").ok();
    for (format, kind) in
        [("oci", "oci-archive"), ("docker", "docker-archive"), ("oci", "oci"), ("docker", "dir")]
    {
        let image = format!("{format}-{kind}");
        buildah("commit -q --format").args([format, "laid", &image]).ok();
        let file = at(&format!("theirs-{image}"));
        let to = if kind == "dir" { format!("oci:{file}:x") } else { format!("{kind}:{file}:r.example/x:1") };
        buildah("push -q").args([&image, &to]).ok();
        // Its layers have whole seconds: what it makes of them itself is what counts.
        buildah("from --pull-never -q --name").args([&format!("again-{image}"), &image]).ok();
        let theirs = buildah("mount").arg(format!("again-{image}")).ok();
        let seen = tree(Path::new(theirs.text()));
        assert!(seen.contains("./opt/made d 2750") && !seen.contains("./opt/second"), "{seen}");
        let other = Store::new("archives");
        match kind {
            "oci" | "dir" => other.rootfs_tool().args(["copy", "-q", &to, "r.example/x:1"]).ok(),
            _ => other.rootfs_tool().args(["load", "-i", &file]).ok().prints("r.example/x:1"),
        };
        let ours = other.scratch.join("tree");
        other.rootfs_tool().args(["copy", "-q", "r.example/x:1", &format!("dir:{}", ours.display())]).ok();
        assert_eq!(tree(&ours), seen, "{image}");
        let config =
            other.rootfs_tool().args(["inspect", "-f", "{{json .Config.Env}}", "r.example/x:1"]).ok();
        assert!(config.stdout.contains("A=b"), "{image}: {config}");
    }
}

#[test]
fn a_plain_tar_becomes_an_image_with_what_change_says() {
    let Some(store) = with_image("app") else { return };
    let tree = store.scratch.join("tree");
    store.rootfs_tool().args(["copy", "-q", "base"]).arg(format!("dir:{}", tree.display())).ok();
    let tar = store.scratch.join("tree.tar.gz");
    Cmd::new("tar").args(["-C", &tree.display().to_string(), "-czf"]).arg(&tar).arg(".").ok();
    let import = |words: &str| store.rootfs_tool().arg("import").words(words);
    import("-c RUN=x").arg(&tar).arg("bad").fails(2).complains("it has no argument");
    store
        .rootfs_tool()
        .args(["import", "-c", "CMD [\"echo\", \"imported\"]", "-c", "ENV A=b", "-m", "by hand"])
        .arg(&tar)
        .arg("flat")
        .ok()
        .prints("sha256:");
    store.rootfs_tool().args(["history", "flat"]).ok().prints("by hand");
    if need(Privilege::Containers) {
        assert_eq!(store.run("flat").ok().text(), "imported");
    }
    let bytes = std::fs::read(&tar).expect("read");
    store.rootfs_tool().args(["import", "-", "piped"]).stdin(bytes.clone()).ok();
    let layers = |name: &str| {
        store.rootfs_tool().args(["inspect", "-f", "{{json .RootFS}}", name]).ok().text().to_owned()
    };
    assert_eq!(layers("piped"), layers("flat"));
    for (name, bytes) in
        [("half", &bytes[..bytes.len() / 2]), ("noise", &b"this is no tar, and has no header"[..])]
    {
        let out = store.rootfs_tool().args(["import", "-", name]).stdin(bytes).fails(1);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
        store.rootfs_tool().args(["inspect", name]).fails(1);
    }
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let Some(store) = with_image("app") else { return };
    let work = |script: &str| {
        let scratch = Scratch::new("lie");
        store.rootfs_tool().args(["save", "app", "-o"]).arg(scratch.join("good.tar")).ok();
        Cmd::new("sh").args(["-ec", script]).dir(scratch.path()).ok();
        scratch
    };
    let unpacked = "mkdir x; tar -C x -xf good.tar; chmod -R u+w x; cd x;";
    for (script, words) in [
        ("head -c 5000 good.tar > bad.tar", "read the archive"),
        ("head -c 100000 /dev/zero > bad.tar", "no archive of images"),
        ("echo hello > bad.tar", "read the archive"),
        (": > bad.tar", "no archive of images"),
        ("UNPACKED echo '[' > manifest.json; tar -cf ../bad.tar *", "manifest.json"),
        ("UNPACKED echo '[]' > manifest.json; tar -cf ../bad.tar *", "no image in it"),
        (
            "UNPACKED echo '[{\"Config\":\"../../../../etc/passwd\",\"Layers\":[]}]' > manifest.json; tar -cf ../bad.tar *",
            "etc/passwd",
        ),
        (
            "UNPACKED rm manifest.json; sed -i s/localhost.app/A..B/ index.json; rm -r blobs; tar -cf ../bad.tar *",
            "blobs/sha256",
        ),
        ("UNPACKED for f in blobs/sha256/*; do echo x >> $f; done; tar -cf ../bad.tar *", ""),
        (
            "UNPACKED ln -s /etc/passwd blobs/link; sed -i 's/\"Config\":\"[^\"]*\"/\"Config\":\"blobs\\/link\"/' manifest.json; tar -cf ../bad.tar *",
            "etc/passwd",
        ),
    ] {
        let scratch = work(&script.replace("UNPACKED", unpacked));
        let other = Store::new("archives");
        let out = other.rootfs_tool().args(["load", "-i"]).arg(scratch.join("bad.tar")).fails(1);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{script}: {out}");
        assert!(out.stderr.contains(words), "{script}: {out}");
        assert_eq!(other.rootfs_tool().words("images -q").ok().text(), "", "{script}");
    }
}

#[test]
fn a_long_file_that_is_no_archive_is_refused_and_holds_nobody_up() {
    let store = Store::new("archives");
    let bent = coracle_tests::noise::noise(3, 8 << 20);
    store.rootfs_tool().args(["import", "-", "bent"]).stdin(bent).fails(1).complains("import -");
    store.rootfs_tool().args(["images", "-q"]).ok();
}

#[test]
fn archives_come_compressed_by_xz_and_bzip2_too() {
    let Some(store) = with_image("app") else { return };
    let file = store.scratch.join("app.tar");
    store.rootfs_tool().args(["save", "app", "-o"]).arg(&file).ok();
    let tar = store.scratch.join("tree.tar");
    store.rootfs_tool().args(["export", "app", "-o"]).arg(&tar).ok();
    store.rootfs_tool().arg("import").arg(&tar).arg("plain").ok();
    let layers = |name: &str| {
        store.rootfs_tool().args(["inspect", "-f", "{{.RootFS.Layers}}", name]).ok().text().to_owned()
    };
    for by in ["xz", "bzip2"] {
        if !need(Privilege::Peer(by)) {
            continue;
        }
        Cmd::new(by).arg("-k").arg(&file).arg(&tar).ok();
        let ending = if by == "xz" { "xz" } else { "bz2" };
        let packed = |path: &Path| format!("{}.{ending}", path.display());
        store.rootfs_tool().args(["import", &packed(&tar), by]).ok();
        assert_eq!(layers(by), layers("plain"), "{by}");
        let other = Store::new("archives");
        other.rootfs_tool().args(["load", "-q", "-i", &packed(&file)]).ok();
        assert_eq!(other.image_id("app"), store.image_id("app"), "{by}");
        // Cut off in the middle it is nothing.
        let bytes = std::fs::read(packed(&tar)).expect("read");
        let cut = store.rootfs_tool().words("import - cut").stdin(&bytes[..bytes.len() / 2]);
        cut.fails(1).complains(&format!("decompress by {by}"));
        store.rootfs_tool().words("inspect cut").fails(1);
    }
}

#[test]
fn an_image_that_another_tool_put_into_the_store_is_applied_when_it_runs() {
    if !(need(Privilege::Peer("skopeo")) && need(Privilege::Containers)) {
        return;
    }
    let Some(store) = with_image("app") else { return };
    let other = Store::new("archives");
    // A store is an OCI layout, so that there is one to copy into.
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "[[layer]]\nfile = { \"x\" = \"\" }\n");
    other.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "first"]).ok();
    let into = format!("oci:{}:localhost/app:latest", other.path().display());
    skopeo(&format!("oci:{}:localhost/app:latest", store.path().display()), &into);
    other.runner().words("run --dry-run app true").fails(125).complains("it was not applied");
    other.runner().words("run --rm app cat /opt/file").ok().prints("new");
    other.rootfs_tool().words("verify app").ok().prints("good");
    // Once it is, it is.
    other.rootfs_tool().words("apply app").ok().prints("Already applied");
    other.rootfs_tool().words("apply none").fails(1).complains("No such image: none");
}
