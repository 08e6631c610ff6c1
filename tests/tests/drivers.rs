//! Storage drivers: whichever a store has, an image is the same in it, and so is what is made of it.

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Scratch, Store, btrfs, need};

/// Sets and prints extended attributes, which busybox cannot.
const XATTR: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
int main(int argc, char **argv) {
    char value[99] = "";
    if (argc > 3) return setxattr(argv[1], argv[2], argv[3], strlen(argv[3]), 0) ? perror(argv[1]), 1 : 0;
    if (getxattr(argv[1], argv[2], value, 98) < 0) return perror(argv[1]), 1;
    puts(value);
}
"#;

const DOCKERFILE: &str = "FROM base
RUN rm /d/gone; rm -r /op; mkdir /op; echo new >/op/new; ln /d/kept /d/hard; chmod 711 /d; mv /ren /renamed
COPY --chown=7:8 note /srv/note
RUN xattr /srv/note user.built yes; echo more >>/d/grown; rm /tofile/x; rmdir /tofile; echo f >/tofile; \
    rm /todir; mkdir /todir; echo x >/todir/x; mkfifo /fifo; ln -s nowhere /link; chown 5:6 /link; touch -d @7 /d/old
";

const SCRIPT: &str = "xattr /srv/note user.built; cat /op/* /d/hard; ls /op; echo run >/d/run; rm /op/new; \
    rm -r /renamed; mkdir /renamed; echo again >/renamed/again; ln /d/run /d/run2; xattr /d/run user.k v; \
    xattr /etc/group user.only it; chmod 600 /srv/note; mkdir -p /a/b/c; mv /todir /moved; echo z >/tofile; \
    cp /d/old /d/older; chown 9:9 /d/old";

const DIFF: &str = "A /a\nA /a/b\nA /a/b/c\nC /d\nC /d/old\nA /d/older\nA /d/run\nA /d/run2\nA /moved\nA /moved/x\n\
    C /op\nD /op/new\nC /renamed\nA /renamed/again\nD /renamed/y\nC /srv\nC /srv/note\nD /todir\nC /tofile\n";

/// What a tar holds: types, modes, owners, sizes, names and links; then all content.
fn told(tar: &std::path::Path) -> String {
    let list = Cmd::new("tar").args(["--numeric-owner", "-tvf"]).arg(tar).ok().stdout;
    let mut lines: Vec<String> = list
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            [&words[..3], &words[5..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    let sum = Cmd::new("sh").args(["-c", "tar -xOf \"$0\" | sha256sum"]).arg(tar).ok().stdout;
    lines.push(sum);
    lines.join("\n")
}

/// The image that all begin with, in an archive.
fn base(scratch: &Scratch) {
    let store = Store::new("drivers-base");
    let image = Image::busybox().expect("busybox").program("xattr", XATTR).expect("a compiler");
    image
        .file("d/kept", "base\n")
        .file("d/gone", "")
        .file("d/old", "old\n")
        .file("d/grown", "grown\n")
        .file("op/a", "")
        .file("ren/y", "y\n")
        .file("tofile/x", "")
        .file("todir", "")
        .file("bin/x", "")
        .compose(&store, "base");
    store.rootfs_tool().args(["save", "-o"]).arg(scratch.join("base.tar")).arg("base").ok();
    scratch.write("Dockerfile", DOCKERFILE);
    scratch.write("note", "note\n");
}

/// Do it all in a store with this driver. What came of it, to be compared.
fn all(driver: &str, store: &Store, from: &Scratch) -> String {
    let tool = |line: &str| store.rootfs_tool().env("CORACLE_STORAGE_DRIVER", driver).words(line);
    let runner = |line: &str| store.runner().args(["--storage-driver", driver]).words(line);
    let at = |name: &str| store.scratch.join(name);
    tool("load -q -i").arg(from.join("base.tar")).ok();
    tool("build -q --network none -t built").arg(from.path()).ok();
    let mut came = vec![runner("run --name c built sh -c").arg(SCRIPT).ok().stdout];
    let diff = runner("diff c").ok().stdout;
    assert_eq!(diff, DIFF, "{driver}");
    runner("export -o c.tar c").ok();
    came.push(told(&at("c.tar")));
    runner("commit c committed").ok();
    let attributes = "xattr /d/run2 user.k; xattr /etc/group user.only; ls -i /d | grep -c run";
    came.push(runner("run --rm committed sh -c").arg(attributes).ok().stdout);
    runner("create --name d committed true").ok();
    std::fs::write(at("into"), "into\n").expect("write");
    runner("cp into d:/a/b/into").ok();
    runner("start -a d").ok();
    runner("export -o d.tar d").ok();
    came.push(told(&at("d.tar")));
    runner("cp d:/a/b/into out").ok();
    came.push(std::fs::read_to_string(at("out")).expect("read"));
    let size = runner("ps -a --size --filter name=c --format {{.Size}}").ok().stdout;
    assert!(size.starts_with(|c: char| c.is_ascii_digit()) && !size.starts_with("0B"), "{driver}: {size}");
    let small = size.split(' ').next().is_some_and(|own| own.ends_with('B') && !own.ends_with("MB"));
    assert!(small, "{driver}: what it has written is not the image: {size}");
    let verified = tool("verify").ok().stdout;
    assert_eq!(verified.lines().filter(|l| l.ends_with("good")).count(), 3, "{driver}: {verified}");
    runner("system df").ok();
    runner("rm c d").ok();
    tool("rmi built committed base").ok();
    tool("prune -f").ok();
    for dir in ["containers", "tmp"] {
        let left = std::fs::read_dir(store.path().join(dir)).expect(dir).count();
        assert_eq!(left, 0, "{driver}: {dir}");
    }
    let folder = if driver == "fuse-overlayfs" { "overlay" } else { driver };
    let left = std::fs::read_dir(store.path().join("layers").join(folder)).expect("layers").count();
    assert_eq!(left, 0, "{driver}: layers");
    came.join("\n---\n")
}

#[test]
fn images_and_what_is_made_of_them_are_the_same_with_every_driver() {
    if !need(Privilege::Containers)
        || !need(Privilege::UserNamespaces)
        || !need(Privilege::Peer("busybox"))
        || !need(Privilege::Fuse)
    {
        return;
    }
    let from = Scratch::new("drivers");
    base(&from);
    let root = nix::unistd::geteuid().is_root();
    let on_btrfs = root && need(Privilege::Btrfs);
    let mut first: Option<String> = None;
    for user in [false, true].into_iter().filter(|user| root || !user) {
        for driver in ["overlay", "vfs", "fuse-overlayfs", "btrfs"] {
            let make = if user { Store::of_user } else { Store::new };
            let store = make("drivers-store");
            if driver == "btrfs" {
                if !on_btrfs {
                    continue;
                }
                btrfs::mount_over(&store.scratch, if user { "user_subvol_rm_allowed" } else { "rw" });
            }
            let came = all(driver, &store, &from);
            if driver == "btrfs" {
                assert_eq!(btrfs::subvolumes(store.scratch.path()), [""; 0]);
            }
            let like = first.get_or_insert_with(|| came.clone());
            let other: Vec<_> = came.lines().zip(like.lines()).filter(|(is, should)| is != should).collect();
            assert!(*like == came, "{driver}, rootless {user}: {other:#?}");
        }
    }
}

#[test]
fn a_driver_that_is_none_is_answered_with_the_one_to_use_and_one_that_cannot_be_makes_no_store() {
    let store = Store::new("drivers-words");
    for (word, says) in [
        ("aufs", "use overlay"),
        ("devicemapper", "use overlay"),
        ("zfs", "use overlay"),
        ("nfs", "there are overlay, fuse-overlayfs, btrfs and vfs"),
    ] {
        let tool = store.rootfs_tool().args(["--storage-driver", word, "images"]).fails(2);
        let runner = store.runner().arg(format!("--storage-driver={word}")).arg("ps").fails(125);
        for out in [tool, runner] {
            let line = out.stderr.trim_end();
            let good = line.contains(&format!("{word:?}")) && line.ends_with(says) && !line.contains('\n');
            assert!(good, "{out}");
        }
    }
    store.scratch.write("r/rootfs.toml", "[[layer]]\nstandard = true\n");
    let compose =
        |driver: &str| store.rootfs_tool().words("compose r -t image").env("CORACLE_STORAGE_DRIVER", driver);
    // Whatever the tests lie on, memory is not btrfs.
    let shm = Scratch::new("drivers-shm");
    let elsewhere = std::path::Path::new("/dev/shm").join(shm.path().file_name().expect("a name"));
    let out = compose("btrfs").env("CORACLE_STORE", &elsewhere).fails(1);
    assert!(out.stderr.contains("is not on a btrfs file system: use overlay"), "{out}");
    assert!(!elsewhere.exists());
    let out = compose("fuse-overlayfs").env("PATH", "/nowhere").fails(1);
    assert!(out.stderr.contains("install the package fuse-overlayfs"), "{out}");
    assert!(!store.path().exists());
    compose("vfs").ok();
    for driver in ["overlay2", "btrfs", "fuse-overlayfs"] {
        let out = compose(driver).fails(2);
        assert!(out.stderr.contains("was made with vfs, and one store has one driver"), "{out}");
    }
    compose("vfs").ok();
    compose("").ok();
}

#[test]
fn the_driver_of_a_new_store_can_be_configured() {
    let store = Store::new("drivers-configured");
    store.scratch.write(
        "config/coracle/config.toml",
        "# mine\nstorage-driver = \"vfs\"\n[[registry]]\nlocation = \"x.example\"\n",
    );
    store.scratch.write("r/rootfs.toml", "[[layer]]\nstandard = true\n");
    let config = store.scratch.join("config");
    let info = |store: &Store| {
        let out = store.runner().words("info --format {{.Driver}}").env("XDG_CONFIG_HOME", &config);
        out.ok().text().to_owned()
    };
    assert_eq!(info(&store), "vfs");
    store.rootfs_tool().words("compose r -t image").env("XDG_CONFIG_HOME", &config).ok();
    assert!(store.path().join("layers/vfs").is_dir());
    store.scratch.write("config/coracle/config.toml", "storage-driver = vfs\n");
    assert_eq!(info(&store), "vfs", "a store that is made keeps its driver");
    let out =
        store.runner().words("info").env("XDG_CONFIG_HOME", &config).env("CORACLE_STORE", "none").fails(125);
    assert!(out.stderr.contains("config.toml") && out.stderr.contains("stands in quotes"), "{out}");
}
