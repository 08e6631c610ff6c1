//! The shipped images of Debian packages, composed from the repositories that this machine's apt is configured for, and
//! used. They take a network and minutes: `CORACLE_TEST_ALL=1`, which `make test-all` sets.

use std::path::Path;
use std::time::Duration;

use coracle_tests::{Cmd, Privilege, Scratch, Store, need, workspace};

const PATIENCE: Duration = Duration::from_secs(600);

fn all() -> bool {
    let wanted = std::env::var_os("CORACLE_TEST_ALL").is_some();
    if !wanted {
        eprintln!("skipped: the images of Debian packages are for CORACLE_TEST_ALL=1");
    }
    wanted && need(Privilege::Root) && need(Privilege::Peer("apt-get"))
}

/// A shipped recipe in a folder of its own, so that its lock is not left in the sources.
fn recipe(name: &str) -> Scratch {
    let folder = Scratch::new("recipe");
    let text = std::fs::read(workspace().join("images").join(name).join("rootfs.toml")).expect("the recipe");
    folder.write("rootfs.toml", text);
    folder
}

fn compose(store: &Store, folder: &Path, name: &str) -> Cmd {
    store.rootfs_tool().arg("compose").arg(folder).args(["-t", name]).limit(PATIENCE)
}

#[test]
fn debian_is_the_same_twice_and_apt_and_dpkg_work_inside() {
    if !all() {
        return;
    }
    let (a, b) = (Store::new("debian"), Store::new("debian"));
    let folder = recipe("debian");
    compose(&a, folder.path(), "debian").ok();
    compose(&b, folder.path(), "debian").arg("--locked").ok();
    assert_eq!(a.image_id("debian"), b.image_id("debian"));
    compose(&a, folder.path(), "debian").ok().prints("cached");
    let inside = "test -z \"$(dpkg --audit)\" && apt-get update && apt-get install -y hello && hello && \
                  test -z \"$(dpkg --audit)\" && test -e /usr/share/doc/hello/copyright && test ! -e /usr/share/man/man1/hello.1.gz";
    let run = a.runner().words("run --rm --network host debian sh -c").arg(inside).limit(PATIENCE).ok();
    drop(run.prints("Hello, world!"));
    // No two packages have the file of one, and each file is what its package brought.
    a.run("debian sh -c").arg("dpkg --verify | grep -v /usr/share/ && exit 1; exit 0").ok();
}

#[test]
fn debian_has_what_mmdebstrap_has_and_is_no_larger() {
    if !all() || !need(Privilege::Peer("mmdebstrap")) {
        return;
    }
    let store = Store::new("debian");
    let folder = Scratch::new("recipe");
    folder.write(
        "rootfs.toml",
        "[[layer]]\ndeb = { suite = \"bookworm\", packages = [\"apt\", \"usrmerge\"] }\n",
    );
    compose(&store, folder.path(), "x").ok();
    let (ours, theirs) = (folder.join("ours.tar"), folder.join("theirs.tar"));
    store.rootfs_tool().args(["export", "-o"]).arg(&ours).arg("x").ok();
    Cmd::new("mmdebstrap")
        .args(["--variant=essential", "--include=apt,usr-is-merged", "bookworm"])
        .arg(&theirs)
        .limit(PATIENCE)
        .ok();
    let packages = |tar: &Path| {
        let status = Cmd::new("tar").arg("-xOf").arg(tar).arg("--wildcards").arg("*var/lib/dpkg/status").ok();
        let mut all: Vec<String> = Vec::new();
        for paragraph in status.stdout.split("\n\n") {
            let field = |name: &str| paragraph.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            all.push(format!("{} {} {}", field("Package: "), field("Version: "), field("Status: ")));
        }
        all.sort();
        all
    };
    assert_eq!(packages(&ours), packages(&theirs));
    let size = |tar: &Path| std::fs::metadata(tar).expect("stat").len();
    assert!(size(&ours) <= size(&theirs), "{} {}", size(&ours), size(&theirs));
}

#[test]
fn static_and_base_hold_what_programs_take_for_granted_and_no_shell() {
    if !all() || !need(Privilege::Peer("busybox")) {
        return;
    }
    let store = Store::new("debian");
    for name in ["static", "base"] {
        compose(&store, recipe(name).path(), name).ok();
        store.run(&format!("{name} sh -c true")).fails(127);
    }
    // A static program sees users, time zones and certificates.
    let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok().text().to_owned();
    let mount = format!("-v {busybox}:/busybox:ro");
    let inside = "/busybox id -un nonroot && /busybox test -s /etc/ssl/certs/ca-certificates.crt && \
                  TZ=Europe/Berlin /busybox date && /busybox test -e /usr/share/zoneinfo/Europe/Berlin";
    let run = |image: &str, words: &str| store.run(&format!("{mount} {words} {image}"));
    run("static", "--user nonroot").args(["/busybox", "sh", "-c", inside]).ok().prints("nonroot");
    // A dynamic one finds the C library, and OpenSSL's where the machine's own program is for that.
    let env = Cmd::new("sh").args(["-c", "command -v env"]).ok().text().to_owned();
    store.run(&format!("-v {env}:/env:ro base /env")).ok().prints("SSL_CERT_FILE=");
}
