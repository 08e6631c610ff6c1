//! `deb` layers from a repository of the test's own: what is taken, what is refused, and what the lock says. Nothing is
//! configured, so that this takes no system.

use std::path::Path;

use coracle_tests::debs::{PEERS, Repository};
use coracle_tests::{Cmd, Output, Privilege, Scratch, Store, need};

fn can() -> bool {
    PEERS.iter().all(|peer| need(Privilege::Peer(peer)))
}

/// A recipe for packages of the suite `test`.
fn recipe(packages: &str, more: &str) -> Scratch {
    let folder = Scratch::new("recipe");
    let names: Vec<String> = packages.split_whitespace().map(|p| format!("{p:?}")).collect();
    let deb =
        format!("deb = {{ suite = \"test\", configure = false, packages = [{}]{more} }}", names.join(", "));
    folder.write("rootfs.toml", format!("[[layer]]\n{deb}\n"));
    folder
}

fn compose(store: &Store, repository: &Repository, folder: &Path) -> Cmd {
    let key = repository.scratch.join("good.gpg");
    let cmd = store.rootfs_tool().arg("compose").arg(folder).args(["-t", "x", "--mirror", &repository.url()]);
    cmd.arg("--keyring").arg(key)
}

fn list(store: &Store) -> Vec<String> {
    let tar = store.path().with_file_name("x.tar");
    store.rootfs_tool().args(["export", "-o"]).arg(&tar).arg("x").ok();
    let listed = Cmd::new("tar").arg("-tf").arg(&tar).ok();
    listed.stdout.lines().map(|l| l.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

/// The packages that a lock names.
fn locked(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("rootfs.lock")).expect("a lock");
    let name = |l: &str| Some(l.split_once("{ name = \"")?.1.split('"').next()?.to_owned());
    text.lines().filter_map(name).collect()
}

fn refused(out: Output, says: &str) {
    let lines = out.stderr.trim().lines().count();
    assert_eq!(lines, 1, "one line: {}", out.stderr);
    drop(out.complains(says));
}

#[test]
fn packages_of_every_compression_become_a_layer_that_is_locked_and_the_same_again() {
    if !can() {
        return;
    }
    let repository = Repository::new();
    for (n, compression) in ["none", "gzip", "xz", "zstd"].into_iter().enumerate() {
        let needs = if n > 0 { format!("Depends: p{}\n", n - 1) } else { String::new() };
        let big = "x".repeat(300_000);
        let files = [(&*format!("/usr/share/p{n}/big"), &*big), (&*format!("/bin/p{n}"), "#!/bin/sh\n")];
        repository.package(&format!("Package: p{n}\n{needs}"), &files, compression);
    }
    repository.publish("", Some("good"));
    let (a, b) = (Store::new("debs"), Store::new("debs"));
    let folder = recipe("p3", "");
    compose(&a, &repository, folder.path()).ok().prints("4 packages locked");
    assert_eq!(locked(folder.path()), ["p0", "p1", "p2", "p3"]);
    let paths = list(&a);
    for path in ["usr/bin/p0", "usr/bin/p3", "usr/share/p2/big", "bin", "var/lib/dpkg/info/p1.list"] {
        assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
    }
    // Another store, from the lock, without any index.
    std::fs::remove_dir_all(repository.scratch.join("dists")).expect("remove the index");
    compose(&b, &repository, folder.path()).arg("--locked").ok();
    assert_eq!(a.image_id("x"), b.image_id("x"));
    compose(&a, &repository, folder.path()).ok().prints("cached");
    // What was fetched stays until everything is to go.
    let packages = || std::fs::read_dir(b.path().join("cache/deb/sha256")).expect("the cache").count();
    b.rootfs_tool().words("prune --force").ok();
    assert_eq!(packages(), 4);
    b.rootfs_tool().words("prune --force --all").ok();
    assert_eq!(packages(), 0);
    // The recipe asks for something else.
    let text = std::fs::read_to_string(folder.join("rootfs.toml")).expect("the recipe");
    folder.write("rootfs.toml", text.replace("\"p3\"", "\"p2\""));
    refused(
        compose(&a, &repository, folder.path()).arg("--locked").fails(1),
        "not locked as the recipe asks",
    );
    refused(compose(&a, &repository, folder.path()).fails(1), "404");
}

#[test]
fn an_index_that_nobody_trusted_signed_or_that_is_old_or_altered_is_refused_in_one_line() {
    if !can() {
        return;
    }
    let repository = Repository::new();
    repository.package("Package: a\n", &[("/usr/share/a", "1")], "gzip");
    let release = repository.scratch.join("dists/test/InRelease");
    let index = repository.scratch.join("dists/test/main/binary-amd64/Packages.gz");
    let folder = recipe("a", "");
    let try_it = |says: &str| {
        let store = Store::new("debs");
        refused(compose(&store, &repository, folder.path()).arg("--update").fails(1), says);
        assert!(!folder.join("rootfs.lock").exists(), "nothing is locked of what is refused");
    };
    let bend = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).expect("read");
        assert!(text.contains(from), "{from} in {text}");
        std::fs::write(path, text.replacen(from, to, 1)).expect("write");
    };
    repository.publish("", None);
    try_it("it is not signed");
    repository.publish("", Some("other"));
    try_it("no keyring has the key that signed it");
    repository.publish("", Some("good"));
    bend(&release, "Suite: test", "Suite: tesT");
    try_it("it is not what was signed");
    repository.publish("", Some("good"));
    bend(&release, "-----BEGIN PGP SIGNED", "Suite: evil\n\n-----BEGIN PGP SIGNED");
    try_it("it is not signed");
    repository.publish("", Some("good"));
    bend(&release, "-----END PGP SIGNATURE-----", "-----END PGP SIGNATURE-----\nSuite: evil");
    try_it("something stands behind it");
    repository.publish(
        "Date: Sat, 10 May 2025 09:53:06 UTC\nValid-Until: Sat, 17 May 2025 09:53:06 UTC\n",
        Some("good"),
    );
    try_it("it has expired (2025-05-17T09:53:06Z)");
    repository.publish("Date: Sat, 10 May 2093 09:53:06 UTC\n", Some("good"));
    try_it("from a time to come");
    repository.publish("Suite: other\nCodename: another\n", Some("good"));
    try_it("it is that of");
    repository.publish("Architectures: arm64\n", Some("good"));
    std::fs::remove_file(&index).expect("remove");
    try_it("404");
    repository.publish("", Some("good"));
    std::fs::write(&index, "not what was signed").expect("write");
    try_it("it is not what the index says");
    repository.publish("", Some("good"));
    std::fs::write(repository.scratch.join("pool/a_1.deb"), "another").expect("write");
    let store = Store::new("debs");
    refused(compose(&store, &repository, folder.path()).fails(1), "it is not what the index says");
}

#[test]
fn an_index_older_than_the_one_before_is_refused_and_a_detached_signature_does_as_well() {
    if !can() {
        return;
    }
    let repository = Repository::new();
    repository.package("Package: a\n", &[("/usr/share/a", "1")], "gzip");
    let store = Store::new("debs");
    let folder = recipe("a", "");
    repository.publish("Date: Sat, 10 May 2025 09:53:06 UTC\n", Some("good"));
    compose(&store, &repository, folder.path()).ok();
    let dists = repository.scratch.join("dists/test");
    repository.publish("Date: Fri, 09 May 2025 09:53:06 UTC\n", Some("good"));
    refused(
        compose(&store, &repository, folder.path()).arg("--update").fails(1),
        "somebody may be replaying it",
    );
    repository.publish("Date: Sun, 11 May 2025 09:53:06 UTC\n", None);
    let at = |name: &str| dists.join(name).display().to_string();
    repository.gpg(&[
        "-u",
        "good",
        "--armor",
        "--output",
        &at("Release.gpg"),
        "--detach-sign",
        &at("Release"),
    ]);
    compose(&store, &repository, folder.path()).arg("--update").ok();
    std::fs::write(at("Release"), "Suite: test\n").expect("write");
    refused(
        compose(&store, &repository, folder.path()).arg("--update").fails(1),
        "it is not what was signed",
    );
}

#[test]
fn a_package_that_would_write_elsewhere_or_over_another_is_refused() {
    if !can() {
        return;
    }
    let repository = Repository::new();
    repository.package("Package: a\n", &[("/usr/share/x", "a")], "gzip");
    repository.package("Package: b\n", &[("/usr/share/x", "b")], "gzip");
    repository.package("Package: c\nReplaces: a\n", &[("/usr/share/x", "c")], "gzip");
    repository.package("Package: e\nDepends: none-such\n", &[], "gzip");
    // A name that leads out of the root, in an archive that dpkg-deb would not make.
    let evil = repository.package("Package: d\n", &[("/usr/share/dd/evil", "d")], "none");
    let bytes = std::fs::read(&evil).expect("read");
    let (from, to) = (&b"./usr/share/dd/evil"[..], &b"./usr/share/../../e"[..]);
    let at = bytes.windows(from.len()).position(|w| w == from).expect("the name");
    let mut bent = bytes.clone();
    bent[at..at + to.len()].copy_from_slice(to);
    let header = at - at % 512 % 512;
    let start = (0..512).map(|n| at - n).find(|s| bytes[s + 257..].starts_with(b"ustar")).unwrap_or(header);
    let sum: u32 =
        (0..512).map(|n| if (148..156).contains(&n) { 32 } else { u32::from(bent[start + n]) }).sum();
    bent[start + 148..start + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    std::fs::write(&evil, bent).expect("write");
    repository.publish("", Some("good"));
    let fails = |packages: &str, says: &str| {
        let store = Store::new("debs");
        refused(compose(&store, &repository, recipe(packages, "").path()).fails(1), says);
    };
    fails("a b", "\"usr/share/x\" is in a as well");
    fails("d", "leads out of it");
    fails("e", "e needs none-such: no index has it");
    fails("f", "find the package f: no index has it");
    let store = Store::new("debs");
    compose(&store, &repository, recipe("a c", "").path()).ok();
    assert!(list(&store).iter().any(|p| p == "usr/share/x"));
}

#[test]
fn the_set_is_the_one_that_apt_would_install() {
    if !can() || !need(Privilege::Peer("apt-get")) {
        return;
    }
    let repository = Repository::new();
    for control in [
        "Package: base\nEssential: yes\nDepends: libc",
        "Package: libc\nVersion: 2:1-1",
        "Package: app\nDepends: libc (>= 2:1), awk, mta | mail-thing, lib-x (>= 2) | lib-y\nRecommends: nice",
        "Package: nice\nDepends: lib-y",
        "Package: lib-x\nVersion: 1",
        "Package: lib-x\nVersion: 3~rc1",
        "Package: lib-y",
        "Package: mawk\nProvides: awk\nPriority: required",
        "Package: gawk\nProvides: awk",
        "Package: mail-thing\nProvides: mta\nConflicts: mta",
        "Package: other-mail\nProvides: mta\nConflicts: mta\nPriority: important",
        "Package: tool\nDepends: a | b, c\nConflicts: lib-x (<< 3)",
        "Package: a\nConflicts: c",
        "Package: b",
        "Package: c",
        "Package: versioned\nDepends: api (>= 2)",
        "Package: api-one\nProvides: api (= 1)",
        "Package: api-two\nProvides: api (= 2.1)",
        "Package: breaks\nBreaks: mail-thing (<= 1)\nDepends: mta",
        "Package: circle\nDepends: round",
        "Package: round\nDepends: circle",
    ] {
        repository.package(control, &[], "none");
    }
    repository.publish("", Some("good"));
    let (store, apt) = (Store::new("debs"), Scratch::new("apt"));
    for dir in ["lists/partial", "cache/archives/partial", "etc"] {
        apt.mkdir(dir);
    }
    apt.write("status", "");
    let key = repository.scratch.join("good.gpg");
    apt.write("list", format!("deb [signed-by={}] {} test main\n", key.display(), repository.url()));
    let at = |name: &str| apt.join(name).display().to_string();
    let get = |words: &str| {
        let mut cmd = Cmd::new("apt-get");
        for (name, value) in [
            ("Dir::State::lists", at("lists")),
            ("Dir::Cache", at("cache")),
            ("Dir::State::status", at("status")),
            ("Dir::Etc::sourcelist", at("list")),
            ("Dir::Etc::sourceparts", "-".into()),
            ("APT::Architecture", "amd64".into()),
            ("APT::Architectures", "amd64".into()),
            ("APT::Sandbox::User", "root".into()),
            ("APT::Install-Recommends", "false".into()),
        ] {
            cmd = cmd.arg("-o").arg(format!("{name}={value}"));
        }
        cmd.words(words)
    };
    get("update").ok();
    for wanted in [
        "app",
        "app gawk",
        "app other-mail",
        "tool b",
        "app tool b",
        "versioned",
        "breaks",
        "circle",
        "app lib-x=1",
        "base",
    ] {
        let installs = get(&format!("install -s {wanted}")).run();
        let mut theirs: Vec<String> = installs
            .stdout
            .lines()
            .filter_map(|l| Some(l.strip_prefix("Inst ")?.split(' ').next()?.to_owned()))
            .collect();
        theirs.sort();
        let folder = recipe(wanted, "");
        let made = compose(&store, &repository, folder.path()).run();
        let ours = if made.code() == 0 { locked(folder.path()) } else { Vec::new() };
        assert_eq!(ours, theirs, "{wanted}: {} {}", made.stderr, installs.stderr);
    }
    // apt gives up where the first alternative quarrels with what is needed as well; another may do.
    let folder = recipe("tool", "");
    compose(&store, &repository, folder.path()).ok();
    assert_eq!(locked(folder.path()), ["b", "c", "tool"]);
}

#[test]
fn slimming_leaves_out_what_is_excluded_and_keeps_what_is_included() {
    if !can() {
        return;
    }
    let repository = Repository::new();
    let files = [
        ("/usr/share/doc/a/README", "1"),
        ("/usr/share/doc/a/copyright", "1"),
        ("/usr/share/man/de/a", "1"),
        ("/etc/a.conf", "1\n"),
        ("DEBIAN/conffiles", "/etc/a.conf\n"),
    ];
    repository.package("Package: a\nMulti-Arch: same\n", &files, "xz");
    repository.publish("", Some("good"));
    let store = Store::new("debs");
    let slim = ", exclude = [\"/usr/share/doc/*\", \"/usr/share/man/*\"], include = [\"*/copyright\"], sources = true";
    compose(&store, &repository, recipe("a", slim).path()).ok();
    let paths = list(&store);
    let has = |path: &str| paths.iter().any(|p| p == path);
    assert!(has("usr/share/doc/a/copyright") && !has("usr/share/doc/a/README"), "{paths:?}");
    assert!(has("usr/share/man") && !has("usr/share/man/de"), "{paths:?}");
    assert!(
        has("etc/apt/sources.list.d/debian.sources") && has("var/lib/dpkg/info/a:amd64.conffiles"),
        "{paths:?}"
    );
    let kept = Store::new("debs");
    compose(&kept, &repository, recipe("a", ", keep = [\"/etc/a*\"]").path()).ok();
    assert_eq!(list(&kept), ["", "etc", "etc/a.conf"]);
    // dpkg reads what was written: of its packages, its files and its configuration files.
    let root = Scratch::new("root");
    let tar = store.path().with_file_name("x.tar");
    Cmd::new("tar").arg("-C").arg(root.path()).arg("-xf").arg(&tar).ok();
    let dpkg = |words: &str| {
        Cmd::new("dpkg-query").arg(format!("--admindir={}/var/lib/dpkg", root.path().display())).words(words)
    };
    assert_eq!(
        dpkg("-W -f ${Package}:${Status}:${Conffiles}").ok().text(),
        "a:install ok installed: /etc/a.conf b026324c6904b2a9cb4b88d6d61c81d1"
    );
    dpkg("-L a").ok().prints("/usr/share/doc/a/README");
}
