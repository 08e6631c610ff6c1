//! `rootfs-tool compose`, as its users type it.

use std::path::Path;

use coracle_tests::dockerd::Dockerd;
use coracle_tests::{Cmd, Privilege, Scratch, Store, need, workspace};

/// A recipe in a folder of its own.
fn recipe(text: &str) -> Scratch {
    let scratch = Scratch::new("recipe");
    scratch.write("rootfs.toml", text);
    scratch
}

fn id(store: &Store, name: &str) -> String {
    store.rootfs_tool().args(["inspect", "--format", "{{.Digest}}", name]).ok().text().to_owned()
}

/// A path in any applied layer of the store.
fn in_a_layer(store: &Store, path: &str) -> bool {
    let layers = std::fs::read_dir(store.path().join("layers/overlay")).expect("layers");
    layers.flatten().any(|l| l.path().join("fs").join(path).symlink_metadata().is_ok())
}

#[test]
fn an_image_gets_every_name_that_it_is_composed_with() {
    let store = Store::new("compose");
    let recipe = Scratch::new("recipe");
    recipe.write("rootfs.toml", "name = \"own\"\n[[layer]]\nfile = { \"x\" = \"1\" }\n");
    let made = store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "a", "-t", "b:2"]).ok();
    made.prints("localhost/a:latest  ").prints("localhost/b:2  ");
    assert_eq!(store.image_id("a"), store.image_id("b:2"));
    store.rootfs_tool().words("inspect own").fails(1);
}

#[test]
fn the_shell_recipe_brings_its_programs_with_what_they_load() {
    let store = Store::new("compose");
    store.compose("shell");
    for path in ["etc/passwd", "tmp", "usr/bin/id"] {
        assert!(in_a_layer(&store, path), "{path}");
    }
    let out = store.rootfs_tool().args(["inspect", "--format", "{{json .Config.Cmd}}", "shell"]).ok();
    assert_eq!(out.text(), "[\"/bin/sh\"]");
}

#[test]
fn composing_twice_gives_the_same_digest_in_any_store_and_makes_no_layer_again() {
    let (a, b) = (Store::new("compose"), Store::new("compose"));
    let folder = recipe("[[layer]]\nstandard = true\n[[layer]]\ndir = \"r\"\n[[layer]]\nbin = [\"sh\"]\n");
    folder.write("r/etc/x", "1");
    let compose = |s: &Store| s.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    let first = compose(&a);
    assert!(!first.text().contains("cached"), "{}", first.text());
    let digest = id(&a, "x");
    assert_eq!(compose(&a).text().matches("cached").count(), 3);
    assert_eq!(id(&a, "x"), digest);
    compose(&b);
    assert_eq!(id(&b, "x"), digest);
    folder.write("r/etc/x", "2");
    assert_eq!(compose(&a).text().matches("cached").count(), 2, "what changed is made again");
    assert_ne!(id(&a, "x"), digest);
}

#[test]
fn what_is_wrong_with_a_recipe_is_one_line_that_names_it() {
    let store = Store::new("compose");
    for (text, says) in [
        ("[[layer]\n", "line 1"),
        ("[[layer]]\nbin = [\"sh\"]\ncolour = 1\n", "line 3: unknown field `colour`"),
        ("[[layer]]\ndir = \"missing\"\n", "missing"),
        ("[[layer]]\ntar = \"missing.tar\"\n", "missing.tar"),
        ("[[layer]]\ntar = \"/dev/zero\"\n", "not a plain file"),
        ("[[layer]]\nbin = [\"no-such-program\"]\n", "find the program no-such-program"),
        ("[[layer]]\nimage = \"no-such-image\"\n", "no-such-image"),
    ] {
        let out = store.rootfs_tool().arg("compose").arg(recipe(text).path()).arg("-tx").fails(1);
        let out = out.complains(says);
        drop(out);
    }
    store.rootfs_tool().args(["compose", "/no/such/folder"]).fails(1).complains("/no/such/folder");
    store.rootfs_tool().arg("images").ok();
}

#[test]
fn what_a_machine_lacks_may_be_left_out_and_is_said() {
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\nbin = [\"sh\", \"no-such-program?\"]\n");
    let out = store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    out.prints("left out: this machine has no no-such-program");
}

#[test]
fn a_hostile_program_is_refused_and_the_store_stays_whole() {
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\nbin = [\"./evil\"]\n");
    let headers = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[2, 0, 62, 0], &[0xff; 44]].concat();
    let path = folder.write("evil", headers);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("chmod");
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).fails(1).complains("ELF");
    assert_eq!(store.rootfs_tool().args(["images", "-q"]).ok().text(), "");
}

#[test]
fn an_archive_that_climbs_out_leaves_nothing_outside() {
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\ntar = \"evil.tar\"\n");
    let mut header = [0u8; 512];
    header[..21].copy_from_slice(b"../../../../escaped.x");
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    folder.write("evil.tar", [&header[..], &[0; 1024]].concat());
    // Either it is refused, or the name is taken as one inside the root.
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).run();
    for up in store.path().ancestors() {
        assert!(!up.join("escaped.x").exists(), "{}", up.display());
    }
}

#[test]
fn users_get_a_line_in_passwd_and_a_home() {
    let store = Store::new("compose");
    let folder = recipe(
        "[[layer]]\nstandard = true\n[[layer]]\nusers = [{ name = \"me\", uid = 1000, home = \"/home/me\" }]\n\
         [config]\nuser = \"me\"\nports = [80]\nenv = { A = \"b\" }\n",
    );
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    assert!(in_a_layer(&store, "home/me"));
    let config = store.rootfs_tool().args(["inspect", "x"]).ok().json()[0]["Config"].clone();
    assert_eq!(config["User"], "me");
    assert!(config["ExposedPorts"]["80/tcp"].is_object());
    assert!(config["Env"].as_array().expect("env").iter().any(|e| e == "A=b"));
}

#[test]
fn an_image_is_the_base_of_another_and_shares_its_layers() {
    let store = Store::new("compose");
    let base = recipe("[[layer]]\nstandard = true\n[config]\ncmd = [\"one\"]\n");
    store.rootfs_tool().arg("compose").arg(base.path()).args(["-t", "base"]).ok();
    let next = recipe("[[layer]]\nimage = \"base\"\n[[layer]]\nfile = { \"etc/y\" = \"1\" }\n");
    store.rootfs_tool().arg("compose").arg(next.path()).args(["-t", "next"]).ok();
    let layers = |name: &str| {
        store.rootfs_tool().args(["inspect", name]).ok().json()[0]["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .clone()
    };
    assert_eq!(layers("next")[0], layers("base")[0]);
    assert_eq!(layers("next").len(), 2);
    let config = store.rootfs_tool().args(["inspect", "--format", "{{json .Config.Cmd}}", "next"]).ok();
    assert_eq!(config.text(), "[\"one\"]");
}

#[test]
fn a_killed_compose_leaves_a_store_that_the_next_one_uses() {
    let store = Store::new("compose");
    for wait in [1, 5, 20, 60, 150] {
        let recipe = coracle_tests::workspace().join("images/shell");
        let running = store.rootfs_tool().arg("compose").arg(recipe).args(["-t", "shell"]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait(std::time::Duration::from_secs(60)).expect("its end");
        store.rootfs_tool().arg("images").ok();
    }
    store.compose("shell");
    assert!(!id(&store, "shell").is_empty());
}

#[test]
fn an_ordinary_user_composes_into_a_store_of_their_own() {
    if !need(Privilege::OrdinaryUser) {
        return;
    }
    let store = Store::of_user("compose");
    let folder = recipe("[[layer]]\nstandard = true\n[[layer]]\nbin = [\"sh\"]\n");
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    let root = Store::new("compose");
    root.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    assert_eq!(id(&store, "x"), id(&root, "x"), "who composes leaves no trace");
}

#[test]
fn other_tools_read_the_store_as_it_lies_on_disk() {
    if !need(Privilege::Peer("skopeo")) {
        return;
    }
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\nstandard = true\n");
    store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    let from = format!("oci:{}:localhost/x:latest", Path::new(&store.path()).display());
    let out = coracle_tests::Cmd::new("skopeo").args(["inspect", &from]).ok();
    assert_eq!(out.json()["Digest"], id(&store, "x"));
}

#[test]
fn a_library_that_is_nowhere_is_named_with_who_needs_it() {
    if !need(Privilege::Peer("cc")) {
        return;
    }
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\nbin = [\"./prog\"]\n");
    folder.write("lib.c", "int f(void) { return 0; }");
    folder.write("prog.c", "int f(void); int main(void) { return f(); }");
    let cc = |line: &str| coracle_tests::Cmd::new("cc").words(line).dir(folder.path()).ok();
    cc("-shared -fPIC -o libgone.so lib.c");
    cc("-o prog prog.c -L. -lgone");
    let compose = || store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]);
    std::fs::remove_file(folder.join("libgone.so")).expect("remove the library");
    compose().fails(1).complains("find the library libgone.so that").complains("/prog needs");
    // Beside the program it is found by its RUNPATH, and goes along to where the program will find it.
    cc("-shared -fPIC -o libgone.so lib.c");
    cc("-o prog prog.c -L. -lgone -Wl,-rpath,$ORIGIN");
    compose().ok();
    let beside = folder.path().strip_prefix("/").expect("absolute").join("libgone.so");
    assert!(!in_a_layer(&store, &beside.display().to_string()), "the recipe's folder is not in the image");
    let programs = std::fs::read_dir(store.path().join("layers/overlay")).expect("layers").flatten();
    let ran = programs.map(|l| {
        coracle_tests::Cmd::new("chroot").arg(l.path().join("fs")).arg("/usr/bin/prog").run().code()
    });
    assert!(!nix::unistd::geteuid().is_root() || ran.eq([0]));
}

#[test]
fn a_full_disk_is_said_and_leaves_a_valid_store() {
    if !need(Privilege::Root) {
        return;
    }
    let store = Store::new("compose");
    std::fs::create_dir(store.path()).expect("the store's folder");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(None::<&str>, &store.path(), Some("tmpfs"), flags, Some("size=3m"))
        .expect("mount a tmpfs");
    let shell = coracle_tests::workspace().join("images/shell");
    store
        .rootfs_tool()
        .arg("compose")
        .arg(shell)
        .args(["-t", "x"])
        .fails(1)
        .complains("No space left on device");
    store.rootfs_tool().words("images -q").ok();
    let small = recipe("[[layer]]\nstandard = true\n");
    store.rootfs_tool().arg("compose").arg(small.path()).args(["-t", "x"]).ok();
}

#[test]
fn the_recipe_that_the_documentation_shows_composes() {
    let store = Store::new("compose-shown");
    store.compose("shell");
    let text = std::fs::read_to_string(workspace().join("images/README.md")).expect("images/README.md");
    let recipe = text.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).expect("a recipe");
    let folder = Scratch::new("shown");
    folder.write("rootfs.toml", recipe);
    folder.write("files/one", "1");
    Cmd::new("tar").args(["-czf", "more.tar.gz", "files"]).dir(folder.path()).ok();
    store.rootfs_tool().arg("compose").arg(folder.path()).ok();
    let config = store.rootfs_tool().words("inspect demo").ok().json()[0]["Config"].clone();
    assert_eq!(config["User"], "app", "{config}");
    assert_eq!(config["WorkingDir"], "/srv", "{config}");
}

#[test]
fn a_socket_in_a_folder_is_left_out_and_said() {
    let store = Store::new("compose");
    let folder = recipe("[[layer]]\ndir = \"r\"\n");
    folder.write("r/etc/x", "1");
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("r/etc/socket")).expect("bind");
    let out = store.rootfs_tool().arg("compose").arg(folder.path()).args(["-t", "x"]).ok();
    let said = format!("{}{}", out.stdout, out.stderr);
    assert!(said.contains("r/etc/socket: a socket was left out"), "{said}");
    assert!(in_a_layer(&store, "etc/x") && !in_a_layer(&store, "etc/socket"));
}

#[test]
fn every_layer_can_be_extracted_alone_whatever_links_its_recipe_goes_through() {
    let folders = [
        recipe("name = \"one\"\n[[layer]]\nbin = [\"env\"]\nlink = { \"bin/foo\" = \"env\" }\n"),
        recipe("name = \"two\"\n[[layer]]\nbin = [\"env\", \"sh\"]\nfile = { \"bin/motd\" = \"x\" }\n"),
    ];
    let mut all: Vec<_> = folders.iter().map(|f| f.path().to_owned()).collect();
    if need(Privilege::Peer("busybox")) {
        all.push(workspace().join("images/busybox"));
    }
    for folder in all {
        let store = Store::new("compose");
        store.rootfs_tool().arg("compose").arg(&folder).ok();
        let mut layers = 0;
        for blob in std::fs::read_dir(store.path().join("blobs/sha256")).expect("blobs").flatten() {
            if std::fs::read(blob.path()).expect("a blob").starts_with(b"{") {
                continue;
            }
            layers += 1;
            let into = Scratch::new("extracted");
            Cmd::new("tar").arg("-xf").arg(blob.path()).arg("-C").arg(into.path()).ok();
        }
        assert!(layers > 0, "{}", folder.display());
    }
}

#[test]
fn docker_loads_what_is_composed_of_one_program_and_its_links() {
    if !need(Privilege::Root) || !need(Privilege::Peer("dockerd")) || !need(Privilege::Peer("busybox")) {
        return;
    }
    let daemon = Dockerd::start(&["--storage-driver=vfs"]);
    let store = Store::new("compose");
    store.compose("busybox");
    let file = daemon.scratch.join("bb.tar").display().to_string();
    store.rootfs_tool().args(["save", "-o", &file, "busybox"]).ok();
    daemon.docker(&format!("load -i {file}")).ok().prints("Loaded image");
}
