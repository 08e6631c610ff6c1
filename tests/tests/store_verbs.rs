//! `rootfs-tool export`, `prune`, `du` and `mount`: what is in a store, taken out, thrown out, and told.

use std::fs;
use std::os::unix::fs::MetadataExt;

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need};
use sha2::{Digest, Sha256};

/// A store with an image whose upper layer replaces a file of the lower, and hides a folder's content.
fn with_image() -> Store {
    with_image_in(Store::new("verbs"))
}

fn with_image_in(store: Store) -> Store {
    let scratch = Scratch::new("layers");
    for path in ["low/etc/kept", "low/etc/gone", "low/opt/old", "low/opt/deep/old"] {
        scratch.write(path, "0123456789");
    }
    fs::hard_link(scratch.join("low/etc/gone"), scratch.join("low/etc/second")).expect("link");
    scratch.write("up/opt/new", "new");
    scratch.write("up/opt/.wh..wh..opq", "");
    scratch.write("up/etc/.wh.gone", "");
    scratch.write("up/etc/kept", "replaced");
    for name in ["low", "up"] {
        let line = format!("-C {name} --owner=0 --group=0 --sort=name --mtime=@1000000000 -cf {name}.tar .");
        Cmd::new("tar").words(&line).dir(scratch.path()).ok();
    }
    scratch.write("rootfs.toml", "[[layer]]\ntar = \"low.tar\"\n[[layer]]\ntar = \"up.tar\"\n");
    store.rootfs_tool().arg("compose").arg(scratch.path()).args(["-t", "app", "-q"]).ok();
    store
}

#[test]
fn an_exported_image_is_what_a_container_would_see() {
    let store = with_image();
    let tar = store.scratch.join("flat.tar");
    store.rootfs_tool().args(["export", "app", "-o"]).arg(&tar).ok();
    let names = Cmd::new("tar").arg("-tf").arg(&tar).ok().stdout;
    let mut names: Vec<&str> = names.lines().filter(|n| !n.ends_with('/')).collect();
    names.sort_unstable();
    assert_eq!(names, ["etc/kept", "etc/second", "opt/new"]);
    let tree = store.scratch.mkdir("flat");
    Cmd::new("tar").arg("-C").arg(&tree).arg("-xf").arg(&tar).ok();
    assert_eq!(fs::read_to_string(tree.join("etc/kept")).expect("read"), "replaced");
    assert_eq!(fs::read_to_string(tree.join("etc/second")).expect("read"), "0123456789");
    assert_eq!(fs::metadata(tree.join("opt/new")).expect("stat").mtime(), 1_000_000_000);
    let bytes = fs::read(&tar).expect("read");
    let again = store.scratch.join("again.tar");
    store.rootfs_tool().args(["export", "app", "-o"]).arg(&again).ok();
    assert!(bytes == fs::read(&again).expect("read"), "the same bytes");
    // In again, and out again.
    store.rootfs_tool().args(["import", "-", "flat"]).stdin(bytes.clone()).ok();
    store.rootfs_tool().args(["export", "flat", "-o"]).arg(&again).ok();
    assert!(bytes == fs::read(&again).expect("read"), "an image of it has the same tree");
    store.rootfs_tool().args(["export", "none", "-o", "x.tar"]).fails(1).complains("No such image: none");
    assert!(!store.scratch.join("x.tar").exists());
}

/// Give the image of a name another manifest beside the one that it has, under another name.
fn again(store: &Store, name: &str, other: &str) {
    let read = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("read JSON")).expect("read JSON")
    };
    let (layout, blobs) = (store.path().join("index.json"), store.path().join("blobs/sha256"));
    let mut index = read(&layout);
    let entries = index["manifests"].as_array_mut().expect("manifests");
    let named = |e: &&serde_json::Value| e["annotations"]["org.opencontainers.image.ref.name"] == name;
    let mut entry = entries.iter().find(named).expect("the image").clone();
    let digest = entry["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let mut manifest = read(&blobs.join(digest));
    manifest["annotations"]["again"] = "yes".into();
    let text = manifest.to_string();
    let sum: String = Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(blobs.join(&sum), &text).expect("write the manifest");
    entry["digest"] = format!("sha256:{sum}").into();
    entry["size"] = text.len().into();
    entry["annotations"]["org.opencontainers.image.ref.name"] = other.into();
    entries.push(entry);
    fs::write(layout, index.to_string()).expect("write the index");
}

#[test]
fn prune_says_what_goes_and_leaves_what_has_a_name_or_a_container() {
    let store = with_image();
    let recipe = Scratch::new("recipe");
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nfile = { \"x\" = \"1\" }\n[config]\nlabels = { kind = \"test\" }\n",
    );
    let compose = || store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "x", "-q"]).ok();
    compose();
    let before = store.rootfs_tool().words("images -q").ok().stdout;
    store.rootfs_tool().arg("prune").stdin("n\n").ok();
    store
        .rootfs_tool()
        .arg("prune")
        .stdin("")
        .ok()
        .complains("WARNING! This will remove all dangling images");
    store.rootfs_tool().words("prune -f").ok().prints("Total reclaimed space: 0B");
    let dry = store.rootfs_tool().words("prune -a --dry-run --filter label=kind=test").ok();
    let dry = dry.prints("untagged: localhost/x:latest").prints("blob: sha256:").prints("layer: ");
    assert!(!dry.stdout.contains("localhost/app"), "{}", dry.stdout);
    assert_eq!(store.rootfs_tool().words("images -q").ok().stdout, before, "nothing was changed");
    store.rootfs_tool().words("prune -a -f --filter until=1h").ok().prints("reclaimed space: 0B");
    store
        .rootfs_tool()
        .words("prune -a -f --filter label!=kind")
        .ok()
        .prints("untagged: localhost/app:latest");
    store.rootfs_tool().arg("verify").ok().prints("localhost/x:latest  good");
    store.rootfs_tool().words("prune -a -f --filter age=1").fails(2).complains("until=TIME");
    store.rootfs_tool().words("prune -a").stdin("y\n").ok().prints("untagged: localhost/x:latest");
    let blobs = fs::read_dir(store.path().join("blobs/sha256")).expect("list").count();
    assert_eq!(blobs, 0);
    if need(Privilege::Containers)
        && let Some(image) = Image::busybox()
    {
        let _image = image.compose(&store, "box");
        store.runner().words("run --name keeper box true").ok();
        store.rootfs_tool().words("prune -a -f").ok();
        store.rootfs_tool().words("images").ok().prints("localhost/box");
        // The same image by another manifest, which nobody uses: all that goes is its name.
        again(&store, "localhost/box:latest", "localhost/again:latest");
        let gone = store.rootfs_tool().words("prune -a -f").ok().prints("untagged: localhost/again:latest");
        assert!(!gone.stdout.contains("deleted: "), "{gone}");
        store.runner().words("rm keeper").ok();
        store.rootfs_tool().words("prune -a -f").ok().prints("untagged: localhost/box:latest");
    }
}

#[test]
fn du_tells_what_is_shared_and_what_is_wasted() {
    let store = with_image();
    let recipe = Scratch::new("recipe");
    let big = "x".repeat(5000);
    recipe.write(
        "rootfs.toml",
        format!("[[layer]]\nimage = \"app\"\n[[layer]]\nfile = {{ \"big\" = \"{big}\" }}\n"),
    );
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "more", "-q"]).ok();
    store.rootfs_tool().arg("du").ok().prints("WASTED").prints("localhost/more").prints("in all");
    let of = |name: &str| store.rootfs_tool().args(["du", "--json", name]).ok().json()[0].clone();
    let (app, more) = (of("app"), of("more"));
    // etc/kept and the two files of opt, ten bytes each; etc/gone lives on under its other name.
    assert_eq!(app["Wasted"].as_u64(), Some(30), "{app}");
    assert!(more["Unique"].as_u64() >= Some(5000), "{more}");
    assert!(app["Shared"].as_u64() > app["Unique"].as_u64(), "{app}");
    store.rootfs_tool().words("du none").fails(1).complains("No such image: none");
}

#[test]
fn diff_tells_what_was_added_changed_and_deleted() {
    let store = with_image();
    let recipe = Scratch::new("recipe");
    recipe.write(
        "rootfs.toml",
        "[[layer]]\nimage = \"app\"\n[[layer]]\nfile = { \"etc/kept\" = \"other\", \"etc/more\" = \"1\" }\n",
    );
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "next", "-q"]).ok();
    let rows = |a: &str, b: &str| store.rootfs_tool().args(["diff", "--json", a, b]).ok().json();
    let kinds = |rows: serde_json::Value| -> Vec<String> {
        let all = rows.as_array().expect("a list").clone();
        let files = all.iter().filter(|r| r["Path"] != "/etc" && r["Path"] != "/");
        files
            .map(|r| format!("{} {}", r["Kind"].as_str().unwrap_or("?"), r["Path"].as_str().unwrap_or("?")))
            .collect()
    };
    assert_eq!(kinds(rows("app", "next")), ["C /etc/kept", "A /etc/more"]);
    assert_eq!(kinds(rows("next", "app")), ["C /etc/kept", "D /etc/more"]);
    assert!(kinds(rows("app", "app")).is_empty());
    store.rootfs_tool().words("diff app next").ok().prints("A       1B  /etc/more").prints("paths");
    store.rootfs_tool().words("diff app none").fails(1).complains("No such image: none");
}

#[test]
fn a_mounted_image_is_seen_whole_and_is_in_use_until_it_is_unmounted() {
    if !need(Privilege::Root) {
        return;
    }
    let store = with_image();
    let at = std::path::PathBuf::from(store.rootfs_tool().words("mount app").ok().text());
    assert_eq!(fs::read_to_string(at.join("etc/kept")).expect("read"), "replaced");
    assert!(!at.join("etc/gone").exists() && !at.join("opt/old").exists() && at.join("opt/new").exists());
    let read_only = fs::write(at.join("x"), "").expect_err("a write");
    assert_eq!(read_only.raw_os_error(), Some(nix::libc::EROFS));
    assert_eq!(store.rootfs_tool().words("mount app").ok().text(), at.display().to_string(), "once");
    store.rootfs_tool().arg("mount").ok().prints(&format!("localhost/app:latest  {}", at.display()));
    let listed = store.rootfs_tool().words("mount --json").ok().json();
    assert_eq!(listed[0]["Image"], "localhost/app:latest");

    store.rootfs_tool().words("prune -a -f").ok();
    store.rootfs_tool().words("images").ok().prints("localhost/app");
    store.rootfs_tool().words("rmi app").fails(1).complains("it is mounted on");
    store.rootfs_tool().words("rmi -f app").ok();
    store.rootfs_tool().words("prune -a -f").ok();
    assert!(at.join("opt/new").exists(), "what is mounted stays");
    let open = fs::File::open(at.join("opt/new")).expect("open");
    store.rootfs_tool().arg("umount").arg(&at).fails(1).complains("has a file of it open");
    drop(open);
    store.rootfs_tool().words("umount -a").ok();
    assert!(!at.exists());
    store.rootfs_tool().words("umount app").fails(1).complains("app is not mounted");
    store.rootfs_tool().words("umount").fails(2);
    store.rootfs_tool().words("prune -a -f").ok();
    assert_eq!(fs::read_dir(store.path().join("blobs/sha256")).expect("list").count(), 0);
    // What a reboot left is swept.
    fs::create_dir(&at).expect("mkdir");
    store.rootfs_tool().words("prune -f").ok();
    assert!(!at.exists());
}

#[test]
fn an_ordinary_user_who_mounts_is_told_what_to_do_instead() {
    if !need(Privilege::OrdinaryUser) {
        return;
    }
    let store = with_image_in(Store::of_user("verbs"));
    store
        .rootfs_tool()
        .words("mount app")
        .fails(1)
        .complains("only root may mount")
        .complains("copy app dir:");
    assert_eq!(fs::read_dir(store.path().join("mounts")).expect("list").count(), 0);
}

#[test]
fn what_is_no_error_for_docker_is_none_here() {
    let store = with_image();
    store.rootfs_tool().words("rmi none").fails(1).complains("No such image: none");
    store.rootfs_tool().words("rmi -f none").ok().complains("No such image: none");
    let table = store.rootfs_tool().words("images").ok().stdout;
    assert_eq!(store.rootfs_tool().words("images --format table").ok().stdout, table);
    store.rootfs_tool().words("save -o /nowhere/x.tar app").fails(1).complains("open(\"/nowhere/x.tar\"");
}
